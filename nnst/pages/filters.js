"use strict";
// Which detections of a picture count: by score, label, width and place.

const PLACES = ["top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right"];
let wanted = {}; // what the filters ask for, read once for all pictures

/** The number in a field; `otherwise` where there is none. */
function numberIn(id, otherwise) {
  const value = at(id).valueAsNumber;
  return Number.isNaN(value) ? otherwise : value;
}

function readFilters(least) {
  const places = PLACES.map((_, index) => at(`place-${index}`).checked);
  wanted = {
    least: Math.fround(least),
    most: Math.fround(numberIn("score-most", Infinity)),
    narrow: numberIn("width-least", 0),
    wide: numberIn("width-most", Infinity),
    label: at("label").value,
    places: places.some(Boolean) && !places.every(Boolean) ? places : null,
  };
}

/** How many of the filters that are not always in sight are set. */
function filtersSet() {
  return [wanted.most < Infinity, wanted.narrow > 0 || wanted.wide < Infinity, wanted.places !== null]
    .filter(Boolean).length;
}

/** In which ninth of the upright picture a box has its centre. */
function placeOf([x0, y0, x1, y1], picture) {
  const third = (centre, side) => Math.max(0, Math.min(2, Math.floor((3 * centre) / side)));
  return 3 * third((y0 + y1) / 2, picture.height) + third((x0 + x1) / 2, picture.width);
}

/** Whether a detection counts; scores are float32, as in the tables. */
function isWanted(box, picture, least = wanted.least) {
  const score = Math.fround(box[4]);
  const width = box[2] - box[0];
  return score >= least && score <= wanted.most && width >= wanted.narrow && width <= wanted.wide
    && (!wanted.label || box[5] === wanted.label)
    && (!wanted.places || wanted.places[placeOf(box, picture)]);
}

/** The picture's detections that count, best first. */
function strongBoxes(picture) {
  return picture.boxes.filter((box) => isWanted(box, picture));
}

/** The same of the other scan, where there is one, at that scan's own threshold. */
function strongBeside(picture) {
  const least = data.beside ? Math.fround(data.beside.threshold) : 0;
  return (picture.beside ?? []).filter((box) => isWanted(box, picture, least));
}

function clearFilters() {
  for (const id of ["score-most", "width-least", "width-most"]) at(id).value = "";
  PLACES.forEach((_, index) => { at(`place-${index}`).checked = true; });
}

function fillPlaces() {
  at("places").append(...PLACES.map((name, index) =>
    make("input", { type: "checkbox", checked: "", id: `place-${index}`, "aria-label": name, title: name })));
}

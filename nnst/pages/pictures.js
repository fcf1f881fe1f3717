"use strict";
// How a picture is drawn: as a card of the grid, and large. What comes from file names and labels
// is set as text, never as markup.

const COLOURS = 8; // classes colour-0 to colour-7 of the style sheet
const WHOLE = new Intl.NumberFormat("en");

/** An element with attributes; children that are strings become text. */
function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function counted(number, noun) {
  return `${WHOLE.format(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** Two digits, and never rounded up to a threshold that the score does not reach. */
function scoreText(score) {
  return (Math.floor(score * 100 + 1e-4) / 100).toFixed(2);
}

function jpeg(base64) {
  return `data:image/jpeg;base64,${base64}`;
}

/** Boxes over an upright picture, in per cent of it: right at every size, with even lines. */
function overlay(picture, boxes, labels) {
  const shapes = boxes.map(([x0, y0, x1, y1, score, label]) => {
    const left = (100 * x0) / picture.width;
    const top = (100 * y0) / picture.height;
    const area = {
      x: `${left}%`,
      y: `${top}%`,
      width: `${(100 * (x1 - x0)) / picture.width}%`,
      height: `${(100 * (y1 - y0)) / picture.height}%`,
    };
    const right = left > 55; // write to the left, so that the text stays in the picture
    const place = { x: `${right ? (100 * x1) / picture.width : left}%`, y: `${top}%` };
    place.dy = top < 10 ? 14 : -5;
    if (right) place["text-anchor"] = "end";
    const words = labels.length > 1 ? `${label} ${scoreText(score)}` : scoreText(score);
    const colour = labels.indexOf(label) % COLOURS;
    return draw("g", { class: `box colour-${colour}` },
      draw("rect", { class: "casing", ...area }),
      draw("rect", { class: "outline", ...area }),
      draw("text", place, words));
  });
  // The best is drawn last, over the others.
  return draw("svg", { class: "overlay", "aria-hidden": "true" }, ...shapes.reverse());
}

/** The thumbnail in its own proportions, ready for an overlay; words where there is none. */
function stage(picture, words) {
  if (!picture.thumbnail) return make("span", { class: "absent" }, words);
  const element = make("span", { class: "stage" },
    make("img", { src: jpeg(picture.thumbnail), alt: `Picture ${picture.image}`, decoding: "sync" }));
  if (picture.heat) element.append(make("img", { class: "heat", src: `data:image/png;base64,${picture.heat}`, alt: "" }));
  element.style.setProperty("--aspect", picture.width / picture.height);
  return element;
}

/** Two frames beside each other, for the boxes of two scans; the map of scores is the first one's. */
function pairOf(picture, words) {
  const frames = [["A", picture], ["B", { ...picture, heat: "" }]].map(([name, shown]) =>
    make("span", { class: "frame" }, stage(shown, words), make("b", { class: "of" }, name)));
  return make("span", { class: "pair" }, ...frames);
}

/** Draw the boxes of one scan, or of two, over frames anew. */
function drawBoxes(frame, picture, labels, ...sets) {
  const stages = [...frame.querySelectorAll(".stage")];
  return stages.map((element, index) => {
    element.querySelector("svg")?.remove();
    const svg = overlay(picture, sets[index], labels);
    element.append(svg);
    return svg;
  });
}

/** A name as folder and file, so that a long folder does not hide the file. */
function nameOf(image) {
  const cut = image.lastIndexOf("/") + 1;
  return make("span", { class: "name", title: image },
    make("bdi", { class: "folder" }, image.slice(0, cut).replace(/\/$/, "")),
    make("bdi", { class: "file" }, image.slice(cut)));
}

function sizeText(picture) {
  return picture.width ? `${picture.width} × ${picture.height}` : "";
}

function foundText(picture, boxes) {
  if (boxes.length) {
    const more = boxes.length < picture.detections && boxes.length === picture.boxes.length;
    return more ? `${boxes.length} or more detections` : counted(boxes.length, "detection");
  }
  return picture.score === null ? "nothing found" : `nothing found, best ${scoreText(picture.score)}`;
}

/** A card that stays with its picture; `refresh(boxes, labels, others)` shows other boxes on it. */
function makeCard(picture, reasons) {
  const button = make("button", { type: "button", class: "card", tabindex: "-1" });
  if (picture.status !== "ok") {
    button.classList.add("bad");
    button.append(nameOf(picture.image),
      make("span", { class: "reason" }, picture.status.replaceAll("_", " ")),
      make("span", { class: "facts" }, reasons[picture.status] ?? ""));
    button.setAttribute("aria-label", `${picture.image}, could not look: ${reasons[picture.status]}`);
    return { item: make("li", {}, button), button, refresh() {} };
  }
  const frame = picture.beside ? pairOf(picture, "no thumbnail") : make("span", { class: "frame" }, stage(picture, "no thumbnail"));
  const closeup = make("span", { class: "closeup" });
  const score = make("span", { class: "score" });
  const facts = make("span", { class: "facts" });
  const caption = make("span", { class: "caption" }, closeup,
    make("span", { class: "words" }, nameOf(picture.image), make("span", { class: "line" }, score, facts)));
  button.classList.toggle("bare", !picture.thumbnail);
  button.append(...(picture.thumbnail ? [frame, caption] : [caption]));
  function refresh(boxes, labels, others) {
    drawBoxes(frame, picture, labels, boxes, others);
    const best = picture.closeups[picture.boxes.indexOf(boxes[0])];
    closeup.replaceChildren(...(best ? [make("img", { src: jpeg(best), alt: "" })] : []));
    score.textContent = boxes.length ? scoreText(boxes[0][4]) : "";
    facts.textContent = foundText(picture, boxes) + (picture.beside ? `; B: ${others.length || "nothing"}` : "");
    const spoken = boxes.length ? `, best score ${score.textContent}` : "";
    button.setAttribute("aria-label", `${picture.image}, ${facts.textContent}${spoken}`);
  }
  return { item: make("li", {}, button), button, refresh };
}

/** A detection of the large view: its closeup, score, label and size; pointing lights its box. */
function detectionRow(box, closeup, isStrong, group, labels) {
  const [x0, y0, x1, y1, score, label] = box;
  const row = make("li", { class: isStrong ? "strong" : "weak" },
    make("span", { class: "closeup" }, ...(closeup ? [make("img", { src: jpeg(closeup), alt: "" })] : [])),
    make("span", { class: "words" },
      make("span", { class: "score" }, scoreText(score)),
      make("bdi", { class: `swatch colour-${labels.indexOf(label) % COLOURS}` }, label),
      make("span", { class: "facts" },
        `${Math.round(x1 - x0)} × ${Math.round(y1 - y0)} at ${Math.round(x0)}, ${Math.round(y0)}`,
        isStrong ? "" : " · below the threshold")));
  row.addEventListener("pointerenter", () => group?.classList.add("lit"));
  row.addEventListener("pointerleave", () => group?.classList.remove("lit"));
  return row;
}

/** What the other scan has of a picture. */
function besideList(picture, others, labels) {
  const rows = picture.beside.map((box) => detectionRow(box, "", others.includes(box), null, labels));
  return make("section", {}, make("p", { class: "facts" }, `B: ${counted(others.length, "detection")}`), make("ol", {}, ...rows));
}

/** The way to a picture's explanation, or the command that makes one. */
function whyOf(image, explain) {
  if (Object.hasOwn(explain.pages, image)) {
    return make("p", { class: "why" }, make("a", { href: `../explain/${explain.pages[image]}/index.html` }, "Why?"));
  }
  const command = ["nnst explain", inShell(explain.scan), inShell(image)].join(" ");
  return make("p", { class: "why facts" }, "Why? ", make("code", { title: "Click to select, then copy" }, command));
}

/** A word of a command, in quotes where it needs them. */
function inShell(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}

/** What the large view shows of a picture: the picture, and a list of its detections. */
function makeLarge(picture, boxes, labels, { reasons, explain }, others) {
  const why = whyOf(picture.image, explain);
  if (picture.status !== "ok") {
    return [make("div", { class: "absent" }, make("p", {}, `Could not look: ${reasons[picture.status]}.`), why)];
  }
  const words = "no thumbnail in this report";
  const frame = picture.beside ? pairOf(picture, words) : make("div", { class: "frame" }, stage(picture, words));
  const [svg] = drawBoxes(frame, picture, labels, boxes, others);
  const groups = [...(svg?.children ?? [])].reverse();
  const rows = picture.boxes.map((box, index) => {
    const at = boxes.indexOf(box);
    return detectionRow(box, picture.closeups[index], at >= 0, groups[at], labels);
  });
  const side = make("aside", {},
    make("p", { class: "facts" }, `${foundText(picture, boxes)} · ${sizeText(picture)} pixels`),
    make("ol", {}, ...rows),
    ...(picture.beside ? [besideList(picture, others, labels)] : []),
    why,
    make("p", { class: "facts digest", title: "sha256 of the file" }, picture.image_id ?? ""));
  return [frame, side];
}

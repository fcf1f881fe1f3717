"use strict";
// The page of two scans: A and B, what both found and what only one did. Boxes are upright.

const data = JSON.parse(document.getElementById("data").textContent);
const KINDS = ["both", "a", "b"]; // in the order of their colours
const DRAWN = ["both", "A", "B"]; // the same, as a box has them
const NAMES = { both: "A and B", a: "only A", b: "only B" };
const CHOICES = { differing: "differ", a: "only A", b: "only B", both: "found by both", all: "all with a logo" };

const at = (id) => document.getElementById(id);
const score = (value) => (value === null ? "–" : scoreText(value));

function holds(picture, choice) {
  if (choice === "all") return true;
  if (choice === "differing") return picture.differs;
  return picture.logos.some(({ kind }) => kind === choice);
}

function fillHeading() {
  for (const [side, kind] of [["A", "a"], ["B", "b"]]) {
    const { name, threshold } = data[kind];
    at("sides").append(make("li", {},
      make("span", { class: `side colour-${KINDS.indexOf(kind)}` }, side),
      make("bdi", { class: "model" }, name), ` from a score of ${threshold.toFixed(2)} on`));
  }
  at("notes").append(...data.notes.map((note) => make("li", {}, note)));
}

function fillCounts() {
  const rows = { "pictures looked at": data.pictures, "with a logo": data.found, logos: data.logos };
  const head = make("tr", {}, make("th", {}), ...KINDS.map((kind) => make("th", { scope: "col" }, NAMES[kind])));
  const body = Object.entries(rows).map(([name, row]) => make("tr", {}, make("th", { scope: "row" }, name),
    ...KINDS.map((kind) => make("td", {}, WHOLE.format(row[kind])))));
  at("counts").append(make("thead", {}, head), make("tbody", {}, ...body));
  const { mean, least, most } = data.change;
  const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
  if (mean !== null) {
    at("change").textContent = `Scores of what both found: B's are ${signed(mean)} on average, from ${signed(least)} to ${signed(most)}.`;
  }
}

/** A picture with its boxes, coloured by who found them, and both scores of each. */
function cardOf(picture) {
  const frame = make("span", { class: "frame" }, stage(picture, "no thumbnail"));
  const boxes = picture.logos.map(({ box, kind, score_a, score_b }) => [...box, (kind === "b" ? score_b : score_a), DRAWN[KINDS.indexOf(kind)]]);
  if (picture.thumbnail) frame.firstChild.append(overlay(picture, boxes, DRAWN));
  const rows = picture.logos.map(({ kind, label, score_a, score_b }) => make("tr", {},
    make("td", {}, make("bdi", { class: `swatch colour-${KINDS.indexOf(kind)}` }, label), ` ${NAMES[kind]}`),
    make("td", kind === "b" ? { class: "weak" } : {}, `A ${score(score_a)}`),
    make("td", kind === "a" ? { class: "weak" } : {}, `B ${score(score_b)}`)));
  return make("li", {}, make("div", { class: "card" }, ...(picture.thumbnail ? [frame] : []),
    make("div", { class: "caption" }, nameOf(picture.image), make("table", { class: "logos" }, make("tbody", {}, ...rows)))));
}

function fillKinds() {
  for (const [choice, name] of Object.entries(CHOICES)) {
    const radio = make("input", { type: "radio", name: "kind", value: choice, id: `kind-${choice}` });
    const count = data.shown.filter((picture) => holds(picture, choice)).length;
    radio.addEventListener("change", () => show(choice));
    at("kinds").append(make("label", {}, radio, `${name} ${WHOLE.format(count)}`));
  }
}

function show(choice) {
  const chosen = data.shown.filter((picture) => holds(picture, choice));
  at("grid").replaceChildren(...chosen.map(cardOf));
  at("none").hidden = chosen.length > 0;
}

function fillProvenance() {
  for (const [side, facts] of [["A", data.a], ["B", data.b]]) {
    const rows = { model: facts.model, "model's sha256": facts.digest, scan: facts.scan, "scan's run": facts.run_id, "model's run": facts.model_run_id };
    for (const [term, text] of Object.entries(rows)) {
      if (text) at("provenance").append(make("dt", {}, `${side}: ${term}`), make("dd", {}, text));
    }
  }
}

for (const step of [fillHeading, fillCounts, fillKinds, fillProvenance]) step();
const first = data.shown.some((picture) => picture.differs) ? "differing" : "all";
at(`kind-${first}`).checked = true;
show(first);

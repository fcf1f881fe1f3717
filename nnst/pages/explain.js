"use strict";
// The page of one picture: what was found in it, and why. Boxes are those of the upright picture.

const data = JSON.parse(document.getElementById("data").textContent);
const { chain, picture, items } = data;
const told = chain.explanation;
const LABELS = [...new Set(items.map((item) => item.label))].sort();
const CHART = { width: 400, height: 240, left: 30, bottom: 34, top: 8 };

const at = (id) => document.getElementById(id);
const sizeOf = ([x0, y0, x1, y1]) => `${Math.round(x1 - x0)} × ${Math.round(y1 - y0)}`;
const placeOf = (box) => `${sizeOf(box)} at ${Math.round(box[0])}, ${Math.round(box[1])}`;

function fillHeading() {
  at("image").replaceChildren(make("bdi", {}, chain.image));
  at("verdict").append(verdict(), make("bdi", { class: "model" }, chain.model.name));
  at("notes").append(...chain.problems.map((problem) => make("li", {}, problem)));
}

/** What was found, in words that the model's name ends. */
function verdict() {
  if (!told) return `Could not look: ${chain.reason}. Model: `;
  const least = told.threshold.toFixed(2);
  if (told.reached) return `${counted(items.length, "detection")} with a score of ${least} or more, explained. Seen by `;
  const nearest = items.length ? " What came nearest to it is explained." : "";
  return `Nothing with a score of ${least} or more.${nearest} Seen by `;
}

/** The picture with the boxes, and thin the windows that voted for them. */
function fillWhole() {
  if (!picture) return;
  const frame = make("div", { class: "frame" }, stage({ ...picture, image: chain.image }, ""));
  const boxes = items.map((item) => [...item.box, item.score, item.label]);
  const svg = overlay(picture, boxes, LABELS);
  const whole = { x: 0, y: 0, ...picture };
  svg.prepend(...items.flatMap((item) => item.windows.map((each) => windowShape(each, whole))));
  frame.firstChild.append(svg);
  at("whole").append(frame);
}

/** A box as a rectangle, in per cent of a piece of the picture. */
function area([x0, y0, x1, y1], piece) {
  return {
    x: `${(100 * (x0 - piece.x)) / piece.width}%`,
    y: `${(100 * (y0 - piece.y)) / piece.height}%`,
    width: `${(100 * (x1 - x0)) / piece.width}%`,
    height: `${(100 * (y1 - y0)) / piece.height}%`,
  };
}

function windowShape(each, piece) {
  const place = area(each.box, piece);
  return draw("g", { class: each.counted ? "window" : "window passed" },
    draw("rect", { class: "casing", ...place }), draw("rect", { class: "outline", ...place }));
}

function panel(title, ...children) {
  return make("section", {}, make("h3", {}, title), ...children);
}

function itemOf(item) {
  return make("li", { class: "item" },
    make("h2", {}, `${scoreText(item.score)} `, make("bdi", {}, item.label),
      make("span", { class: "facts" }, placeOf(item.box))),
    make("div", { class: "panels" }, windowsPanel(item), levelsPanel(item), evidencePanel(item)));
}

function windowsPanel(item) {
  const { closeup } = item;
  const frame = make("div", { class: "frame" },
    stage({ thumbnail: closeup.jpeg, width: closeup.width, height: closeup.height, image: chain.image }, ""));
  const shapes = item.windows.map((each) => windowShape(each, closeup));
  const place = area(item.box, closeup);
  const colour = LABELS.indexOf(item.label) % COLOURS;
  const box = draw("g", { class: `box colour-${colour}` },
    draw("rect", { class: "casing", ...place }), draw("rect", { class: "outline", ...place }));
  frame.firstChild.append(draw("svg", { class: "overlay", "aria-hidden": "true" }, ...shapes, box));
  const judged = item.windows.some((each) => each.scout !== null);
  const passed = item.windows.some((each) => !each.counted);
  const words = [
    item.windows.length ? "White: windows that ended on this box." : "No window was sure enough to vote.",
    judged ? " The judge moved each onto the object; yellow is where the best ended." : "",
    passed ? " Dashed: a better window beside it was looked at in its stead." : "",
  ].join("");
  return panel(counted(item.windows.length, "window") + " voted", frame, votesTable(item, shapes, judged),
    make("p", { class: "facts" }, words));
}

/** The windows in figures; pointing at a row lights its window. */
function votesTable(item, shapes, judged) {
  if (!item.windows.length) return "";
  const heads = ["window", ...(judged ? ["scout", "judge"] : ["score"])];
  const rows = item.windows.slice(0, 8).map((each, index) => {
    const values = judged ? [each.scout, each.score] : [each.score];
    const row = make("tr", {}, make("td", {}, placeOf(each.box)),
      ...values.map((value) => make("td", {}, scoreText(value))));
    row.addEventListener("pointerenter", () => shapes[index].classList.add("lit"));
    row.addEventListener("pointerleave", () => shapes[index].classList.remove("lit"));
    return row;
  });
  return make("table", { class: "votes" },
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows));
}

/** A bar a level: the best score of its windows here, at the width of object that it looks for. */
function levelsPanel(item) {
  const { width, height, left, bottom, top } = CHART;
  const y = (score) => top + (height - bottom - top) * (1 - score);
  const step = (width - left) / item.levels.length;
  const label = Math.ceil(30 / step); // so that widths do not run into each other
  const bars = item.levels.flatMap(({ width: wide, scout, score }, index) => {
    const x = left + index * step;
    const words = `${Math.round(wide)} pixels: ${scoreText(score)}${scout === null ? "" : `, scout ${scoreText(scout)}`}`;
    const bar = draw("rect", { class: "bar", x: x + step * 0.15, width: step * 0.7, y: y(score), height: y(0) - y(score) },
      draw("title", {}, words));
    const mark = { class: "scout", x1: x + step * 0.05, x2: x + step * 0.95, y1: y(scout ?? 0), y2: y(scout ?? 0) };
    const name = { x: x + step / 2, y: height - bottom + 14, "text-anchor": "middle" };
    return [bar, ...(scout === null ? [] : [draw("line", mark)]),
      ...(index % label ? [] : [draw("text", name, String(Math.round(wide)))])];
  });
  const lines = [0, 0.5, 1].flatMap((score) => [
    draw("line", { class: "line", x1: left, x2: width, y1: y(score), y2: y(score) }),
    draw("text", { x: left - 6, y: y(score) + 4, "text-anchor": "end" }, String(score))]);
  const least = y(chain.model.threshold);
  const svg = draw("svg", { class: "levels", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Best score of each level" },
    ...lines, ...bars, draw("line", { class: "threshold", x1: left, x2: width, y1: least, y2: least }),
    draw("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, "width of the object that the level looks for, in pixels"));
  const judged = item.levels.some(({ scout }) => scout !== null);
  const words = judged
    ? "Lines: the scout's best window here. Bars: the judge's first look at that window. Dashed: the model's threshold."
    : "Bars: the best window here. Dashed: the model's threshold.";
  return panel("Score at each level", svg, make("p", { class: "facts" }, words));
}

function evidencePanel(item) {
  const png = (base64) => `data:image/png;base64,${base64}`;
  const { score } = item.saliency;
  return panel("What it was",
    make("div", { class: "pair" },
      make("img", { src: png(item.seen), alt: "What the network saw" }),
      make("img", { src: png(item.saliency_png), alt: "Bright where the evidence lies" })),
    make("p", { class: "facts" },
      `What the network saw, and bright in it what counted. Seen alone it scores ${scoreText(score)}; with one part greyed out, ` +
      `between ${scoreText(item.least)} (the brightest part) and ${scoreText(item.most)}.`));
}

function taughtText({ run_id, pictures, this_picture }) {
  const among = this_picture ? "this one among them" : "this one is not among them";
  return `run ${run_id || "-"}: ${counted(pictures, "annotated picture")}, ${among}`;
}

function cropsText({ out, truth, truth_sha256 }) {
  return truth.length ? `${out}, cut from ${truth.join(", ")} (${truth_sha256.slice(0, 12)})` : out;
}

function fillProvenance() {
  const { source, scan, model, training } = chain;
  const listed = (versions) => Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", ");
  const offset = source.offset < 0 ? "" : `, at ${WHOLE.format(source.offset)}`;
  const found = chain.detections.slice(0, 8).map(({ score, label, box }) => `${scoreText(score)} ${label} ${placeOf(box)}`);
  const origins = chain.origin ?? [];
  const licences = origins.map(({ licence, licence_url, attribution, creator }) =>
    [...new Set([licence, licence_url, attribution, creator])].filter(Boolean).join(", ") || "none was stated");
  const rows = {
    Address: origins.map(({ url }) => url).join("; "),
    Licence: [...new Set(licences)].join("; "),
    Archive: source.archive,
    "In the archive": `${source.container || chain.image}${offset}`,
    "Picture's sha256": chain.image_id,
    Picture: chain.width ? `${chain.width} × ${chain.height} pixels as stored, ${chain.status}` : chain.status,
    "The scan's detections": found.join("; ") + (chain.detections.length > 8 ? "; ..." : ""),
    Model: [model.name, model.architecture].filter(Boolean).join(", "),
    "Model's sha256": model.digest,
    "Model's threshold": model.threshold.toFixed(4),
    "Model's run": model.run_id,
    "Model's code": model.code_commit,
    "Model was taught by": training ? taughtText(training) : "",
    "Crops that taught it": (training?.crops ?? []).map(cropsText).join("; "),
    Scan: scan.out,
    "Scan's run": scan.run_id,
    "Scan's fingerprint": scan.fingerprint,
    "Scan's settings": listed(scan.settings),
    "Scan's versions": listed(scan.versions),
    "Scan's code": scan.code_commit,
    "Explained with": listed(chain.explained_with.versions),
    "Explaining code": chain.explained_with.code_commit,
  };
  for (const [term, text] of Object.entries(rows)) {
    if (text) at("provenance").append(make("dt", {}, term), make("dd", {}, text));
  }
}

fillHeading();
fillWhole();
at("items").append(...items.map(itemOf));
fillProvenance();

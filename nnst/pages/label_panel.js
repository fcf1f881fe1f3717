// What stands around the picture: its name, how far one is, labels, the selected box, all boxes.
import { at, counted, make, whole } from "./elements.js";
import { FLAGS } from "./label_boxes.js";

export function showHeading(app) {
  at("file").textContent = app.file ?? "";
  at("place").textContent = `${whole(app.index + 1)} of ${whole(app.files.length)}`;
}

export function showProgress(app) {
  const looked = app.counts.filter((count) => count !== null);
  const boxes = looked.reduce((sum, count) => sum + count, 0);
  at("progress").textContent = `${whole(looked.length)} looked at · ${counted(boxes, "box", "boxes")}`;
}

export function showPanel(app) {
  const box = app.boxes[app.selected];
  at("selected").textContent = box ? `${box.width} × ${box.height} at ${box.left}, ${box.top}` : "none";
  for (const button of at("flags").children) {
    button.disabled = !box;
    button.setAttribute("aria-pressed", String(Boolean(box?.[button.dataset.flag])));
  }
  at("aspect").setAttribute("aria-pressed", String(Boolean(app.aspect)));
  at("aspect").lastElementChild.textContent = app.aspect ? `shape kept: ${app.aspect.toFixed(2)}` : "any shape";
  at("labels").replaceChildren(...app.labels.map((label, index) => labelRow(app, label, index)));
  at("here").textContent = app.boxes.length ? counted(app.boxes.length, "box here", "boxes here")
    : app.listed ? "Nothing on it, looked at" : "Not looked at yet";
  at("here-list").replaceChildren(...app.boxes.map((each, index) => boxRow(app, each, index)));
}

function labelRow(app, label, index) {
  const button = make("button", { type: "button" },
    make("span", { class: `swatch colour-${index % 8}` }), make("bdi", {}, label),
    ...(index < 9 ? [make("kbd", {}, String(index + 1))] : []));
  button.addEventListener("click", () => { app.setLabel(label); button.blur(); });
  return make("li", { class: label === app.label ? "chosen" : "" }, button);
}

function boxRow(app, box, index) {
  const flags = FLAGS.filter((flag) => box[flag]).map((flag) => flag[0]).join("");
  const button = make("button", { type: "button" },
    make("span", { class: `swatch colour-${app.colourOf(box.label) % 8}` }),
    make("bdi", {}, box.label ?? "logo"), make("span", { class: "quiet" }, `${box.width}×${box.height} ${flags}`));
  button.addEventListener("click", () => { app.select(index); button.blur(); });
  return make("li", { class: index === app.selected ? "chosen" : "" }, button);
}

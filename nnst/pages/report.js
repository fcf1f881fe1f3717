"use strict";
// The report page: which pictures are shown, in what order, at what threshold; and its keys.
// The counts above the toolbar are those of the whole scan, from `data.tally`; the list may be cut.

const data = JSON.parse(document.getElementById("data").textContent);
const { thresholds } = data.tally;
const PAGE = 60; // cards in the document at a time
const MODEL_STEP = thresholds.indexOf(data.scan.threshold);
const KINDS = { found: "Found", nothing: "Nothing found", bad: "Could not look", all: "All pictures" };
const COMPARED = { both: " found by both", a: " found by A only", b: " found by B only" };
const WORDS = { found: " found", nothing: " with nothing found", bad: " that could not be looked at", all: "" };
const LABELS = [...new Set(data.pictures.flatMap(({ boxes, beside }) => [...boxes, ...(beside ?? [])].map((box) => box[5])))].sort();

const at = (id) => document.getElementById(id);
const state = { step: thresholds.indexOf(data.scan.start), kind: data.counts.found ? "found" : "all", selected: 0, open: null };
const cards = new Map(); // picture -> its card: a picture once decoded stays so
let matches = []; // { picture, boxes, kind }, in the order shown

const collator = new Intl.Collator("en", { numeric: true });
const searchable = (text) => text.normalize("NFC").toLowerCase();
[...data.pictures]
  .sort((a, b) => collator.compare(a.image, b.image))
  .forEach((picture, rank) => Object.assign(picture, { rank, words: searchable(picture.image) }));

const found = ({ kind, boxes, picture }) =>
  boxes.length ? 2 + boxes[0][4] : kind === "bad" ? -2 : picture.score ?? -1;
const largest = ({ boxes }) => Math.max(0, ...boxes.map(([x0, y0, x1, y1]) => Math.max(x1 - x0, y1 - y0)));
const ORDERS = {
  score: (a, b) => found(b) - found(a) || a.picture.rank - b.picture.rank,
  name: (a, b) => a.picture.rank - b.picture.rank,
  count: (a, b) => b.boxes.length - a.boxes.length || ORDERS.score(a, b),
  size: (a, b) => largest(b) - largest(a) || ORDERS.score(a, b),
};

function findMatches() {
  const words = searchable(at("filter").value).split(/\s+/);
  return data.pictures
    .filter((picture) => words.every((word) => picture.words.includes(word)))
    .map((picture) => {
      const boxes = strongBoxes(picture);
      return { picture, boxes, others: strongBeside(picture), kind: picture.status !== "ok" ? "bad" : boxes.length ? "found" : "nothing" };
    })
    .filter(({ kind, boxes, others }) => at("compare").value
      ? isCompared(boxes.length > 0, others.length > 0) : state.kind === "all" || kind === state.kind)
    .sort(ORDERS[at("sort").value]);
}

/** Whether a picture is of those that both scans, or one of them alone, found something in. */
function isCompared(byA, byB) {
  return { both: byA && byB, a: byA && !byB, b: byB && !byA }[at("compare").value];
}

/** Everything anew after a change; the selection stays on its picture where `keep` says so. */
function update(keep = false) {
  const selected = keep ? matches[state.selected]?.picture : null;
  readFilters(thresholds[state.step]);
  matches = findMatches();
  const place = matches.findIndex((entry) => entry.picture === selected);
  state.selected = place >= 0 ? place : keep ? Math.max(0, Math.min(state.selected, matches.length - 1)) : 0;
  showCounts();
  at("show-more").textContent = filtersSet() ? `Filters (${filtersSet()})` : "Filters";
  showGrid();
  if (at("large").open) showLarge(state.open);
}

function showCounts() {
  const { looked_at: looked, could_not_look: bad, pictures } = data.counts;
  const reached = data.tally.pictures[state.step];
  const counts = { found: reached, nothing: looked - reached, bad, all: pictures };
  for (const kind of Object.keys(KINDS)) at(`count-${kind}`).textContent = WHOLE.format(counts[kind]);
  at("more-found").textContent = counted(data.tally.detections[state.step], "detection");
  const value = scoreOf(thresholds[state.step]);
  at("threshold").value = state.step;
  at("threshold").setAttribute("aria-valuetext", value);
  at("threshold-value").textContent = value;
  at("reset").disabled = state.step === MODEL_STEP;
  at("histogram").querySelectorAll(".bin").forEach((bin, step) => {
    bin.classList.toggle("kept", step >= state.step);
  });
}

/** A threshold in the digits it has: 0.5 as 0.50, 0.4237 as it is. */
function scoreOf(value) {
  const isWhole = Math.abs(value * 100 - Math.round(value * 100)) < 1e-9;
  return isWhole ? value.toFixed(2) : String(Number(value.toFixed(4)));
}

function cardOf(picture) {
  if (!cards.has(picture)) {
    const card = makeCard(picture, data.reasons);
    card.button.addEventListener("click", () => openLarge(picture));
    card.button.addEventListener("focus", () => select(matches.findIndex((entry) => entry.picture === picture)));
    cards.set(picture, card);
  }
  return cards.get(picture);
}

function showGrid() {
  const hadFocus = at("grid").contains(document.activeElement);
  const first = Math.floor(state.selected / PAGE) * PAGE;
  const shown = matches.slice(first, first + PAGE);
  at("grid").replaceChildren(...shown.map(({ picture, boxes, others }) => {
    const card = cardOf(picture);
    card.refresh(boxes, LABELS, others);
    return card.item;
  }));
  const range = matches.length > PAGE ? `${first + 1} to ${first + shown.length} of ` : "";
  at("shown").textContent = matches.length
    ? `${range}${counted(matches.length, "picture")}${COMPARED[at("compare").value] ?? WORDS[state.kind]}`
    : "No picture is like that: change the filters or the threshold.";
  at("pager").hidden = matches.length <= PAGE;
  at("page").textContent = `Page ${first / PAGE + 1} of ${Math.ceil(matches.length / PAGE)}`;
  at("page-back").disabled = first === 0;
  at("page-on").disabled = first + PAGE >= matches.length;
  select(state.selected);
  if (hadFocus) focusSelected();
}

/** Mark one match as selected, on whatever page it is. */
function select(index) {
  if (index < 0 || index >= matches.length) return;
  const samePage = Math.floor(index / PAGE) === Math.floor(state.selected / PAGE);
  state.selected = index;
  if (!samePage) return showGrid();
  at("grid").querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
  cardOf(matches[index].picture).button.setAttribute("tabindex", "0");
}

function focusSelected() {
  if (matches.length) cardOf(matches[state.selected].picture).button.focus();
}

function move(by) {
  const inGrid = at("grid").contains(document.activeElement) || at("large").open;
  const index = Math.max(0, Math.min(matches.length - 1, state.selected + (inGrid ? by : 0)));
  select(index);
  if (at("large").open) return matches.length ? showLarge(matches[index].picture) : undefined;
  focusSelected();
}

function turnPage(by) {
  const page = Math.floor(state.selected / PAGE) + by;
  if (page < 0 || page * PAGE >= matches.length) return;
  select(page * PAGE);
  at("grid").scrollIntoView();
}

/** Open a dialog with its heading in focus: a button there would be pressed by the key that led there. */
function openDialog(id) {
  at(id).showModal();
  at(id).querySelector("h2").focus();
}

function openLarge(picture) {
  showLarge(picture);
  openDialog("large");
}

function showLarge(picture) {
  state.open = picture;
  const index = matches.findIndex((entry) => entry.picture === picture);
  at("large-name").replaceChildren(make("bdi", {}, picture.image));
  at("large-place").textContent = index < 0
    ? "not among the pictures shown" : `${WHOLE.format(index + 1)} of ${WHOLE.format(matches.length)}`;
  at("large-body").replaceChildren(...makeLarge(picture, strongBoxes(picture), LABELS, data, strongBeside(picture)));
}

/** Back to the grid, on the picture last seen: the browser itself returns to the one opened. */
function closeLarge() {
  select(matches.findIndex((entry) => entry.picture === state.open));
  state.open = null;
  focusSelected();
}

function setStep(step) {
  state.step = Math.max(0, Math.min(thresholds.length - 1, step));
  update(true);
}

function setKind(kind) {
  state.kind = kind;
  at(`kind-${kind}`).checked = true;
  update();
}

function toggleMore() {
  at("more").hidden = !at("more").hidden;
  at("show-more").setAttribute("aria-expanded", String(!at("more").hidden));
  (at("more").hidden ? at("show-more") : at("width-least")).focus();
}

function toggleHeat() {
  const isOn = document.body.classList.toggle("hot");
  at("show-heat").setAttribute("aria-pressed", String(isOn));
}

const columns = () => getComputedStyle(at("grid")).gridTemplateColumns.split(" ").length;
const KEYS = {
  j: () => move(1), ArrowRight: () => move(1), k: () => move(-1), ArrowLeft: () => move(-1),
  ArrowDown: () => move(at("large").open ? 1 : columns()),
  ArrowUp: () => move(at("large").open ? -1 : -columns()),
  "[": () => setStep(state.step - 1), "]": () => setStep(state.step + 1), m: () => setStep(MODEL_STEP),
  "/": () => at("large").open || at("filter").focus(), "?": () => at("large").open || openDialog("keys"),
  f: () => at("large").open || toggleMore(), e: () => at("large").open || openExport(),
  h: () => at("show-heat").hidden || toggleHeat(),
  Enter: () => at("large").open || (matches.length && openLarge(matches[state.selected].picture)),
};
Object.keys(KINDS).forEach((kind, index) => { KEYS[index + 1] = () => at("large").open || setKind(kind); });

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  const typed = event.getModifierState("AltGraph"); // as [ is, on many keyboards
  if ((!typed && (event.ctrlKey || event.metaKey || event.altKey)) || at("keys").open || at("export").open) return;
  if (target.matches("input[type=search], input[type=number]") && key === "Escape") return target.blur();
  if (target.matches("input[type=search], input[type=number], select")) return;
  if (target.matches("input") && key.startsWith("Arrow")) return; // the slider's and chooser's own
  if (target.matches("button, a") && key === "Enter") return;
  if (!Object.hasOwn(KEYS, key)) return;
  event.preventDefault();
  KEYS[key]();
});

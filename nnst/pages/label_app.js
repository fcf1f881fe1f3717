// Which picture is open, what is drawn on it, and what can be done with it: each key is a method.
import { ask, at } from "./elements.js";
import { grown, moved, newBox } from "./label_boxes.js";
import { Link } from "./label_link.js";
import { List } from "./label_list.js";
import { showHeading, showPanel, showProgress } from "./label_panel.js";
import { Proposals } from "./label_proposals.js";
import { Saving } from "./label_saving.js";
import { Stage } from "./label_stage.js";
import { View } from "./label_view.js";

export class App {
  constructor(state) {
    this.index = -1;
    this.boxes = [];
    this.selected = -1;
    this.proposals = [];
    this.histories = new Map(); // file -> { past, future } of { boxes, listed }
    this.label = "";
    this.aspect = 0;
    this.view = new View(at("stage"));
    this.stage = new Stage(this, this.view);
    this.list = new List(this);
    this.proposer = new Proposals(this);
    this.link = new Link(this);
    this.saving = new Saving(state.path, {
      told: (kind, words) => this.tell(kind, words),
      saved: (file, entry) => this.link.wasSaved(file, entry),
      clashed: (file, entry) => this.link.clashed(file, entry),
    });
    this.take(state);
    this.setNextLabel(this.labels[0]);
  }

  /** What the server says of all pictures. */
  take(state) {
    this.session = state.session;
    this.revision = state.revision;
    this.files = state.files;
    this.places = new Map(state.files.map((file, index) => [file, index]));
    this.counts = state.boxes;
    this.labels = [...new Set([...(this.labels ?? []), ...state.labels])];
    if (!this.labels.length) this.labels = ["logo"];
    this.proposes = state.proposes;
    for (const [file, { listed, boxes }] of this.saving.pending) {
      if (this.places.has(file)) this.counts[this.places.get(file)] = listed ? boxes.length : null;
    }
    this.list.refresh();
    showProgress(this);
  }

  get file() { return this.files[this.index]; }
  get canDraw() { return Boolean(this.picture?.width); }

  // Which picture

  async open(index, keep = false) {
    if (index < 0 || index >= this.files.length) return;
    const before = this.index;
    this.index = index;
    this.list.mark(before);
    this.list.mark(index);
    this.list.show(index);
    if (!keep) this.blank();
    const { file } = this, { turn } = this.saving;
    let answer;
    try {
      answer = await ask(`pictures/${index}`);
    } catch {
      return this.lost(file);
    }
    if (file !== this.file) return; // on to another one meanwhile
    if (!answer.ok) return this.say(answer.document.error);
    if (turn !== this.saving.turn) return this.open(index, keep); // drawn on meanwhile
    this.use(answer.document, keep);
  }

  blank() {
    this.picture = null;
    this.boxes = [];
    this.proposals = [];
    this.selected = -1;
    at("picture").classList.remove("ready");
    at("picture").onload = null; // one that comes late is no longer wanted
    this.say("");
    showHeading(this);
    this.refresh();
  }

  lost(file) {
    this.tell("away", "no server: waiting for it");
    setTimeout(() => file === this.file && !this.picture && this.open(this.index), 1000);
  }

  use(entry, keep) {
    const waiting = this.saving.of(entry.file);
    this.picture = { ...entry };
    this.boxes = waiting ? waiting.boxes : entry.boxes;
    this.listed = waiting ? waiting.listed : entry.listed;
    this.wasListed = entry.listed;
    if (keep) this.selected = Math.min(this.selected, this.boxes.length - 1);
    this.say(entry.reason ? `This picture cannot be shown: ${entry.reason}` : "");
    if (!keep && entry.width) {
      this.view.fit(entry);
      this.load();
      this.proposer.ask();
    }
    if (waiting?.clash) this.link.clashed(entry.file, waiting.clash);
    else at("banner").hidden = true;
    this.refresh();
  }

  /** The picture at the size of the screen first; all of its pixels when somebody looks closely. */
  load(size = "view") {
    const image = at("picture"), source = `pictures/${this.index}/${size}.jpg`;
    this.shown = size;
    image.onload = () => { image.classList.add("ready"); this.viewChanged(); };
    image.onerror = () => this.say("This picture cannot be shown.");
    image.src = source;
    if (image.complete && image.naturalWidth) image.onload();
    for (const near of [this.index + 1, this.index - 1]) {
      if (size === "view" && near >= 0 && near < this.files.length) new Image().src = `pictures/${near}/view.jpg`;
    }
  }

  step(by) { this.open(Math.max(0, Math.min(this.files.length - 1, this.index + by))); }

  /** The next picture, round the end, of which `wanted(count)` holds. */
  find(by, wanted) {
    const all = this.files.length;
    for (let step = 1; step < all; step++) {
      const index = (((this.index + by * step) % all) + all) % all;
      if (wanted(this.counts[index])) return index;
    }
    return -1;
  }

  nextOpen(by) {
    const open = this.find(by, (count) => count === null);
    const index = open >= 0 ? open : this.find(by, (count) => count === 0);
    if (index >= 0) this.open(index);
    else this.say("Every picture has been looked at.", 2500);
  }

  nextWithBoxes(by) {
    const index = this.find(by, (count) => count > 0);
    if (index >= 0) this.open(index);
  }

  askWhere() {
    at("where").hidden = false;
    at("where-text").value = "";
    at("where-text").focus();
  }

  goWhere(text) {
    at("where").hidden = true;
    at("where-text").blur();
    const words = text.trim().toLowerCase();
    if (!words) return;
    const number = /^\d+$/.test(words) ? Number(words) - 1 : -1;
    const index = number >= 0 && number < this.files.length ? number
      : this.files.findIndex((file) => file.toLowerCase().includes(words));
    if (index >= 0) this.open(index);
    else this.say(`No picture is called ${text}.`, 2500);
  }

  // What is drawn

  get history() {
    if (!this.histories.has(this.file)) this.histories.set(this.file, { past: [], future: [] });
    return this.histories.get(this.file);
  }

  /** Another state of this picture's boxes: seen at once, kept for undo, saved. */
  commit(boxes, listed = true) {
    if (!this.picture) return;
    this.history.past.push({ boxes: this.boxes, listed: this.listed });
    this.history.future.length = 0;
    this.set(boxes, listed);
  }

  set(boxes, listed) {
    this.boxes = boxes;
    this.listed = listed;
    this.selected = Math.min(this.selected, boxes.length - 1);
    this.counts[this.index] = listed ? boxes.length : null;
    this.list.mark(this.index);
    this.saving.put(this.file, this.picture.version, listed, boxes);
    this.refresh();
    showProgress(this);
  }

  add(area) {
    this.selected = this.boxes.length;
    this.commit([...this.boxes, newBox(area, this.label)]);
    this.proposer.sift();
  }

  addInMiddle() {
    if (!this.canDraw) return;
    const { width, height } = this.view.room, last = this.boxes.at(-1);
    const [x, y] = this.view.toPicture([width / 2, height / 2]);
    const wide = last?.width ?? Math.max(8, Math.round(width / 5 / this.view.scale));
    const high = last?.height ?? Math.max(8, Math.round(wide / (this.aspect || 2)));
    const size = { width: Math.min(wide, this.picture.width), height: Math.min(high, this.picture.height) };
    const inside = (middle, side, most) => Math.max(0, Math.min(most - side, Math.round(middle - side / 2)));
    this.add({ left: inside(x, size.width, this.picture.width), top: inside(y, size.height, this.picture.height), ...size });
  }

  replace(index, box) {
    this.commit(this.boxes.map((old, at) => (at === index ? box : old)));
  }

  /** The selected box changed; a run of small moves is one step for undo. */
  change(work) {
    const box = this.boxes[this.selected];
    if (box) this.replace(this.selected, work(box));
  }

  nudge(dx, dy) { this.change((box) => moved(box, dx, dy, this.picture)); }
  growBy(dx, dy) { this.change((box) => grown(box, dx, dy, this.picture)); }

  /** Without its last box a picture is again what it was before: looked at, or not. */
  remove() {
    if (this.selected < 0) return;
    const left = this.boxes.filter((_, index) => index !== this.selected);
    this.selected = -1;
    this.commit(left, left.length > 0 || this.wasListed);
  }

  markEmpty() {
    if (!this.picture) return;
    if (this.boxes.length) return this.say("There are boxes on it: remove them first.", 2500);
    if (!this.listed) this.commit([], true);
    this.step(1);
  }

  unlist() {
    if (this.picture && this.listed) this.commit([], false);
  }

  undo() { this.turn(this.history.past, this.history.future); }
  redo() { this.turn(this.history.future, this.history.past); }

  turn(from, to) {
    if (!this.picture || !from.length) return;
    to.push({ boxes: this.boxes, listed: this.listed });
    const { boxes, listed } = from.pop();
    this.set(boxes, listed);
    this.proposer.sift();
  }

  // Selection, labels, flags

  select(index) {
    this.selected = index;
    if (index >= 0) this.setNextLabel(this.boxes[index].label ?? "logo");
    this.refresh();
  }

  cycle(by) {
    const all = this.boxes.length;
    if (all) this.select(this.selected < 0 ? (by > 0 ? 0 : all - 1) : (this.selected + by + all) % all);
  }

  escape() {
    this.stage.cancel();
    this.select(-1);
  }

  setNextLabel(label) {
    this.label = label.trim();
    if (this.label && !this.labels.includes(this.label)) this.labels.push(this.label);
    at("label").value = this.label;
  }

  /** The label of the selected box, and of the next. */
  setLabel(label) {
    this.setNextLabel(label);
    if (this.selected >= 0 && (this.boxes[this.selected].label ?? "logo") !== this.label) {
      this.change((box) => ({ ...box, label: this.label || null }));
    }
    this.refresh();
  }

  chooseLabel(index) { if (index < this.labels.length) this.setLabel(this.labels[index]); }
  typeLabel() { at("label").focus(); at("label").select(); }
  toggle(flag) { this.change((box) => ({ ...box, [flag]: !box[flag] })); }
  colourOf(label) { return Math.max(0, this.labels.indexOf(label ?? "logo")); }

  toggleAspect() {
    const box = this.boxes[this.selected] ?? this.boxes.at(-1);
    this.aspect = this.aspect ? 0 : box ? box.width / box.height : 1;
    this.refresh();
  }

  accept(count) { this.proposer.accept(count); }
  refuse() { this.proposer.refuse(); }

  // Looking

  viewChanged() {
    const image = at("picture"), { scale, x, y, picture } = this.view;
    image.style.width = `${picture.width}px`;
    image.style.height = `${picture.height}px`;
    image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    image.classList.toggle("close", scale >= 3);
    const { naturalWidth } = image;
    if (this.shown === "view" && naturalWidth && naturalWidth < picture.width && scale * picture.width > 1.3 * naturalWidth) this.load("whole");
    this.stage.render();
  }

  zoom(factor) { this.view.zoom(factor); this.viewChanged(); }
  fit() { if (this.canDraw) { this.view.fit(this.picture); this.viewChanged(); } }

  closeUp() {
    const box = this.boxes[this.selected];
    if (!box) return this.fit();
    this.view.show(box);
    this.viewChanged();
  }

  toggleBoxes() { this.hidesBoxes = !this.hidesBoxes; this.stage.render(); }
  toggleContrast() { at("picture").classList.toggle("contrast"); }
  help() { at("keys").showModal(); }

  // What the page says

  tell(kind, words) {
    at("saved").dataset.state = kind;
    at("saved").textContent = words;
  }

  say(words, forMs = 0) {
    at("message").textContent = words;
    clearTimeout(this.saying);
    if (forMs) this.saying = setTimeout(() => this.say(""), forMs);
  }

  refresh() {
    this.stage.render();
    showPanel(this);
  }
}

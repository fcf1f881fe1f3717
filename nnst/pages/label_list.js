// The list of pictures. Only the rows in sight are in the document, so ten thousand cost nothing.
import { at, make } from "./elements.js";

const ROW = 54; // pixels, as in label.css
const SPARE = 4; // rows beyond what is in sight
const TAIL = 11; // last letters of a name, always in sight: cameras count there

export class List {
  constructor(app) {
    this.app = app;
    this.rows = new Map(); // index -> element
    this.scroller = at("list");
    this.scroller.addEventListener("scroll", () => this.render(), { passive: true });
    new ResizeObserver(() => this.render()).observe(this.scroller);
  }

  /** Everything anew: other pictures, or other counts. */
  refresh() {
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    at("rows").style.height = `${this.app.files.length * ROW}px`;
    this.render();
  }

  render() {
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW) - SPARE);
    const last = Math.min(this.app.files.length, Math.ceil((this.scroller.scrollTop + this.scroller.clientHeight) / ROW) + SPARE);
    for (const [index, row] of this.rows) {
      if (index < first || index >= last) {
        row.querySelector("img")?.removeAttribute("src"); // nobody waits for it any more
        row.remove();
        this.rows.delete(index);
      }
    }
    for (let index = first; index < last; index++) if (!this.rows.has(index)) this.add(index);
  }

  add(index) {
    const file = this.app.files[index], cut = file.lastIndexOf("/") + 1;
    const letters = [...file.slice(cut)];
    const thumb = make("img", { src: `pictures/${index}/thumb.jpg`, alt: "", decoding: "async", draggable: "false" });
    thumb.addEventListener("error", () => thumb.replaceWith(make("span", { class: "broken" }, "?")));
    const row = make("button", { type: "button", class: "row", tabindex: "-1", title: file },
      make("span", { class: "thumb" }, thumb),
      make("span", { class: "words" },
        make("bdi", { class: "file" }, make("span", {}, letters.slice(0, -TAIL).join("")), make("span", {}, letters.slice(-TAIL).join(""))),
        make("bdi", { class: "folder" }, file.slice(0, cut))),
      make("span", { class: "count" }));
    row.style.top = `${index * ROW}px`;
    row.addEventListener("click", () => { this.app.open(index); row.blur(); });
    this.rows.set(index, row);
    this.mark(index);
    at("rows").append(row);
  }

  /** A row's state, after it has changed. */
  mark(index) {
    const row = this.rows.get(index);
    if (!row) return;
    const boxes = this.app.counts[index];
    row.classList.toggle("current", index === this.app.index);
    row.dataset.state = boxes === null ? "open" : boxes ? "boxes" : "empty";
    row.lastChild.textContent = boxes === null ? "" : boxes || "–";
    row.lastChild.title = boxes === null ? "not looked at" : boxes ? "" : "nothing on it";
  }

  /** Bring a row into sight, near the middle when it is far. */
  show(index) {
    const top = index * ROW, { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop + ROW || top > scrollTop + clientHeight - 2 * ROW) {
      this.scroller.scrollTop = top - clientHeight / 2;
    }
    this.render();
  }
}

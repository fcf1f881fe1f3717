// What the model proposes for the open picture; `app.proposals` is what is left of it, best first.
import { ask, at, counted } from "./elements.js";
import { iou, newBox } from "./label_boxes.js";

const TOO_ALIKE = 0.5; // IoU of a proposal with a box that is there

export class Proposals {
  constructor(app) {
    this.app = app;
    this.found = [];
    this.refused = new Map(); // file -> proposals that were refused
  }

  async ask() {
    this.app.proposals = this.found = [];
    if (!this.app.proposes) return;
    const { file, index } = this.app;
    at("proposed").textContent = "The model looks at it …";
    try {
      const { ok, document } = await ask(`pictures/${index}/proposals`);
      if (file !== this.app.file) return;
      this.found = ok ? document.boxes : [];
      this.sift();
      if (ok && index + 1 < this.app.files.length) ask(`pictures/${index + 1}/proposals`);
    } catch { /* the pulse tells that the server is away */ }
  }

  /** Of what the model found, what is neither drawn nor refused. */
  sift() {
    const refused = this.refused.get(this.app.file) ?? [];
    this.app.proposals = (this.found ?? []).filter((box) => !refused.includes(box) && this.app.proposes &&
      this.app.boxes.every((drawn) => iou(drawn, box) < TOO_ALIKE));
    at("proposed").textContent = !this.app.proposes ? ""
      : this.app.proposals.length ? `${counted(this.app.proposals.length, "proposal")}: Enter accepts` : "No proposal is left.";
    this.app.refresh();
  }

  accept(count) {
    const accepted = this.app.proposals.slice(0, count);
    if (!accepted.length) return;
    this.app.selected = this.app.boxes.length + accepted.length - 1;
    this.app.commit([...this.app.boxes, ...accepted.map(({ left, top, width, height, label }) =>
      newBox({ left, top, width, height }, label))]);
    this.sift();
  }

  refuse() {
    if (!this.app.proposals.length) return;
    this.refused.set(this.app.file, [...(this.refused.get(this.app.file) ?? []), this.app.proposals[0]]);
    this.sift();
  }
}

// What was drawn and is not in the file yet. It is kept in the browser until the server has saved it,
// and sent again when a server is back: neither the death of the server nor of this page loses a box.
import { ask } from "./elements.js";
import { same } from "./label_boxes.js";

const RETRY_MS = 1000;

export class Saving {
  /** `told(state, words)` hears how it stands, `saved(file, entry)` and `clashed(file, entry)` of
   * each picture. */
  constructor(path, { told, saved, clashed }) {
    this.prefix = `nnst label ${path}\n`;
    this.told = told;
    this.saved = saved;
    this.clashed = clashed;
    this.pending = new Map(); // file -> { file, base, listed, boxes, turn, clash }
    this.turn = 0;
    this.busy = false;
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith(this.prefix)) this.recall(key);
    }
  }

  recall(key) {
    try {
      const kept = JSON.parse(localStorage.getItem(key));
      this.pending.set(kept.file, { ...kept, turn: ++this.turn });
    } catch {
      localStorage.removeItem(key);
    }
  }

  /** Save a picture's entry, made on the version `base` of it. */
  put(file, base, listed, boxes) {
    const known = this.pending.get(file);
    this.pending.set(file, { file, listed, boxes, base: known?.base ?? base, clash: known?.clash, turn: ++this.turn });
    this.keep(file);
    this.send();
  }

  /** What is to be saved of a picture, if anything. */
  of(file) {
    return this.pending.get(file);
  }

  /** End a clash with another program: with what was drawn here, or with what the file has. */
  settle(file, entry, mine) {
    const wanted = this.pending.get(file);
    if (!wanted) return;
    if (mine) {
      this.pending.set(file, { ...wanted, base: entry.version, clash: undefined });
      this.keep(file);
    } else {
      this.forget(file);
    }
    this.send();
  }

  keep(file) {
    const { base, listed, boxes } = this.pending.get(file);
    try {
      localStorage.setItem(this.prefix + file, JSON.stringify({ file, base, listed, boxes }));
    } catch { /* the browser has no room: what is not saved lives as long as the page */ }
  }

  forget(file) {
    this.pending.delete(file);
    localStorage.removeItem(this.prefix + file);
  }

  async send() {
    if (this.busy) return;
    this.busy = true;
    clearTimeout(this.timer);
    let wanted;
    while ((wanted = [...this.pending.values()].find((entry) => !entry.clash))) {
      this.told("saving", this.words());
      if (!await this.sendOne(wanted)) {
        this.timer = setTimeout(() => this.send(), RETRY_MS);
        this.busy = false;
        return;
      }
    }
    this.busy = false;
    if (this.pending.size) this.told("clash", "changed by another program too");
    else this.told("saved", "saved");
  }

  words() {
    return this.pending.size > 1 ? `saving ${this.pending.size} pictures` : "saving";
  }

  /** Whether the server has dealt with it. */
  async sendOne({ file, base, listed, boxes, turn }) {
    let answer;
    try {
      answer = await ask("entry", {
        method: "PUT", headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ file, base, listed, boxes }),
      });
    } catch {
      this.told("away", `no server: ${this.pending.size} pictures wait in this browser`);
      return false;
    }
    const entry = answer.document;
    const isOurs = answer.status === 409 && entry.listed === listed && same(entry.boxes, boxes);
    if (answer.ok || isOurs) this.settled(file, turn, entry);
    else if (answer.status === 409) this.clash(file, entry);
    else return this.trouble(file, answer);
    return true;
  }

  settled(file, turn, entry) {
    const now = this.pending.get(file);
    if (now?.turn === turn) {
      this.forget(file);
    } else if (now) { // drawn on meanwhile
      now.base = entry.version;
      this.keep(file);
    }
    this.saved(file, entry);
  }

  clash(file, entry) {
    this.pending.get(file).clash = entry;
    this.clashed(file, entry);
  }

  trouble(file, { status, document }) {
    const why = status === 403 ? "open the address that nnst label printed last" : document.error;
    this.told("away", `not saved: ${why}`);
    return false;
  }
}

// Verdicts on their way to the server, in the order in which they were given. They are kept in the
// browser until the server has them on its disk, and sent again when it is back.
import { ask } from "./elements.js";

const RETRY_MS = 1000;

export class Saving {
  /** `told(state, words)` hears how it stands, `saved(figures)` what follows from a verdict. */
  constructor(scan, { told, saved }) {
    this.key = `nnst review ${scan}`;
    this.told = told;
    this.saved = saved;
    this.busy = false;
    try {
      this.queue = JSON.parse(localStorage.getItem(this.key)) ?? [];
    } catch {
      this.queue = [];
    }
  }

  put(row, image_id, verdict) {
    this.queue.push({ row, image_id, verdict });
    this.keep();
    this.send();
  }

  keep() {
    if (this.queue.length) localStorage.setItem(this.key, JSON.stringify(this.queue));
    else localStorage.removeItem(this.key);
  }

  async send() {
    if (this.busy) return;
    this.busy = true;
    clearTimeout(this.timer);
    while (this.queue.length) {
      this.told("saving", "saving");
      const why = await this.sendFirst();
      if (why) {
        this.told("away", `${why}: ${this.queue.length} wait in this browser`);
        this.timer = setTimeout(() => this.send(), RETRY_MS);
        this.busy = false;
        return;
      }
    }
    this.busy = false;
    this.told("saved", "saved");
  }

  /** What keeps the first verdict from being saved; nothing when it is. */
  async sendFirst() {
    let answer;
    try {
      answer = await ask("verdict", {
        method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(this.queue[0]),
      });
    } catch {
      return "no server";
    }
    if (!answer.ok) return answer.status === 403 ? "open the address that nnst review printed last" : answer.document.error;
    this.queue.shift();
    this.keep();
    this.saved(answer.document.figures);
    return "";
  }
}

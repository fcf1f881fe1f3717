// The page and its server: is it there, and has somebody else written the file?
import { ask, at, counted, make } from "./elements.js";

export class Link {
  constructor(app) {
    this.app = app;
  }

  wasSaved(file, entry) {
    const { app } = this;
    app.revision = entry.revision;
    if (file === app.file && app.picture) app.picture.version = entry.version;
  }

  clashed(file, entry) {
    const { app } = this;
    if (file !== app.file) {
      const index = app.places.get(file);
      return index === undefined ? undefined : this.offer(file, [["Show it", () => app.open(index)]]);
    }
    this.offer(file, [
      ["Keep mine", () => this.settle(file, entry, true)],
      [`Take theirs (${counted(entry.boxes.length, "box", "boxes")})`, () => this.settle(file, entry, false)],
    ]);
  }

  offer(file, choices) {
    const buttons = choices.map(([words, work]) => {
      const button = make("button", { type: "button" }, words);
      button.addEventListener("click", () => { at("banner").hidden = true; work(); });
      return button;
    });
    at("banner").replaceChildren(make("span", {},
      "Another program changed the boxes of ", make("bdi", {}, file), " too. Nothing was overwritten."), ...buttons);
    at("banner").hidden = false;
  }

  settle(file, entry, mine) {
    const { app } = this;
    app.saving.settle(file, entry, mine);
    if (file !== app.file) return;
    if (!mine) app.histories.delete(file);
    app.use(entry, true);
    app.counts[app.index] = app.listed ? app.boxes.length : null;
    app.list.mark(app.index);
  }

  /** Is the server there, and has somebody else written the file? */
  async pulse() {
    const { app } = this;
    try {
      const { ok, document } = await ask("pulse");
      if (!ok) app.tell("away", document.error);
      else if (document.session !== app.session || document.revision !== app.revision) await this.catchUp();
      if (ok && app.saving.pending.size) app.saving.send();
      else if (ok && at("saved").dataset.state === "away") app.tell("saved", "saved");
    } catch {
      app.tell("away", app.saving.pending.size
        ? `no server: ${counted(app.saving.pending.size, "picture")} wait in this browser` : "no server: waiting for it");
    }
  }

  async catchUp() {
    const { app } = this;
    if (app.saving.busy) return; // it is our own change that is being saved
    const { ok, document } = await ask("state");
    if (!ok) return;
    const { file } = app; // somebody may have gone on in the meantime
    app.take(document);
    app.index = app.places.get(file) ?? 0;
    app.open(app.index, app.file === file);
  }
}

// The page of nnst label, set going: its keys and buttons, and a look at the server now and then.
import { ask, at, keyTable, nameOf } from "./elements.js";
import { App } from "./label_app.js";
import { KEYS, workOf } from "./label_keys.js";

const PULSE_MS = 3000;

function listen(app) {
  document.addEventListener("keydown", (event) => {
    if (at("keys").open) return;
    const typing = event.target.matches("input");
    if (event.key === " " && !typing) { app.isPanning = true; event.preventDefault(); return; }
    if (typing) return;
    const work = workOf(nameOf(event));
    if (!work || (event.target.matches("button") && event.key === "Enter")) return;
    event.preventDefault();
    work(app);
  });
  document.addEventListener("keyup", (event) => { if (event.key === " ") app.isPanning = false; });
  at("label").addEventListener("keydown", (event) => {
    if (!["Enter", "Escape", "Tab"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === "Escape") at("label").value = app.label;
    else app.setLabel(at("label").value);
    at("label").blur();
  });
  at("where-text").addEventListener("keydown", (event) => {
    if (event.key === "Escape") { at("where").hidden = true; event.target.blur(); }
  });
  at("where").addEventListener("submit", (event) => { event.preventDefault(); app.goWhere(at("where-text").value); });
  for (const button of at("flags").children) {
    button.addEventListener("click", () => { app.toggle(button.dataset.flag); button.blur(); });
  }
  at("aspect").addEventListener("click", () => { app.toggleAspect(); at("aspect").blur(); });
  at("show-keys").addEventListener("click", () => app.help());
  at("keys-close").addEventListener("click", () => at("keys").close());
  window.addEventListener("resize", () => app.fit());
  window.addEventListener("beforeunload", (event) => { if (app.saving.pending.size) event.preventDefault(); });
}

async function start() {
  at("keys-body").append(...keyTable(KEYS));
  const { ok, document } = await ask("state");
  if (!ok) { at("message").textContent = document.error; return; }
  const app = new App(document);
  listen(app);
  const first = app.counts.indexOf(null);
  await app.open(Math.max(0, first));
  if (app.saving.pending.size) app.saving.send();
  else app.tell("saved", "saved");
  setInterval(() => app.link.pulse(), PULSE_MS);
}

start();

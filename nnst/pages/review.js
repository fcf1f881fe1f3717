// The page of nnst review: one detection after the other, one key for each answer.
import { ask, at, draw, keyTable, make, nameOf, whole } from "./elements.js";
import { Saving } from "./review_saving.js";

const AHEAD = 6; // cards whose pictures are asked for before they are needed
const RETRY_MS = 1000;
const WORDS = { yes: "right", no: "wrong", wrong_box: "wrong box", skip: "skipped" };

class App {
  constructor(state) {
    this.state = state;
    this.position = state.first;
    this.cards = new Map(); // position -> card
    this.given = []; // positions, in the order in which they were answered
    this.saving = new Saving(state.scan, {
      told: (kind, words) => this.tell(kind, words),
      saved: (figures) => { this.trend.push(figures); this.showFigures(figures); },
    });
    at("archive").textContent = state.archive.replace(/[/\\]+$/, "").split(/[/\\]/).pop();
    at("model").textContent = state.model;
    at("who").textContent = state.who;
    this.trend = state.trend;
    this.showFigures(state.figures);
  }

  /** The card at a position; cards come in lots. */
  async card(position) {
    if (!this.cards.has(position)) {
      const { ok, document } = await ask(`cards/${position}`);
      if (!ok) throw new Error(document.error);
      document.cards.forEach((card, step) => {
        if (!this.cards.has(position + step)) this.cards.set(position + step, card);
      });
    }
    return this.cards.get(position);
  }

  async show() {
    const { position } = this;
    at("views").classList.add("unready");
    at("place").textContent = `${whole(Math.min(position + 1, this.state.detections))} of ${whole(this.state.detections)}`;
    if (position >= this.state.detections) return this.finish();
    let card;
    try {
      card = await this.card(position);
    } catch {
      at("message").textContent = "No server: waiting for it.";
      setTimeout(() => position === this.position && this.show(), RETRY_MS);
      return;
    }
    if (position !== this.position) return;
    this.present(card);
    this.prepare(position);
  }

  finish() {
    this.current = null;
    at("message").textContent = "Every detection has been looked at.";
    for (const name of ["score", "label", "image"]) at(name).textContent = "";
    at("why").replaceChildren();
  }

  present(card) {
    this.current = card;
    at("score").textContent = card.score.toFixed(2);
    at("label").textContent = card.label;
    at("image").textContent = card.image;
    at("why").replaceChildren(...card.why.map((words) => make("span", {}, words)),
      ...(card.above ? [] : [make("span", {}, "below the threshold")]));
    for (const button of at("answers").querySelectorAll("[data-verdict]")) {
      button.classList.toggle("given", button.dataset.verdict === card.verdict);
    }
    at("message").textContent = card.reason ? `This picture cannot be shown: ${card.reason}` : "";
    if (card.reason) return;
    const [x0, y0, x1, y1] = card.frame;
    this.frame("close", card, [x0, y0, x1 - x0, y1 - y0]);
    this.frame("whole", card, [0, 0, card.width, card.height]);
    at("views").classList.remove("unready");
  }

  /** A view of the picture, of an area of it, with the box drawn in per cent. */
  frame(name, { row, box }, [left, top, width, height]) {
    const frame = at(name), [image, svg] = frame.children;
    image.onerror = () => { at("message").textContent = "This picture cannot be shown."; };
    image.src = `rows/${row}/${name}.jpg`;
    frame.style.setProperty("--aspect", width / height);
    const area = {
      x: `${(100 * (box[0] - left)) / width}%`, y: `${(100 * (box[1] - top)) / height}%`,
      width: `${(100 * (box[2] - box[0])) / width}%`, height: `${(100 * (box[3] - box[1])) / height}%`,
    };
    svg.replaceChildren(draw("g", { class: "box colour-0" },
      draw("rect", { class: "casing", ...area }), draw("rect", { class: "outline", ...area })));
  }

  prepare(position) {
    for (let next = position + 1; next <= position + AHEAD && next < this.state.detections; next++) {
      this.card(next).then(({ row, reason }) => {
        if (!reason) for (const size of ["close", "whole"]) new Image().src = `rows/${row}/${size}.jpg`;
      }).catch(() => {});
    }
  }

  say(verdict) {
    const card = this.current;
    if (!card) return;
    if (card.reason && verdict !== "skip") return;
    card.verdict = verdict;
    this.saving.put(card.row, card.image_id, verdict);
    this.given.push(this.position);
    this.current = null;
    this.position += 1;
    this.show();
  }

  /** Take the last answer back, and ask again. */
  async undo() {
    if (!this.given.length) return;
    this.position = this.given.pop();
    this.current = null;
    const card = this.cards.get(this.position);
    card.verdict = null;
    this.saving.put(card.row, card.image_id, "open");
    await this.show();
  }

  step(by) {
    const wanted = this.position + by;
    if (wanted < 0 || wanted > this.state.detections) return;
    this.position = wanted;
    this.current = null;
    this.show();
  }

  help() { at("keys").showModal(); }

  tell(kind, words) {
    at("saved").dataset.state = kind;
    at("saved").textContent = words;
  }

  showFigures(figures) {
    const { looked_at: looked, right, wrong, misplaced, skipped } = figures;
    at("looked").textContent = `${whole(looked)} of ${whole(this.state.detections)}`;
    const shares = { yes: right, no: wrong, wrong_box: misplaced, skip: skipped };
    at("shares").replaceChildren(...Object.entries(shares).map(([verdict, count]) => {
      const part = make("span", { class: verdict });
      part.style.width = `${looked ? (100 * count) / looked : 0}%`;
      return part;
    }));
    at("counts").textContent = Object.entries(shares).map(([verdict, count]) => `${whole(count)} ${WORDS[verdict]}`).join(" · ");
    for (const name of ["precision", "recall"]) this.showEstimate(at(name), figures[name]);
  }

  /** How an estimate has changed with what was looked at. */
  curve(name) {
    const known = this.trend.filter((point) => point[name].value !== null);
    const most = Math.max(1, ...known.map((point) => point.looked_at));
    if (known.length < 2) return [];
    return band(known.map((point) => ({ x: (100 * point.looked_at) / most, ...point[name] })));
  }

  showEstimate(section, { value, low, high }) {
    const [, big, bar, text, curve] = section.children;
    curve.replaceChildren(...this.curve(section.id));
    bar.hidden = value === null;
    big.textContent = value === null ? "not known" : value.toFixed(2);
    text.textContent = value === null ? "" : `${low.toFixed(2)} to ${high.toFixed(2)}`;
    if (value === null) return;
    bar.children[0].style.left = `${100 * low}%`;
    bar.children[0].style.right = `${100 - 100 * high}%`;
    bar.children[1].style.left = `${100 * value}%`;
  }
}

/** A band and a line through points of { x, low, value, high }, in per cent of their frame. */
function band(points) {
  const place = ({ x }, y) => `${x.toFixed(2)},${(100 - 100 * y).toFixed(2)}`;
  const there = points.map((point) => place(point, point.high));
  const back = [...points].reverse().map((point) => place(point, point.low));
  return [
    draw("polygon", { class: "band", points: [...there, ...back].join(" ") }),
    draw("polyline", { class: "line", points: points.map((point) => place(point, point.value)).join(" ") }),
  ];
}

const entry = (names, shown, words, work) => ({ group: "Is the box on the logo?", names, shown, words, work });
const KEYS = [
  entry(["y", "1"], ["y", "1"], "yes: the logo, and the box fits", (app) => app.say("yes")),
  entry(["n", "2"], ["n", "2"], "no: no logo there", (app) => app.say("no")),
  entry(["w", "3"], ["w", "3"], "a logo, and the box does not fit", (app) => app.say("wrong_box")),
  entry(["s", "4", "Space"], ["s", "4"], "skip: cannot say", (app) => app.say("skip")),
  entry(["u", "Backspace", "Ctrl+z"], ["u", "Backspace"], "take the last answer back", (app) => app.undo()),
  entry(["ArrowLeft"], ["←"], "look at the one before", (app) => app.step(-1)),
  entry(["ArrowRight"], ["→"], "look at the next, without an answer", (app) => app.step(1)),
  entry(["?", "F1"], ["?"], "these keys", (app) => app.help()),
];
const WORK = new Map(KEYS.flatMap(({ names, work }) => names.map((name) => [name, work])));

function listen(app) {
  document.addEventListener("keydown", (event) => {
    const work = WORK.get(nameOf(event));
    if (!work || at("keys").open || event.repeat) return;
    event.preventDefault();
    work(app);
  });
  for (const button of at("answers").querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", () => { app.say(button.dataset.verdict); button.blur(); });
  }
  at("undo").addEventListener("click", () => { app.undo(); at("undo").blur(); });
  at("show-keys").addEventListener("click", () => app.help());
  at("keys-close").addEventListener("click", () => at("keys").close());
  window.addEventListener("beforeunload", (event) => { if (app.saving.queue.length) event.preventDefault(); });
}

async function start() {
  at("keys-body").append(...keyTable(KEYS));
  const { ok, document } = await ask("state");
  if (!ok) { at("message").textContent = document.error; return; }
  const app = new App(document);
  listen(app);
  await app.show();
  app.saving.send();
}

start();

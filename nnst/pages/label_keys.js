// Every key of the page, what it does, and how the help says it. imglab's own are among them.

const move = (dx, dy) => (app) => app.nudge(dx, dy);
const grow = (dx, dy) => (app) => app.growBy(dx, dy);
const DIGITS = [1, 2, 3, 4, 5, 6, 7, 8, 9];

const entry = (group, names, shown, words, work) => ({ group, names, shown, words, work });

export const KEYS = [
  entry("Pictures", ["s", "ArrowDown", "PageDown"], ["s", "↓"], "next picture", (app) => app.step(1)),
  entry("Pictures", ["w", "ArrowUp", "PageUp"], ["w", "↑"], "previous picture", (app) => app.step(-1)),
  entry("Pictures", ["u"], ["u"], "next that nobody has looked at", (app) => app.nextOpen(1)),
  entry("Pictures", ["U"], ["Shift u"], "previous that nobody has looked at", (app) => app.nextOpen(-1)),
  entry("Pictures", ["Ctrl+ArrowDown"], ["Ctrl ↓"], "next with boxes", (app) => app.nextWithBoxes(1)),
  entry("Pictures", ["Ctrl+ArrowUp"], ["Ctrl ↑"], "previous with boxes", (app) => app.nextWithBoxes(-1)),
  entry("Pictures", ["0"], ["0"], "nothing on it, and on to the next", (app) => app.markEmpty()),
  entry("Pictures", ["g"], ["g"], "go to a number or name", (app) => app.askWhere()),
  entry("Pictures", ["Home"], ["Home"], "first picture", (app) => app.open(0)),
  entry("Pictures", ["End"], ["End"], "last picture", (app) => app.open(app.files.length - 1)),
  entry("Pictures", ["Alt+d"], ["Alt d"], "take it out of the file", (app) => app.unlist()),

  entry("Boxes", [], ["drag"], "draw; inside a box: move it", null),
  entry("Boxes", [], ["Shift drag"], "draw, whatever is below", null),
  entry("Boxes", ["n"], ["n"], "new box in the middle", (app) => app.addInMiddle()),
  entry("Boxes", ["."], ["."], "select the next box", (app) => app.cycle(1)),
  entry("Boxes", [","], [","], "select the previous box", (app) => app.cycle(-1)),
  entry("Boxes", ["Escape"], ["Esc"], "select none; stop a drag", (app) => app.escape()),
  entry("Boxes", ["Delete", "Backspace"], ["Del"], "remove the box", (app) => app.remove()),
  entry("Boxes", ["Ctrl+z"], ["Ctrl z"], "undo", (app) => app.undo()),
  entry("Boxes", ["Ctrl+y", "Ctrl+Shift+z"], ["Ctrl y"], "redo", (app) => app.redo()),
  entry("Boxes", ["h"], ["h", "j", "k", "l"], "move by a pixel", move(-1, 0)),
  entry("Boxes", ["j"], [], "", move(0, 1)),
  entry("Boxes", ["k"], [], "", move(0, -1)),
  entry("Boxes", ["l"], [], "", move(1, 0)),
  entry("Boxes", ["H"], ["Shift h j k l"], "narrower, higher, lower, wider", grow(-1, 0)),
  entry("Boxes", ["J"], [], "", grow(0, 1)),
  entry("Boxes", ["K"], [], "", grow(0, -1)),
  entry("Boxes", ["L"], [], "", grow(1, 0)),
  entry("Boxes", ["Shift+ArrowLeft"], ["Shift arrows"], "move by ten", move(-10, 0)),
  entry("Boxes", ["Shift+ArrowRight"], [], "", move(10, 0)),
  entry("Boxes", ["Shift+ArrowUp"], [], "", move(0, -10)),
  entry("Boxes", ["Shift+ArrowDown"], [], "", move(0, 10)),
  entry("Boxes", ["Ctrl+Shift+ArrowLeft"], ["Ctrl Shift arrows"], "resize by ten", grow(-10, 0)),
  entry("Boxes", ["Ctrl+Shift+ArrowRight"], [], "", grow(10, 0)),
  entry("Boxes", ["Ctrl+Shift+ArrowUp"], [], "", grow(0, -10)),
  entry("Boxes", ["Ctrl+Shift+ArrowDown"], [], "", grow(0, 10)),
  entry("Boxes", ["r"], ["r"], "keep the shape of the last box, or not", (app) => app.toggleAspect()),

  ...DIGITS.map((digit) => entry("Labels and flags", [String(digit)], digit === 1 ? ["1", "…", "9"] : [],
    digit === 1 ? "label of the box, and of the next" : "", (app) => app.chooseLabel(digit - 1))),
  entry("Labels and flags", ["Tab"], ["Tab"], "type a label", (app) => app.typeLabel()),
  entry("Labels and flags", [], ["Ctrl click"], "give a box the label of the next", null),
  entry("Labels and flags", ["i"], ["i"], "ignore: neither logo nor background", (app) => app.toggle("ignore")),
  entry("Labels and flags", ["d"], ["d"], "difficult", (app) => app.toggle("difficult")),
  entry("Labels and flags", ["t"], ["t"], "truncated", (app) => app.toggle("truncated")),
  entry("Labels and flags", ["o"], ["o"], "occluded", (app) => app.toggle("occluded")),
  entry("Labels and flags", ["Enter", "a"], ["Enter", "a"], "accept the best proposal", (app) => app.accept(1)),
  entry("Labels and flags", ["A"], ["Shift a"], "accept every proposal", (app) => app.accept(Infinity)),
  entry("Labels and flags", ["x"], ["x"], "refuse the best proposal", (app) => app.refuse()),

  entry("Looking", [], ["wheel"], "zoom, at the pointer", null),
  entry("Looking", ["+", "="], ["+"], "larger", (app) => app.zoom(1.25)),
  entry("Looking", ["-"], ["−"], "smaller", (app) => app.zoom(0.8)),
  entry("Looking", ["f"], ["f"], "the whole picture", (app) => app.fit()),
  entry("Looking", ["z"], ["z"], "close up on the box", (app) => app.closeUp()),
  entry("Looking", [], ["Space drag"], "move the picture; so does the right button", null),
  entry("Looking", ["b"], ["b"], "hide the boxes", (app) => app.toggleBoxes()),
  entry("Looking", ["e"], ["e"], "more contrast", (app) => app.toggleContrast()),
  entry("Looking", ["?", "F1"], ["?"], "these keys", (app) => app.help()),
];

const WORK = new Map(KEYS.flatMap(({ names, work }) => names.map((name) => [name, work])));

/** What a key does, if anything. */
export const workOf = (name) => WORK.get(name);

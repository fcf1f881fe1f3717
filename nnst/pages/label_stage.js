// The picture with its boxes, and what the mouse does to them. Boxes are drawn in pixels of the
// stage, so their lines stay thin and their handles large at every scale.
import { at, draw } from "./elements.js";
import { HANDLES, between, boxesAt, moved, resized, withAspect } from "./label_boxes.js";

const REACH = 8; // pixels of the stage, of a handle
const LEAST = 4; // pixels of the stage that make a drag a box
const COLOURS = 8;
const CURSORS = { nw: "nwse", n: "ns", ne: "nesw", e: "ew", se: "nwse", s: "ns", sw: "nesw", w: "ew" };

export class Stage {
  constructor(app, view) {
    this.app = app;
    this.view = view;
    this.element = at("stage");
    this.drag = null;
    const listen = (kind, work) => this.element.addEventListener(kind, work.bind(this));
    listen("pointerdown", this.down);
    listen("pointermove", this.move);
    listen("pointerup", this.up);
    listen("pointercancel", this.cancel);
    listen("dblclick", this.double);
    listen("contextmenu", (event) => event.preventDefault());
    this.element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  /** Where the pointer is on the stage. */
  point(event) {
    const { left, top } = this.element.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  wheel(event) {
    event.preventDefault();
    const steps = event.deltaMode ? event.deltaY : event.deltaY / 40;
    this.view.zoom(1.1 ** -Math.max(-6, Math.min(6, steps)), this.point(event));
    this.app.viewChanged();
  }

  down(event) {
    const { app } = this;
    if (!app.canDraw || this.drag) return;
    document.activeElement?.blur();
    this.element.setPointerCapture(event.pointerId);
    const point = this.point(event), at = this.view.toPicture(point);
    const begun = { from: point, at, event, moved: false };
    if (event.button !== 0 || app.isPanning) this.drag = { ...begun, kind: "pan" };
    else this.drag = event.shiftKey ? { ...begun, kind: "draw" } : this.gripped(begun);
    event.preventDefault();
  }

  /** What a drag from here does: resize or move the selected box, pick one, or draw. */
  gripped(begun) {
    const { app } = this, selected = app.boxes[app.selected];
    const handle = selected && this.handleAt(selected, begun.from);
    if (handle) return { ...begun, kind: "resize", handle, box: selected };
    const hits = boxesAt(app.boxes, begun.at, 3 / this.view.scale);
    if (!hits.length) return { ...begun, kind: "draw" };
    const index = hits.includes(app.selected) ? app.selected : hits[0];
    return { ...begun, kind: "move", index, box: app.boxes[index], hits };
  }

  handleAt(box, [px, py]) {
    const places = handlePlaces(this.view.toStage(box));
    return HANDLES.filter((_, index) => {
      const [x, y] = places[index];
      return Math.abs(px - x) <= REACH && Math.abs(py - y) <= REACH;
    }).sort((a, b) => b.length - a.length)[0];
  }

  move(event) {
    const point = this.point(event);
    if (!this.drag) return this.hover(point, event);
    const { drag, app } = this, to = this.view.toPicture(point);
    const [dx, dy] = [point[0] - drag.from[0], point[1] - drag.from[1]];
    drag.moved ||= Math.hypot(dx, dy) >= LEAST;
    if (drag.kind === "pan") {
      this.view.pan(event.movementX, event.movementY);
      return app.viewChanged();
    }
    if (!drag.moved) return;
    if (drag.kind === "move") {
      app.selected = drag.index;
      drag.result = moved(drag.box, to[0] - drag.at[0], to[1] - drag.at[1], app.picture);
    } else if (drag.kind === "resize") {
      drag.result = resized(drag.box, drag.handle, to, app.picture, app.aspect);
    } else {
      drag.result = between(drag.at, withAspect(drag.at, to, app.aspect, app.picture), app.picture);
    }
    this.render();
  }

  up(event) {
    const { drag, app } = this;
    this.drag = null;
    if (!drag || drag.kind === "pan") return this.hover(this.point(event), event);
    if (drag.result && drag.kind === "draw") app.add(drag.result);
    else if (drag.result) app.replace(app.selected, drag.result);
    else if (drag.kind === "move") this.clicked(drag, event);
    else if (drag.kind === "draw") app.select(-1);
    this.render();
  }

  /** A click selects; once more, the next box below; with Ctrl it gives the label, as in imglab. */
  clicked({ index, hits }, event) {
    const { app } = this;
    if (event.ctrlKey || event.metaKey) {
      app.select(hits[0]);
      return app.setLabel(app.label);
    }
    const again = app.selected === index;
    app.select(again ? hits[(hits.indexOf(index) + 1) % hits.length] : index);
  }

  double(event) {
    const hits = boxesAt(this.app.boxes, this.view.toPicture(this.point(event)), 0);
    if (hits.length) this.app.select(hits[0]);
  }

  cancel() {
    this.drag = null;
    this.render();
  }

  hover(point, event) {
    const { app } = this, selected = app.boxes[app.selected];
    const handle = selected && !event.shiftKey && this.handleAt(selected, point);
    const inside = boxesAt(app.boxes, this.view.toPicture(point), 3 / this.view.scale).length;
    const free = event.shiftKey || !inside ? "crosshair" : "move";
    this.element.style.cursor = app.isPanning ? "grab" : handle ? `${CURSORS[handle]}-resize` : free;
  }

  /** The boxes as they are, with the one that is being dragged. */
  render() {
    const { app, view, drag } = this;
    const boxes = app.boxes.map((box, index) =>
      drag?.result && drag.kind !== "draw" && index === app.selected ? drag.result : box);
    const shapes = app.hidesBoxes ? [] : boxes.map((box, index) => this.shape(box, index, boxes.length));
    if (app.selected >= 0 && shapes[app.selected]) shapes.push(...shapes.splice(app.selected, 1));
    if (!app.hidesBoxes) shapes.unshift(...app.proposals.map((box, index) => this.proposal(box, index)));
    if (drag?.kind === "draw" && drag.result) shapes.push(rectangle("fresh", view.toStage(drag.result)));
    at("boxes").replaceChildren(...shapes);
  }

  shape(box, index) {
    const { app, view } = this, area = view.toStage(box), selected = index === app.selected;
    const colour = app.colourOf(box.label) % COLOURS;
    const group = draw("g", { class: `box colour-${colour}${selected ? " selected" : ""}${box.ignore ? " ignored" : ""}`, "data-index": index });
    group.append(rectangle("casing", area), rectangle("outline", area));
    if (box.ignore) group.append(...cross(area));
    const marks = [box.difficult && "difficult", box.truncated && "truncated", box.occluded && "occluded"].filter(Boolean);
    const words = [box.label ?? "logo", ...marks].join(" · ");
    group.append(draw("text", { x: Math.max(2, area.x), y: area.y > 16 ? area.y - 5 : area.y + area.height + 14 }, words));
    if (selected) {
      for (const [x, y] of handlePlaces(area)) {
        group.append(draw("rect", { class: "handle", x: x - 4, y: y - 4, width: 8, height: 8 }));
      }
    }
    return group;
  }

  proposal(box, index) {
    const area = this.view.toStage(box);
    const group = draw("g", { class: `proposal${index === 0 ? " first" : ""}` },
      rectangle("casing", area), rectangle("outline", area));
    const words = `${box.label} ${box.score.toFixed(2)}?${index === 0 ? "  Enter" : ""}`;
    group.append(draw("text", { x: Math.max(2, area.x), y: area.y + area.height + 14 }, words));
    return group;
  }
}

function rectangle(name, { x, y, width, height }) {
  return draw("rect", { class: name, x, y, width, height });
}

/** imglab's sign of an ignored box. */
function cross({ x, y, width, height }) {
  return [
    draw("line", { class: "outline", x1: x, y1: y, x2: x + width, y2: y + height }),
    draw("line", { class: "outline", x1: x + width, y1: y, x2: x, y2: y + height }),
  ];
}

function handlePlaces({ x, y, width, height }) {
  const columns = { w: x, e: x + width }, rows = { n: y, s: y + height };
  return HANDLES.map((handle) => {
    const across = [...handle].find((letter) => letter in columns);
    const down = [...handle].find((letter) => letter in rows);
    return [across ? columns[across] : x + width / 2, down ? rows[down] : y + height / 2];
  });
}

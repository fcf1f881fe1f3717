// Boxes of one picture, in whole pixels of it as a person sees it. Nothing here changes a box.

export const FLAGS = ["ignore", "difficult", "truncated", "occluded"];
export const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

/** A box with every field that the server's boxes have. */
export function newBox(area, label) {
  return {
    ...area, label: label || null,
    ignore: false, difficult: false, truncated: false, occluded: false,
    angle: null, pose: null, detection_score: null, gender: null, age: null, parts: [],
  };
}

/** The rectangle between two corners, within the picture; at least one pixel. */
export function between([ax, ay], [bx, by], { width, height }) {
  const clamp = (value, most) => Math.max(0, Math.min(most, Math.round(value)));
  const left = Math.min(clamp(Math.min(ax, bx), width), width - 1);
  const top = Math.min(clamp(Math.min(ay, by), height), height - 1);
  const right = Math.max(left + 1, clamp(Math.max(ax, bx), width));
  const bottom = Math.max(top + 1, clamp(Math.max(ay, by), height));
  return { left, top, width: right - left, height: bottom - top };
}

/** The corner moved so that the rectangle from `from` to it has this aspect, width over height. */
export function withAspect([ax, ay], [bx, by], aspect, { width, height }) {
  if (!aspect) return [bx, by];
  const right = bx >= ax, down = by >= ay;
  const room = Math.min(right ? width - ax : ax, (down ? height - ay : ay) * aspect);
  const wide = Math.min(room, Math.max(Math.abs(bx - ax), Math.abs(by - ay) * aspect));
  return [ax + (right ? wide : -wide), ay + ((down ? 1 : -1) * wide) / aspect];
}

/** The box moved; one that lies within the picture stays within. */
export function moved(box, dx, dy, picture) {
  const along = (start, side, by, most) => {
    const wanted = Math.round(start + by);
    return start >= 0 && start + side <= most ? Math.max(0, Math.min(most - side, wanted)) : wanted;
  };
  return {
    ...box,
    left: along(box.left, box.width, dx, picture.width),
    top: along(box.top, box.height, dy, picture.height),
  };
}

/** The box with the corner or edge of a handle dragged to a point. */
export function resized(box, handle, [x, y], picture, aspect) {
  const right = box.left + box.width, bottom = box.top + box.height;
  const fixed = [handle.includes("w") ? right : box.left, handle.includes("n") ? bottom : box.top];
  let corner = [
    /[ew]/.test(handle) ? x : right,
    /[ns]/.test(handle) ? y : bottom,
  ];
  if (aspect && handle.length === 2) corner = withAspect(fixed, corner, aspect, picture);
  return { ...box, ...between(fixed, corner, picture) };
}

/** The box with its right and lower edge moved by some pixels. */
export function grown(box, dx, dy, picture) {
  const most = (start, limit) => Math.max(1, limit - start);
  const side = (value, by, limit) => Math.max(1, Math.min(limit, value + by));
  return {
    ...box,
    width: side(box.width, dx, most(box.left, picture.width)),
    height: side(box.height, dy, most(box.top, picture.height)),
  };
}

const contains = (box, [x, y], slack) =>
  x >= box.left - slack && x <= box.left + box.width + slack &&
  y >= box.top - slack && y <= box.top + box.height + slack;

/** Indices of the boxes at a point, the smallest first. */
export function boxesAt(boxes, point, slack) {
  return boxes.map((box, index) => [box.width * box.height, index])
    .filter(([, index]) => contains(boxes[index], point, slack))
    .sort((a, b) => a[0] - b[0]).map(([, index]) => index);
}

export function iou(a, b) {
  const wide = Math.min(a.left + a.width, b.left + b.width) - Math.max(a.left, b.left);
  const high = Math.min(a.top + a.height, b.top + b.height) - Math.max(a.top, b.top);
  const shared = Math.max(0, wide) * Math.max(0, high);
  return shared / (a.width * a.height + b.width * b.height - shared);
}

/** Whether two lists hold the same boxes, as far as a file keeps them. */
export function same(boxes, others) {
  const text = (list) => JSON.stringify(list.map((box) =>
    Object.entries(newBox(box, box.label)).map(([name]) => [name, box[name] ?? null])));
  return text(boxes) === text(others);
}

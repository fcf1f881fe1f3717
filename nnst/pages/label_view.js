// Where the picture lies on the stage: its scale, and the place of its upper left corner.

const MOST_SCALE = 64;

export class View {
  constructor(stage) {
    this.stage = stage;
    this.picture = { width: 1, height: 1 };
    this.scale = 1;
    this.x = 0;
    this.y = 0;
  }

  get room() {
    return { width: this.stage.clientWidth, height: this.stage.clientHeight };
  }

  /** The whole picture, as large as there is room for; a small one at most four times. */
  fit(picture = this.picture) {
    this.picture = picture;
    const { width, height } = this.room;
    const margin = 24;
    this.scale = Math.max(0.01, Math.min((width - margin) / picture.width, (height - margin) / picture.height, 4));
    this.x = (width - picture.width * this.scale) / 2;
    this.y = (height - picture.height * this.scale) / 2;
  }

  /** The rectangle with something around it. */
  show({ left, top, width, height }) {
    const room = this.room;
    this.scale = Math.min(room.width / (3 * width), room.height / (3 * height), MOST_SCALE);
    this.x = room.width / 2 - (left + width / 2) * this.scale;
    this.y = room.height / 2 - (top + height / 2) * this.scale;
  }

  /** Larger or smaller by a factor, about a point of the stage. */
  zoom(factor, [px, py] = [this.room.width / 2, this.room.height / 2]) {
    const least = Math.min(1, 0.5 * Math.min(this.room.width / this.picture.width, this.room.height / this.picture.height));
    const scale = Math.max(least, Math.min(MOST_SCALE, this.scale * factor));
    const [x, y] = this.toPicture([px, py]);
    this.scale = scale;
    this.x = px - x * scale;
    this.y = py - y * scale;
    this.keepInSight();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.keepInSight();
  }

  keepInSight() {
    const { width, height } = this.room, least = 40;
    this.x = Math.min(width - least, Math.max(least - this.picture.width * this.scale, this.x));
    this.y = Math.min(height - least, Math.max(least - this.picture.height * this.scale, this.y));
  }

  toPicture([px, py]) {
    return [(px - this.x) / this.scale, (py - this.y) / this.scale];
  }

  toStage({ left, top, width, height }) {
    return {
      x: this.x + left * this.scale, y: this.y + top * this.scale,
      width: width * this.scale, height: height * this.scale,
    };
  }
}

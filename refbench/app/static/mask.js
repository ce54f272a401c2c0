// The mask at the draft's full size, one byte a pixel, with undo by tiles: a stroke costs what it touches.

const TILE = 256;
const MOST_STEPS = 100;
const MOST_BYTES = 96e6; // of undo and redo together

export class Mask {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.data = new Uint8Array(width * height);
    this.count = 0; // of what is painted, up to date once a step has ended
    this.across = Math.ceil(width / TILE);
    this.past = [];
    this.future = [];
    this.step = null;
  }

  begin() {
    this.step = new Map();
  }

  end() {
    if (this.step && this.step.size) {
      for (const [tile, old] of this.step) this.count += sum(this.copy(tile)) - sum(old);
      this.past.push(this.step);
      this.future = [];
      let bytes = 0;
      for (let k = this.past.length - 1; k >= 0; k--) {
        bytes += this.past[k].size * TILE * TILE;
        if (bytes > MOST_BYTES || this.past.length - k > MOST_STEPS) {
          this.past.splice(0, k + 1);
          break;
        }
      }
    }
    this.step = null;
  }

  // Take back what the open step has done.
  abandon() {
    const { step, count } = this;
    this.step = null;
    const box = step && step.size ? this.swap(step, []) : null;
    this.count = count; // of before the step
    return box;
  }

  undo() {
    return this.past.length ? this.swap(this.past.pop(), this.future) : null;
  }

  redo() {
    return this.future.length ? this.swap(this.future.pop(), this.past) : null;
  }

  swap(step, other) {
    const back = new Map();
    const box = [this.width, this.height, 0, 0];
    for (const [tile, old] of step) {
      back.set(tile, this.copy(tile));
      const [x0, y0, x1, y1] = this.bounds(tile);
      const wide = x1 - x0;
      for (let y = y0; y < y1; y++) {
        this.data.set(old.subarray((y - y0) * wide, (y - y0 + 1) * wide), y * this.width + x0);
      }
      this.count += sum(old) - sum(back.get(tile));
      box[0] = Math.min(box[0], x0);
      box[1] = Math.min(box[1], y0);
      box[2] = Math.max(box[2], x1);
      box[3] = Math.max(box[3], y1);
    }
    other.push(back);
    return box;
  }

  bounds(tile) {
    const x = (tile % this.across) * TILE;
    const y = Math.floor(tile / this.across) * TILE;
    return [x, y, Math.min(x + TILE, this.width), Math.min(y + TILE, this.height)];
  }

  copy(tile) {
    const [x0, y0, x1, y1] = this.bounds(tile);
    const wide = x1 - x0;
    const kept = new Uint8Array(wide * (y1 - y0));
    for (let y = y0; y < y1; y++) {
      const at = y * this.width;
      kept.set(this.data.subarray(at + x0, at + x1), (y - y0) * wide);
    }
    return kept;
  }

  // Remember the tiles below a box as they were when the step began.
  keep(x0, y0, x1, y1) {
    if (!this.step || x1 <= x0 || y1 <= y0) return;
    for (let row = Math.floor(y0 / TILE); row * TILE < y1; row++) {
      for (let column = Math.floor(x0 / TILE); column * TILE < x1; column++) {
        const tile = row * this.across + column;
        if (!this.step.has(tile)) this.step.set(tile, this.copy(tile));
      }
    }
  }

  clip(x0, y0, x1, y1) {
    const inside = (v, most) => Math.min(Math.max(v, 0), most);
    return [inside(x0, this.width), inside(y0, this.height), inside(x1, this.width), inside(y1, this.height)];
  }

  // Paint (1) or erase (0) all pixels whose centre lies within r of the line from a to b; gives the box that was touched.
  line(ax, ay, bx, by, r, value) {
    const box = this.clip(
      Math.floor(Math.min(ax, bx) - r), Math.floor(Math.min(ay, by) - r),
      Math.ceil(Math.max(ax, bx) + r), Math.ceil(Math.max(ay, by) + r),
    );
    this.keep(...box);
    const length = Math.hypot(bx - ax, by - ay);
    const nx = length ? (-(by - ay) / length) * r : 0;
    const ny = length ? ((bx - ax) / length) * r : 0;
    const corners = [[ax + nx, ay + ny], [bx + nx, by + ny], [bx - nx, by - ny], [ax - nx, ay - ny]];
    for (let y = box[1]; y < box[3]; y++) {
      const cy = y + 0.5;
      let low = Infinity;
      let high = -Infinity;
      for (const [px, py] of [[ax, ay], [bx, by]]) {
        const half = r * r - (cy - py) * (cy - py);
        if (half >= 0) {
          low = Math.min(low, px - Math.sqrt(half));
          high = Math.max(high, px + Math.sqrt(half));
        }
      }
      for (let k = 0; k < 4 && length; k++) {
        const [px, py] = corners[k];
        const [qx, qy] = corners[(k + 1) % 4];
        if ((py <= cy && cy <= qy) || (qy <= cy && cy <= py)) {
          const share = qy === py ? 0 : (cy - py) / (qy - py);
          low = Math.min(low, px + share * (qx - px));
          high = Math.max(high, px + share * (qx - px));
        }
      }
      const from = Math.max(Math.ceil(low - 0.5), box[0]);
      const to = Math.min(Math.floor(high - 0.5) + 1, box[2]);
      if (from < to) this.data.fill(value, y * this.width + from, y * this.width + to);
    }
    return box;
  }

  rect(x0, y0, x1, y1, value) {
    const box = this.clip(Math.round(x0), Math.round(y0), Math.round(x1), Math.round(y1));
    this.keep(...box);
    for (let y = box[1]; y < box[3]; y++) this.data.fill(value, y * this.width + box[0], y * this.width + box[2]);
    return box;
  }

  // Replace everything in one step, by f(old value, index).
  map(f) {
    this.begin();
    this.keep(0, 0, this.width, this.height);
    for (let k = 0; k < this.data.length; k++) this.data[k] = f(this.data[k], k);
    this.end();
    return [0, 0, this.width, this.height];
  }

  // The smallest box around what is painted, null where nothing is.
  box() {
    if (!this.count) return null;
    const { width, height, data } = this;
    let [x0, y0, x1, y1] = [width, height, 0, 0];
    for (let y = 0; y < height; y++) {
      const row = data.subarray(y * width, (y + 1) * width);
      const first = row.indexOf(1);
      if (first < 0) continue;
      x0 = Math.min(x0, first);
      x1 = Math.max(x1, row.lastIndexOf(1) + 1);
      y0 = Math.min(y0, y);
      y1 = y + 1;
    }
    return [x0, y0, x1, y1];
  }
}

function sum(bytes) {
  let total = 0;
  for (let k = 0; k < bytes.length; k++) total += bytes[k];
  return total;
}

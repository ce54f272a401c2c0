// A picture to mark: the draft, on which a mask is painted, or the reference, on which one box is drawn.
// Three canvases at the screen's resolution: picture, tint (the mask), and marks (cursor, boxes), which takes the input.

import { Mask } from './mask.js';
import { draw, gestures, sharp, View } from './pictures.js';

const RED = 255, GREEN = 0, BLUE = 160;
const colour = (alpha) => ((alpha << 24) | (BLUE << 16) | (GREEN << 8) | RED) >>> 0;
const INSIDE = colour(90), EDGE = colour(255);
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Board {
  // paints: whether it holds a mask; feather: sigma in px of the soft edge that is shown; changed: called after each change.
  constructor(root, { paints, feather, changed }) {
    Object.assign(this, { root, paints, sigma: feather, changed });
    [this.base, this.tint, this.top] = root.querySelectorAll('canvas');
    this.view = new View();
    this.picture = null;
    this.mask = null;
    this.box = null; // of the reference: [x0, y0, x1, y1]
    this.tool = paints ? 'brush' : 'box';
    this.radius = 16;
    this.feather = true;
    this.cursor = null; // in the picture
    this.pen = false; // the keyboard holds the brush down
    this.anchor = null; // where a box begins
    this.drag = null;
    this.waits = false;
    gestures(this.top, {
      down: (x, y, event) => this.down(x, y, event),
      move: (x, y) => this.move(x, y),
      up: () => this.up(),
      cancel: () => this.cancel(),
      hover: (x, y) => { this.cursor = this.view.at(x, y); this.redrawMarks(); },
      pan: (dx, dy) => this.pan(dx, dy),
      zoom: (factor, x, y) => this.zoom(factor, x, y),
    });
    this.top.addEventListener('pointerleave', () => { if (!this.drag) { this.cursor = null; this.redrawMarks(); } });
    this.top.addEventListener('contextmenu', (event) => event.preventDefault());
    this.top.addEventListener('keydown', (event) => this.key(event));
    this.top.addEventListener('keyup', (event) => { if (event.key === ' ' && this.pen) this.lift(); });
    this.top.addEventListener('blur', () => { if (this.pen) this.lift(); this.redrawMarks(); });
    this.top.addEventListener('focus', () => this.redrawMarks());
    new ResizeObserver(() => this.resized()).observe(root);
  }

  show(picture) {
    this.picture = picture;
    this.mask = this.paints ? new Mask(picture.width, picture.height) : null;
    this.radius = Math.max(2, Math.round(Math.max(picture.width, picture.height) / 40));
    this.box = this.anchor = this.cursor = null;
    this.root.classList.add('filled');
    this.resized();
    this.fit();
    this.changed();
  }

  // ---- drawing

  resized() {
    let fresh = false;
    for (const canvas of [this.base, this.tint, this.top]) fresh = sharp(canvas) || fresh;
    if (fresh && this.picture) this.fit();
  }

  fit() {
    if (!this.picture) return;
    this.view.fit(this.top, [0, 0, this.picture.width, this.picture.height]);
    this.redraw();
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.moved();
  }

  zoom(factor, x = this.top.width / 2, y = this.top.height / 2) {
    this.view.zoom(factor, x, y);
    this.moved();
  }

  moved() {
    if (!this.picture) return;
    this.view.hold(this.top, this.picture);
    this.redraw();
  }

  redraw() {
    if (this.waits) return;
    this.waits = true;
    requestAnimationFrame(() => {
      this.waits = false;
      const context = this.base.getContext('2d', { alpha: false });
      context.fillStyle = getComputedStyle(this.root).backgroundColor;
      context.fillRect(0, 0, this.base.width, this.base.height);
      if (this.picture) draw(context, this.picture, this.view);
      this.redrawTint(0, 0, this.tint.width, this.tint.height);
      this.redrawMarks();
    });
  }

  // Draw the tint where a box of the mask has changed.
  retint([x0, y0, x1, y1]) {
    const { scale, x, y } = this.view;
    const more = 2 + (scale >= 1 ? 6 * scale : 0);
    this.redrawTint(
      Math.max(0, Math.floor(x + x0 * scale - more)), Math.max(0, Math.floor(y + y0 * scale - more)),
      Math.min(this.tint.width, Math.ceil(x + x1 * scale + more)),
      Math.min(this.tint.height, Math.ceil(y + y1 * scale + more)),
    );
  }

  redrawTint(x0, y0, x1, y1) {
    if (!this.mask || x1 <= x0 || y1 <= y0) return;
    const context = this.tint.getContext('2d');
    const image = context.createImageData(x1 - x0, y1 - y0);
    const out = new Uint32Array(image.data.buffer);
    if (this.feather && this.view.scale >= 1) this.soft(out, x0, y0, x1, y1);
    else this.hard(out, x0, y0, x1, y1);
    context.putImageData(image, x0, y0);
  }

  // The mask flat with its outline: the nearest pixel for each of the screen, one more all around.
  hard(out, x0, y0, x1, y1) {
    const { data, width, height } = this.mask;
    const { scale, x, y } = this.view;
    const wide = x1 - x0 + 2, high = y1 - y0 + 2;
    const columns = new Int32Array(wide);
    for (let k = 0; k < wide; k++) columns[k] = Math.floor((x0 - 1 + k + 0.5 - x) / scale);
    const near = new Uint8Array(wide * high);
    for (let j = 0; j < high; j++) {
      const row = Math.floor((y0 - 1 + j + 0.5 - y) / scale);
      if (row < 0 || row >= height) continue;
      for (let k = 0; k < wide; k++) {
        const column = columns[k];
        if (column >= 0 && column < width) near[j * wide + k] = data[row * width + column];
      }
    }
    for (let j = 1; j < high - 1; j++) {
      for (let k = 1; k < wide - 1; k++) {
        const at = j * wide + k;
        if (!near[at]) continue;
        const whole = near[at - 1] & near[at + 1] & near[at - wide] & near[at + wide];
        out[(j - 1) * (wide - 2) + k - 1] = whole ? INSIDE : EDGE;
      }
    }
  }

  // The mask as it blends: weights clip(2 blur - 1, 0, 1) inside it, as refbench.crops.soft_mask has them.
  soft(out, x0, y0, x1, y1) {
    const { width, height, data } = this.mask;
    const { scale, x, y } = this.view;
    const reach = Math.ceil(this.sigma * 4);
    const [left, top] = [Math.floor((x0 - x) / scale), Math.floor((y0 - y) / scale)];
    const [wide, high] = [Math.ceil((x1 - x) / scale) - left + 1, Math.ceil((y1 - y) / scale) - top + 1];
    const kernel = Float32Array.from({ length: 2 * reach + 1 }, (_, k) => Math.exp(-((k - reach) ** 2) / (2 * this.sigma ** 2)));
    const sum = kernel.reduce((a, b) => a + b);
    const across = new Float32Array(wide * (high + 2 * reach));
    const inside = (v, most) => Math.min(Math.max(v, 0), most - 1);
    for (let j = 0; j < high + 2 * reach; j++) {
      const row = inside(top - reach + j, height) * width;
      for (let k = 0; k < wide; k++) {
        let total = 0;
        for (let n = -reach; n <= reach; n++) if (data[row + inside(left + k + n, width)]) total += kernel[n + reach];
        across[j * wide + k] = total / sum;
      }
    }
    const alpha = new Uint32Array(wide * high);
    for (let j = 0; j < high; j++) {
      const row = top + j;
      if (row < 0 || row >= height) continue;
      for (let k = 0; k < wide; k++) {
        const column = left + k;
        if (column < 0 || column >= width || !data[row * width + column]) continue;
        let total = 0;
        for (let n = 0; n <= 2 * reach; n++) total += across[(j + n) * wide + k] * kernel[n];
        alpha[j * wide + k] = colour(30 + Math.round(75 * Math.min(Math.max((2 * total) / sum - 1, 0), 1)));
      }
    }
    for (let j = y0; j < y1; j++) {
      const row = (Math.floor((j + 0.5 - y) / scale) - top) * wide;
      for (let k = x0; k < x1; k++) out[(j - y0) * (x1 - x0) + k - x0] = alpha[row + Math.floor((k + 0.5 - x) / scale) - left];
    }
  }

  redrawMarks() {
    const context = this.top.getContext('2d');
    context.clearRect(0, 0, this.top.width, this.top.height);
    if (!this.picture) return;
    const { scale, x, y } = this.view;
    const twice = (path) => {
      for (const [style, line] of [['#000', 3], ['#fff', 1.5]]) {
        context.strokeStyle = style;
        context.lineWidth = line;
        context.beginPath();
        path();
        context.stroke();
      }
    };
    const rect = ([x0, y0, x1, y1]) => context.rect(x + x0 * scale, y + y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale);
    if (this.box) {
      context.fillStyle = 'rgb(0 0 0 / 35%)';
      context.beginPath();
      rect([0, 0, this.picture.width, this.picture.height]);
      rect(this.box);
      context.fill('evenodd');
      twice(() => rect(this.box));
    }
    if (this.anchor && this.cursor) twice(() => rect(boxOf(this.anchor, this.cursor)));
    if (!this.cursor) return;
    const [cx, cy] = [x + this.cursor[0] * scale, y + this.cursor[1] * scale];
    if (this.tool === 'brush' || this.tool === 'eraser') {
      twice(() => context.arc(cx, cy, Math.max(this.radius * scale, 1), 0, 2 * Math.PI));
    }
    if (this.tool === 'box' || document.activeElement === this.top) {
      twice(() => { context.moveTo(cx - 9, cy); context.lineTo(cx + 9, cy); context.moveTo(cx, cy - 9); context.lineTo(cx, cy + 9); });
    }
  }

  // ---- acting

  down(x, y, event) {
    if (!this.picture) return;
    if (this.pen) this.lift();
    this.top.focus({ preventScroll: true });
    const at = this.view.at(x, y);
    const tool = event.button ? 'hand' : this.tool;
    this.drag = { tool, x, y, at };
    this.cursor = at;
    if (tool === 'box') this.anchor = at;
    else if (tool !== 'hand') {
      performance.clearMeasures('stroke');
      this.mask.begin();
      this.stroke(at, at);
    }
  }

  move(x, y) {
    const drag = this.drag;
    if (!drag) return;
    const at = this.view.at(x, y);
    if (drag.tool === 'hand') this.pan(x - drag.x, y - drag.y);
    else if (drag.tool !== 'box') this.stroke(drag.at, at);
    Object.assign(drag, { x, y, at });
  }

  up() {
    const drag = this.drag;
    this.drag = null;
    if (!drag) return;
    if (drag.tool === 'box') this.close(this.cursor);
    else if (drag.tool !== 'hand') this.finish();
  }

  cancel() {
    if (this.mask && this.mask.step) {
      const box = this.mask.abandon();
      if (box) this.retint(box);
    }
    this.drag = this.anchor = null;
    this.pen = false;
    this.redrawMarks();
  }

  stroke(from, to) {
    const start = performance.now();
    this.retint(this.mask.line(...from, ...to, this.radius, this.tool === 'eraser' ? 0 : 1));
    performance.measure('stroke', { start });
  }

  finish() {
    this.mask.end();
    this.changed();
  }

  // The second corner of a box: the mask is painted there, or the reference's box is there.
  close(at) {
    const box = boxOf(this.anchor, at).map(Math.round);
    const inside = (v, most) => Math.min(Math.max(v, 0), most);
    const [x0, y0, x1, y1] = box.map((v, k) => inside(v, k % 2 ? this.picture.height : this.picture.width));
    this.anchor = null;
    if (x1 - x0 >= 2 && y1 - y0 >= 2) {
      if (this.paints) {
        this.mask.begin();
        this.retint(this.mask.rect(x0, y0, x1, y1, 1));
        this.mask.end();
      } else {
        this.box = [x0, y0, x1, y1];
      }
      this.changed();
    }
    this.redrawMarks();
  }

  // ---- the keyboard on the picture

  key(event) {
    if (!this.picture || this.drag || event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow) {
      this.step(arrow, event.shiftKey);
    } else if (event.key === ' ' || event.key === 'Enter') {
      if (event.repeat) return event.preventDefault();
      this.cursor ||= this.view.at(this.top.width / 2, this.top.height / 2);
      if (this.tool === 'box') {
        if (this.anchor) this.close(this.cursor);
        else this.anchor = [...this.cursor];
      } else if (this.tool !== 'hand') {
        if (this.pen) this.lift();
        else {
          this.pen = true;
          performance.clearMeasures('stroke');
          this.mask.begin();
          this.stroke(this.cursor, this.cursor);
        }
      }
    } else if (event.key === 'Escape') {
      this.cancel();
    } else {
      return;
    }
    event.preventDefault();
    this.redrawMarks();
  }

  step([dx, dy], fine) {
    const { scale } = this.view;
    if (this.tool === 'hand') return this.pan((-dx * this.top.width) / 8, (-dy * this.top.height) / 8);
    const far = fine ? 1 : this.tool === 'box' ? Math.max(1, 12 / scale) : Math.max(1, this.radius / 2);
    const from = this.cursor || this.view.at(this.top.width / 2, this.top.height / 2);
    const inside = (v, most) => Math.min(Math.max(v, 0), most);
    const to = [inside(from[0] + dx * far, this.picture.width), inside(from[1] + dy * far, this.picture.height)];
    if (this.pen) this.stroke(from, to);
    this.cursor = to;
    const [x, y] = [this.view.x + to[0] * scale, this.view.y + to[1] * scale];
    if (x < 0 || y < 0 || x > this.top.width || y > this.top.height) this.pan(-dx * far * scale, -dy * far * scale);
  }

  lift() {
    this.pen = false;
    this.finish();
    this.redrawMarks();
  }

  // ---- commands of the tool bar

  choose(tool) {
    if (this.pen) this.lift();
    this.anchor = null;
    this.tool = tool;
    this.redrawMarks();
  }

  // Apply a change of the mask that gives the box it touched, as undo, redo and map do.
  change(act) {
    if (!this.mask || this.mask.step) return;
    const box = act(this.mask);
    if (!box) return;
    this.retint(box);
    this.changed();
  }
}

function boxOf([ax, ay], [bx, by]) {
  return [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
}

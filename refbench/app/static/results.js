// Results side by side: a card a job, all with one slider and one zoom, so that the same spot is compared.

import { ask, bitmapOf, draw, gestures, post, sharp, View } from './pictures.js';

const EVERY = 350; // ms between questions about a job

// What all cards share: the slider (0 shows the result alone, 1 the draft), and the spot in shares of the picture.
export class Shared {
  constructor() {
    Object.assign(this, { split: 0.5, zoom: 1, x: 0.5, y: 0.5, aim: null, cards: new Set() });
  }

  set(values) {
    Object.assign(this, values);
    this.split = Math.min(Math.max(this.split, 0), 1);
    this.zoom = Math.min(Math.max(this.zoom, 0.5), 200);
    this.x = Math.min(Math.max(this.x, 0), 1);
    this.y = Math.min(Math.max(this.y, 0), 1);
    for (const card of this.cards) card.redraw();
  }

  // Show a box of a picture with as much room again around it, and lay the slider through it.
  focus([x0, y0, x1, y1], { width, height }) {
    const zoom = Math.min(width / (2 * (x1 - x0)), height / (2 * (y1 - y0)));
    this.aim = (x0 + x1) / 2;
    this.set({ zoom: Math.max(1, zoom), x: (x0 + x1) / 2 / width, y: (y0 + y1) / 2 / height });
  }
}

export class Card {
  // job: as the server told it; draft: the picture that was sent; about: {model, seed, region}.
  constructor(job, draft, about, shared, { moved, gone, say }) {
    Object.assign(this, { job, draft, about, shared, moved, say });
    this.root = document.getElementById('card').content.firstElementChild.cloneNode(true);
    this.part = (name) => this.root.querySelector(`.${name}`);
    this.part('name').textContent = about.model;
    this.part('seed').textContent = about.seed ? `seed ${about.seed}` : '';
    this.root.setAttribute('aria-label', `Result of ${about.model}`);
    this.canvas = this.part('compare');
    this.after = null;
    this.part('cancel').addEventListener('click', () => this.cancel());
    this.part('remove').addEventListener('click', async () => {
      await this.cancel();
      this.shared.cards.delete(this);
      this.root.remove();
      gone(this);
    });
    this.part('copy').addEventListener('click', () => this.copy());
    this.part('command').value = job.command;
    for (const what of ['result', 'mask', 'all']) this.part(what).href = `/api/jobs/${job.id}/${what}`;
    this.dragging = null;
    gestures(this.canvas, {
      down: (x, y, event) => {
        const near = Math.abs(x - this.shared.split * this.canvas.width) < 24 * (this.canvas.width / this.canvas.clientWidth);
        this.dragging = { x, y, what: near || event.pointerType === 'touch' ? 'split' : 'pan' };
      },
      move: (x, y) => {
        const { what } = this.dragging;
        if (what === 'split') this.slide(x / this.canvas.width);
        else this.pan(x - this.dragging.x, y - this.dragging.y);
        this.dragging = { x, y, what };
      },
      up: () => { this.dragging = null; },
      cancel: () => { this.dragging = null; },
      hover: () => {},
      pan: (dx, dy) => this.pan(dx, dy),
      zoom: (factor) => this.shared.set({ zoom: this.shared.zoom * factor }),
    });
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
    this.follow();
  }

  get running() {
    return ['waiting', 'loading', 'refining'].includes(this.job.state);
  }

  async follow() {
    while (this.running) {
      this.told();
      await new Promise((wake) => setTimeout(wake, EVERY));
      try {
        this.job = await ask(`/api/jobs/${this.job.id}`);
      } catch (error) {
        this.job = { ...this.job, state: 'failed', error: error.message };
      }
    }
    if (this.job.state === 'done') {
      try {
        this.after = await bitmapOf(await (await ask(`/api/jobs/${this.job.id}/result`)).blob());
      } catch (error) {
        this.job = { ...this.job, state: 'failed', error: error.message };
      }
    }
    this.told();
    this.redraw();
    this.say(`${this.about.model}: ${this.job.state}.`, this.job.state === 'failed');
  }

  words() {
    const { state, ahead, seconds, error, said } = this.job;
    const time = `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
    switch (state) {
      case 'waiting': return ahead ? `Waiting, ${ahead} ahead` : 'Waiting';
      case 'loading': return `Loading the model, ${time}`;
      case 'refining': return `Refining, ${time}`;
      case 'done': return said.charAt(0).toUpperCase() + said.slice(1);
      case 'cancelled': return 'Cancelled';
      default: return error;
    }
  }

  told() {
    const { state, share, usual, seconds } = this.job;
    this.root.dataset.state = this.running ? 'running' : state;
    this.root.dataset.job = this.job.id;
    this.part('state').textContent = this.words();
    const bar = this.part('progress');
    const guessed = state === 'refining' && usual ? Math.min(seconds / usual, 0.95) : null;
    if (share ?? guessed) bar.value = share ?? guessed;
    else bar.removeAttribute('value');
  }

  async cancel() {
    if (!this.running) return;
    this.part('cancel').disabled = true;
    await post(`/api/jobs/${this.job.id}/cancel`).catch((error) => this.say(error.message));
  }

  async copy() {
    const field = this.part('command');
    try {
      await navigator.clipboard.writeText(field.value);
      this.say('The command is copied.');
    } catch { // not a secure page, or refused: to be copied by hand
      field.closest('details').open = true;
      field.select();
      this.say('The command is selected; copy it.');
    }
  }

  slide(split) {
    this.shared.set({ split });
    this.moved();
  }

  scale() {
    const { width, height } = this.draft;
    return this.shared.zoom * Math.min(this.canvas.width / width, this.canvas.height / height);
  }

  pan(dx, dy) {
    const scale = this.scale();
    this.shared.set({
      x: this.shared.x - dx / scale / this.draft.width,
      y: this.shared.y - dy / scale / this.draft.height,
    });
  }

  redraw() {
    if (!this.after || this.waits) return;
    this.waits = true;
    requestAnimationFrame(() => {
      this.waits = false;
      sharp(this.canvas);
      const { width, height } = this.canvas;
      const context = this.canvas.getContext('2d', { alpha: false });
      const view = new View();
      view.scale = this.scale();
      view.x = held(width / 2 - this.shared.x * this.draft.width * view.scale, width, this.draft.width * view.scale);
      view.y = held(height / 2 - this.shared.y * this.draft.height * view.scale, height, this.draft.height * view.scale);
      if (this.shared.aim !== null) {
        const split = (view.x + this.shared.aim * view.scale) / width;
        this.shared.aim = null;
        this.slide(split);
      }
      const split = Math.round(this.shared.split * width);
      context.fillStyle = getComputedStyle(this.canvas).backgroundColor;
      context.fillRect(0, 0, width, height);
      for (const [picture, from, to] of [[this.draft, 0, split], [this.after, split, width]]) {
        context.save();
        context.beginPath();
        context.rect(from, 0, to - from, height);
        context.clip();
        draw(context, picture, view);
        context.restore();
      }
      context.fillStyle = '#fff';
      context.fillRect(split - 1, 0, 2, height);
      context.fillStyle = '#000';
      context.fillRect(split - 2, 0, 1, height);
      context.fillRect(split + 1, 0, 1, height);
    });
  }
}

// Where a picture begins so that it fills what it can: in the middle where it is smaller, else without a gap.
function held(start, room, size) {
  return size <= room ? (room - size) / 2 : Math.min(Math.max(start, room - size), 0);
}

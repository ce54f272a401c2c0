// The page: pictures come in, tools and keys reach the boards, jobs go out and become cards.

import { Board } from './board.js';
import { ask, bitmapOf, pictureOf, post, upload } from './pictures.js';
import { maskPng } from './png.js';
import { Card, Shared } from './results.js';

const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
let quiet; // takes what was said away, unless it went wrong
const say = (text, bad = false) => {
  clearTimeout(quiet);
  if (text && !bad) quiet = setTimeout(() => say(''), 8000);
  find('#said').textContent = text;
  find('#said').classList.toggle('bad', bad);
};
// An action that says why where it fails.
const tried = (act) => async (...given) => {
  try {
    return await act(...given);
  } catch (error) {
    say(error.message, true);
    return null;
  }
};

const about = await ask('/api/about').catch((error) => { say(error.message, true); throw error; });
const shared = new Shared();
let count = 0; // of pictures that were chosen: of two at once the later one stays

// ---- pictures in

class Side {
  constructor(id, paints) {
    this.pane = find(`#${id}`);
    this.kind = id;
    this.sent = null;
    this.blob = null;
    this.board = new Board(find('.board', this.pane), { paints, feather: about.feather, changed: () => this.changed() });
    find('.head input', this.pane).addEventListener('change', tried(async (event) => {
      const [file] = event.target.files;
      event.target.value = '';
      if (file) await this.take(file, file.name);
    }));
    this.pane.addEventListener('dragover', (event) => {
      event.preventDefault();
      this.pane.classList.add('over');
    });
    for (const kind of ['dragleave', 'drop']) this.pane.addEventListener(kind, () => this.pane.classList.remove('over'));
    this.pane.addEventListener('drop', tried(async (event) => {
      event.preventDefault();
      const files = [...event.dataTransfer.files];
      if (files.length > 1 && this.kind === 'draft') await sides.reference.take(files[1], files[1].name);
      if (files.length) await this.take(files[0], files[0].name);
    }));
    for (const button of all('[data-tool]', this.pane)) button.addEventListener('click', () => this.choose(button.dataset.tool));
    for (const button of all('[data-act]', this.pane)) button.addEventListener('click', () => this.act(button.dataset.act));
    find('[role=radiogroup]', this.pane).addEventListener('keydown', (event) => this.radio(event));
    this.choose(this.board.tool);
  }

  async take(blob, name) {
    if (blob.size > about.most_bytes) {
      throw new Error(`Expected at most ${about.most_bytes / 1e6} MB, but ${name} has ${(blob.size / 1e6).toFixed(0)} MB; save it smaller.`);
    }
    const mine = (this.taking = ++count);
    this.fact('Reading…');
    try {
      const sent = await upload(blob, name);
      const picture = await pictureOf(blob, sent);
      if (mine !== this.taking) return;
      Object.assign(this, { blob, sent });
      this.board.show(picture);
      say('');
    } finally {
      if (mine === this.taking) this.fact(this.sent ? `${this.sent.name}, ${this.sent.width} × ${this.sent.height} px` : '');
    }
  }

  fact(text) {
    find('.facts', this.pane).textContent = text;
  }

  // The name under which the server has it; sent again where it was removed to make room.
  async id() {
    const gone = await ask(`/api/pictures/${this.sent.id}`, { method: 'HEAD' }).then(() => false, (error) => error.status === 404);
    if (gone) this.sent = await upload(this.blob, this.sent.name);
    return this.sent.id;
  }

  choose(tool) {
    const buttons = all('[data-tool]', this.pane);
    if (!buttons.some((button) => button.dataset.tool === tool)) return;
    for (const button of buttons) {
      button.setAttribute('aria-checked', button.dataset.tool === tool);
      button.tabIndex = button.dataset.tool === tool ? 0 : -1;
    }
    this.board.choose(tool);
  }

  // Arrow keys move within the group of tools, as in every radio group.
  radio(event) {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const buttons = all('[data-tool]', this.pane);
    const at = buttons.findIndex((button) => button.dataset.tool === this.board.tool);
    const next = buttons[(at + by + buttons.length) % buttons.length];
    this.choose(next.dataset.tool);
    next.focus();
  }

  act(name) {
    const { board } = this;
    if (!board.picture) return;
    if (name === 'in' || name === 'out') board.zoom(name === 'in' ? 1.4 : 1 / 1.4);
    else if (name === 'fit') board.fit();
    else if (name === 'undo' || name === 'redo') board.change((mask) => mask[name]());
    else if (name === 'invert') board.change((mask) => mask.map((v) => 1 - v));
    else if (name === 'clear' && board.mask) board.change((mask) => (mask.count ? mask.map(() => 0) : null));
    else if (name === 'clear') {
      board.box = null;
      board.redrawMarks();
      this.changed();
    } else if (name === 'feather') {
      board.feather = !board.feather;
      find('[data-act=feather]').setAttribute('aria-pressed', board.feather);
      board.redraw();
    }
  }

  changed() {
    const { board } = this;
    if (board.mask) {
      const { count: painted, data, past, future } = board.mask;
      const share = (100 * painted) / data.length;
      const shown = share < 0.1 && painted ? 'under 0.1' : share.toFixed(1);
      const warn = share > 50 ? '. More than half: paint only what is wrong, or press Invert.' : '';
      find('#painted').textContent = `${painted.toLocaleString('en')} px painted, ${shown} %${warn}`;
      find('[data-act=undo]').disabled = !past.length;
      find('[data-act=redo]').disabled = !future.length;
      showSize();
    } else if (board.picture) {
      const [x0, y0, x1, y1] = board.box || [];
      this.fact(board.box ? `box ${x0}, ${y0}, ${x1 - x0} × ${y1 - y0} px` : `${this.sent.name}, ${this.sent.width} × ${this.sent.height} px`);
    }
  }
}

const sides = {};
sides.draft = new Side('draft', true);
sides.reference = new Side('reference', false);

document.addEventListener('paste', tried(async (event) => {
  const files = [...event.clipboardData.files].filter((file) => file.type.startsWith('image/'));
  if (!files.length) return;
  event.preventDefault();
  const here = Object.values(sides).find((side) => side.pane.contains(document.activeElement));
  const side = here || (sides.draft.sent ? sides.reference : sides.draft);
  await side.take(files[0], files[0].name === 'image.png' ? `pasted-${side.kind}.png` : files[0].name);
}));
for (const kind of ['dragover', 'drop']) document.addEventListener(kind, (event) => event.preventDefault()); // no leaving the page

// ---- the mask

const size = find('#size');
const { board } = sides.draft;
// The slider is logarithmic: 0 is one pixel, 100 a fifth of the picture.
const most = () => Math.max(2, Math.max(board.picture?.width || 0, board.picture?.height || 0) / 5);
function showSize() {
  size.value = Math.round((100 * Math.log(board.radius)) / Math.log(most()));
  size.setAttribute('aria-valuetext', `${Math.round(2 * board.radius)} px wide`);
}
function setRadius(radius) {
  board.radius = Math.min(Math.max(radius, 1), most());
  showSize();
  board.redrawMarks();
}
size.addEventListener('input', () => {
  board.radius = most() ** (size.value / 100);
  size.setAttribute('aria-valuetext', `${Math.round(2 * board.radius)} px wide`);
  board.redrawMarks();
});

async function openMask(blob) {
  if (!board.picture) throw new Error('Expected a draft first; a mask belongs to one.');
  const { bitmap, width, height } = await bitmapOf(blob).catch(() => { throw new Error('Expected a mask as a picture file, but it cannot be read.'); });
  if (width !== board.picture.width || height !== board.picture.height) {
    throw new Error(`Expected a mask of ${board.picture.width} × ${board.picture.height} px, but it has ${width} × ${height} px.`);
  }
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  board.change((mask) => mask.map((_, k) => (data[4 * k] > 127 ? 1 : 0)));
}
find('#mask-file').addEventListener('change', tried(async (event) => {
  const [file] = event.target.files;
  event.target.value = '';
  if (file) await openMask(file);
}));
find('#mask-save').addEventListener('click', tried(async () => {
  if (!board.mask) throw new Error('Expected a draft with a mask; choose a draft and paint first.');
  const { blob } = await maskPng(board.mask);
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = `${sides.draft.sent.name.replace(/\.[^.]*$/, '')}-mask.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}));

// ---- the model

const models = find('#model');
for (const model of about.models) models.add(new Option(model.name, model.name));
models.value = about.models.some((model) => model.name === 'omnirefiner') ? 'omnirefiner' : models.value;
function describe() {
  const model = about.models.find((one) => one.name === models.value);
  const price = model?.price ? ` About ${model.price} USD a picture.` : '';
  find('#about-model').textContent = model ? `${model.summary} ${model.licence ? `Licence ${model.licence}.` : ''}${price}` : '';
}
models.addEventListener('change', describe);
describe();
find('#prompt').placeholder = about.prompt;

async function run() {
  const { draft, reference } = sides;
  if (!draft.sent) throw new Error('Expected a draft; drop, paste or choose a picture, or take an example.');
  if (!reference.sent) throw new Error('Expected a reference; drop, paste or choose a picture that shows the detail right.');
  if (!board.mask.count) throw new Error('Expected a mask; paint over what is wrong in the draft.');
  if (board.mask.step) board.lift();
  const seed = Number(find('#seed').value || 0);
  if (!Number.isSafeInteger(seed) || seed < 0) throw new Error('Expected a whole number of 0 or more as seed.');
  say('Sending…');
  const ids = { draft: await draft.id(), reference: await reference.id() };
  const picture = board.picture;
  const region = board.mask.box();
  const { blob, painted } = await maskPng(board.mask);
  ids.mask = (await post(`/api/masks?draft=${ids.draft}&painted=${painted}`, blob)).id;
  const [x0, y0, x1, y1] = reference.board.box || [];
  const box = reference.board.box ? [x0, y0, x1 - x0, y1 - y0] : null;
  const asked = { ...ids, model: models.value, prompt: find('#prompt').value, seed, reference_box: box };
  const job = await post('/api/jobs', JSON.stringify(asked));
  const card = new Card(job, picture, { model: asked.model, seed, region }, shared, {
    moved: () => { find('#split').value = Math.round(shared.split * 1000); },
    gone: () => { find('#results').hidden = !shared.cards.size; },
    say,
  });
  if (![...shared.cards].some((one) => one.draft === picture)) shared.focus(region, picture);
  shared.cards.add(card);
  find('#cards').prepend(card.root);
  find('#results').hidden = false;
  say(`${asked.model} is asked.`);
  card.root.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
}
let sending = false;
find('#ask').addEventListener('submit', tried(async (event) => {
  event.preventDefault();
  if (sending) return;
  sending = true;
  try {
    await run();
  } finally {
    sending = false;
  }
}));

// ---- results

find('#split').addEventListener('input', (event) => shared.set({ split: event.target.value / 1000 }));
find('#closer-in').addEventListener('click', () => shared.set({ zoom: shared.zoom * 1.4 }));
find('#closer-out').addEventListener('click', () => shared.set({ zoom: shared.zoom / 1.4 }));
find('#whole').addEventListener('click', () => shared.set({ zoom: 1, x: 0.5, y: 0.5 }));
find('#detail').addEventListener('click', () => {
  const [card] = [...shared.cards].reverse();
  if (card) shared.focus(card.about.region, card.draft);
});

// ---- examples

for (const example of about.examples) {
  const button = document.createElement('button');
  const picture = new Image(120, 120);
  button.type = 'button';
  button.dataset.id = example.id;
  picture.loading = 'lazy';
  picture.alt = '';
  picture.src = `/api/examples/${example.id}/thumb`;
  button.append(picture, example.task);
  button.setAttribute('aria-label', `Example ${example.id}`);
  button.addEventListener('click', tried(async () => {
    say(`Taking ${example.id}…`);
    const at = `/api/examples/${example.id}`;
    const [facts, ...files] = await Promise.all([
      ask(at), ...['draft', 'reference', 'mask'].map(async (what) => (await ask(`${at}/${what}`)).blob()),
    ]);
    await Promise.all([
      sides.draft.take(files[0], `${example.id}-draft.png`),
      sides.reference.take(files[1], `${example.id}-reference.png`),
    ]);
    await openMask(files[2]);
    find('#prompt').value = facts.prompt;
    if (facts.reference_box) {
      const [x, y, width, height] = facts.reference_box;
      sides.reference.board.box = [x, y, x + width, y + height];
      sides.reference.board.redrawMarks();
      sides.reference.changed();
    }
    say(`${example.id} is ready: choose a model and press Refine.`);
    find('#draft').scrollIntoView({ block: 'nearest', behavior: 'smooth' });
  }));
  find('.strip').append(button);
}
find('#examples').hidden = !about.examples.length;

// ---- keys

const dialog = find('#keys');
find('#keys-open').addEventListener('click', () => dialog.showModal());
const TOOLS = { b: 'brush', e: 'eraser', x: 'box', h: 'hand' };
const ACTS = { z: 'undo', y: 'redo', i: 'invert', c: 'clear', f: 'feather', '+': 'in', '=': 'in', '-': 'out', 0: 'fit' };
document.addEventListener('keydown', (event) => {
  if (dialog.open) return;
  const key = event.key.toLowerCase();
  const typing = event.target.matches('textarea, select, input:not([type=range]):not([type=file])');
  const steered = event.ctrlKey || event.metaKey;
  if (steered && event.key === 'Enter') {
    event.preventDefault();
    find('#ask').requestSubmit();
    return;
  }
  if (typing || event.altKey) return;
  if (steered) {
    if (key !== 'z' && key !== 'y') return;
    event.preventDefault();
    sides.draft.act(key === 'y' || event.shiftKey ? 'redo' : 'undo');
    return;
  }
  const side = sides.reference.pane.contains(event.target) ? sides.reference : sides.draft;
  if (event.key === '?') dialog.showModal();
  else if (TOOLS[key]) side.choose(TOOLS[key]);
  else if (ACTS[key]) (side.board.mask || !['undo', 'redo', 'invert', 'feather'].includes(ACTS[key]) ? side : sides.draft).act(ACTS[key]);
  else if (key === '[' || key === ']') setRadius(board.radius * (key === ']' ? 1.25 : 0.8));
  else return;
  event.preventDefault();
});
document.documentElement.dataset.ready = 'yes';

// Talking to the server, and pictures as the screen needs them: whole, and small for when they are seen from afar.

const SMALL = 1600; // longest side in px

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error('The page no longer answers; is the command still running?');
  }
  const type = answer.headers.get('content-type') || '';
  const told = type.includes('json') ? await answer.json() : null;
  if (!answer.ok) {
    const error = new Error((told && told.error) || `The page answered with status ${answer.status}.`);
    error.status = answer.status;
    throw error;
  }
  return told || answer;
}

export const post = (path, body) => ask(path, { method: 'POST', body });

export function upload(blob, name) {
  return post(`/api/pictures?name=${encodeURIComponent(name)}`, blob);
}

export async function bitmapOf(blob) {
  const bitmap = await createImageBitmap(blob); // turned as EXIF says, like the server does
  return { bitmap, small: smaller(bitmap), width: bitmap.width, height: bitmap.height };
}

// The picture of an upload; of a format that this browser does not read, as the server shows it.
export async function pictureOf(blob, sent) {
  const own = await bitmapOf(blob).catch(() => null);
  if (own && own.width === sent.width && own.height === sent.height) return own;
  return bitmapOf(await (await ask(`/api/pictures/${sent.id}`)).blob());
}

function smaller(bitmap) {
  const share = SMALL / Math.max(bitmap.width, bitmap.height);
  if (share >= 1) return bitmap;
  const canvas = document.createElement('canvas');
  canvas.width = Math.round(bitmap.width * share);
  canvas.height = Math.round(bitmap.height * share);
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

// Where a picture lies on a canvas: a pixel of it is `scale` of the canvas, its corner is at x, y.
export class View {
  constructor() {
    Object.assign(this, { scale: 1, x: 0, y: 0 });
  }

  // Show a box [x0, y0, x1, y1] of the picture as large as it fits.
  fit(canvas, [x0, y0, x1, y1], most = Infinity) {
    this.scale = Math.min(canvas.width / (x1 - x0), canvas.height / (y1 - y0), most);
    this.x = canvas.width / 2 - ((x0 + x1) / 2) * this.scale;
    this.y = canvas.height / 2 - ((y0 + y1) / 2) * this.scale;
  }

  zoom(factor, x, y) {
    const scale = Math.min(Math.max(this.scale * factor, 0.005), 40);
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
  }

  // Keep at least a corner of the picture in sight.
  hold(canvas, picture) {
    const room = 40;
    this.x = Math.min(Math.max(this.x, room - picture.width * this.scale), canvas.width - room);
    this.y = Math.min(Math.max(this.y, room - picture.height * this.scale), canvas.height - room);
  }

  at(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }
}

export function draw(context, picture, view) {
  const { width, height } = context.canvas;
  const x0 = Math.max(0, -view.x / view.scale);
  const y0 = Math.max(0, -view.y / view.scale);
  const x1 = Math.min(picture.width, (width - view.x) / view.scale);
  const y1 = Math.min(picture.height, (height - view.y) / view.scale);
  if (x1 <= x0 || y1 <= y0) return;
  const source = view.scale * picture.width <= picture.small.width ? picture.small : picture.bitmap;
  const share = source.width / picture.width;
  const place = [view.x + x0 * view.scale, view.y + y0 * view.scale, (x1 - x0) * view.scale, (y1 - y0) * view.scale];
  context.fillStyle = '#fff'; // a model sees transparency over white
  const [left, top] = [Math.ceil(place[0]), Math.ceil(place[1])];
  context.fillRect(left, top, Math.floor(place[0] + place[2]) - left, Math.floor(place[1] + place[3]) - top);
  context.imageSmoothingEnabled = view.scale < 3;
  context.drawImage(source, x0 * share, y0 * share, (x1 - x0) * share, (y1 - y0) * share, ...place);
}

// Give a canvas the pixels of the screen below it; true where that changed.
export function sharp(canvas) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width === width && canvas.height === height) return false;
  canvas.width = width;
  canvas.height = height;
  return true;
}

// One finger or the mouse acts, two fingers zoom and pan, the wheel zooms. All places are in canvas pixels.
export function gestures(canvas, { down, move, up, cancel, hover, pan, zoom }) {
  const points = new Map();
  let acting = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const share = canvas.width / box.width;
    return [(event.clientX - box.left) * share, (event.clientY - box.top) * share];
  };
  const pair = () => {
    const [[ax, ay], [bx, by]] = [...points.values()];
    return { x: (ax + bx) / 2, y: (ay + by) / 2, apart: Math.max(Math.hypot(bx - ax, by - ay), 1) };
  };
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    points.set(event.pointerId, place(event));
    if (points.size === 1) {
      acting = event.pointerId;
      down(...place(event), event);
    } else if (acting !== null) {
      acting = null;
      cancel();
    }
  });
  canvas.addEventListener('pointermove', (event) => {
    hover(...place(event));
    if (!points.has(event.pointerId)) return;
    if (acting === event.pointerId) {
      const all = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
      for (const one of all.length ? all : [event]) move(...place(one), event);
      points.set(event.pointerId, place(event));
    } else if (points.size === 2) {
      const before = pair();
      points.set(event.pointerId, place(event));
      const after = pair();
      pan(after.x - before.x, after.y - before.y);
      zoom(after.apart / before.apart, after.x, after.y);
    }
  });
  const gone = (event) => {
    if (!points.delete(event.pointerId)) return;
    if (acting === event.pointerId) {
      acting = null;
      if (event.type === 'pointerup') up(...place(event), event);
      else cancel();
    }
  };
  canvas.addEventListener('pointerup', gone);
  canvas.addEventListener('pointercancel', gone);
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...place(event));
  }, { passive: false });
}

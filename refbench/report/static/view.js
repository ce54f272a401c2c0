// What pages with pictures share: elements, the theme, one zoom and pan for all pictures.
const $ = (id) => document.getElementById(id);

// el("button", {class: "x", onclick: f}, "text", node, ...): an element; null children are left out.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, item] of Object.entries(value)) node.style.setProperty(key, item);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}
function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Theme: as the system, light, or dark; remembered where the browser allows it.
const THEMES = ["auto", "light", "dark"];
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = "Theme: " + name;
  try { localStorage.setItem("refbench-theme", name); } catch { /* a page from disk may not be allowed to remember */ }
}
function savedTheme() {
  try { return THEMES.includes(localStorage.getItem("refbench-theme")) ? localStorage.getItem("refbench-theme") : "auto"; } catch { return "auto"; }
}

// Pictures that share one zoom and pan. A view is (zoom, x, y): x and y move the picture, in shares of the frame's size.
// The reference has a view of its own, as what it shows lies elsewhere in it: "Region" sends each to its own box, and
// from there both are moved alike. The whole picture is the whole picture in both.
const view = { zoom: 1, x: 0, y: 0 };
const referenceView = { ...view };
const MOST_ZOOM = 32;
const WHOLE = { zoom: 1, x: 0, y: 0 };

function place(node, where) {
  const reach = where.zoom - 1;
  where.x = Math.min(0, Math.max(-reach, where.x));
  where.y = Math.min(0, Math.max(-reach, where.y));
  node.style.setProperty("--zoom", where.zoom);
  node.style.setProperty("--x", where.x * 100 + "%");
  node.style.setProperty("--y", where.y * 100 + "%");
}
function applyView() {
  const stage = $("stage");
  if (!stage) return;
  place(stage, view);
  for (const node of stage.querySelectorAll("[data-what=reference]")) place(node, referenceView);
  stage.classList.toggle("pixels", view.zoom >= 4);
  stage.classList.toggle("zoomed", view.zoom > 1);
  const label = $("zoom-label");
  if (label) label.textContent = Math.round(view.zoom * 100) + " %";
}
// Zoom by a factor so that the point (px, py), in shares of the frame, stays where it is.
function zoomAt(factor, px = 0.5, py = 0.5) {
  for (const one of [view, referenceView]) {
    const zoom = Math.min(Math.max(one.zoom * factor, 1), MOST_ZOOM);
    const grown = zoom / one.zoom;
    Object.assign(one, { zoom, x: px - (px - one.x) * grown, y: py - (py - one.y) * grown });
  }
  if (view.zoom === 1) Object.assign(referenceView, WHOLE);
  applyView();
}
function panBy(x, y) {
  for (const one of [view, referenceView]) { one.x += x; one.y += y; }
  applyView();
}
function resetView() { for (const one of [view, referenceView]) Object.assign(one, WHOLE); applyView(); }
// The view that shows a box (px of the picture) as large as it fits, with a little room.
function zoomedTo(box, size, frame) {
  const scale = Math.min(frame.clientWidth / size[0], frame.clientHeight / size[1]);
  const [ox, oy] = [(frame.clientWidth - size[0] * scale) / 2, (frame.clientHeight - size[1] * scale) / 2];
  const [w, h] = [box[2] * scale, box[3] * scale];
  const zoom = Math.min(Math.max(Math.min(frame.clientWidth / w, frame.clientHeight / h) / 1.25, 1), MOST_ZOOM);
  return {
    zoom,
    x: 0.5 - ((ox + (box[0] + box[2] / 2) * scale) / frame.clientWidth) * zoom,
    y: 0.5 - ((oy + (box[1] + box[3] / 2) * scale) / frame.clientHeight) * zoom,
  };
}
// Where a frame's picture lies at zoom 1; in a frame of another shape it is less than the frame.
const boxOf = (frame) => frame.querySelector(".picture") ?? frame;
function toRegion(sample) {
  const box = boxOf($("stage").querySelector(".frame"));
  const reference = $("stage").querySelector(".picture[data-what=reference]") ?? box;
  Object.assign(view, zoomedTo(sample.box, sample.size, box));
  Object.assign(referenceView, sample.referenceBox ? zoomedTo(sample.referenceBox, sample.referenceSize, reference) : WHOLE);
  applyView();
}

// Mouse, pen and fingers on a frame: wheel and pinch zoom, drag moves; `slide` is told where an unzoomed drag goes.
function listen(stage, slide) {
  const down = new Map();
  const spot = (event, frame) => {
    const box = boxOf(frame).getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const frameOf = (event) => event.target.closest(".frame");
  stage.addEventListener("wheel", (event) => {
    const frame = frameOf(event);
    if (!frame) return;
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0018)), ...spot(event, frame));
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => {
    const frame = frameOf(event);
    if (!frame || event.button > 0) return;
    down.set(event.pointerId, { x: event.clientX, y: event.clientY, frame, handle: Boolean(event.target.closest(".handle")) });
    frame.setPointerCapture(event.pointerId);
    if (slide && (view.zoom === 1 || down.get(event.pointerId).handle)) slide(spot(event, frame)[0]);
  });
  stage.addEventListener("pointermove", (event) => {
    const held = down.get(event.pointerId);
    if (!held) return;
    const [w, h] = [boxOf(held.frame).clientWidth, boxOf(held.frame).clientHeight];
    if (down.size === 2) {
      const other = [...down.entries()].find(([key]) => key !== event.pointerId)[1];
      const before = Math.hypot(held.x - other.x, held.y - other.y);
      const after = Math.hypot(event.clientX - other.x, event.clientY - other.y);
      const box = boxOf(held.frame).getBoundingClientRect();
      if (before > 0) zoomAt(after / before, ((event.clientX + other.x) / 2 - box.left) / w, ((event.clientY + other.y) / 2 - box.top) / h);
    } else if (slide && (view.zoom === 1 || held.handle)) {
      slide(spot(event, held.frame)[0]);
    } else {
      panBy((event.clientX - held.x) / w, (event.clientY - held.y) / h);
    }
    held.x = event.clientX;
    held.y = event.clientY;
  });
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => down.delete(event.pointerId));
  stage.addEventListener("dblclick", (event) => {
    const frame = frameOf(event);
    if (frame) view.zoom > 1 ? resetView() : zoomAt(4, ...spot(event, frame));
  });
}

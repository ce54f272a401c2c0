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
function toRegion(sample) {
  const frame = $("stage").querySelector(".frame");
  Object.assign(view, zoomedTo(sample.box, sample.size, frame));
  Object.assign(referenceView, sample.referenceBox ? zoomedTo(sample.referenceBox, sample.referenceSize, frame) : WHOLE);
  applyView();
}

const image = (src, alt) => el("img", { src, alt, draggable: "false", decoding: "async" });
function describe(sample, what) {
  if (what === "draft") return `Draft of ${sample.id}`;
  if (what === "reference") return `Reference of ${sample.id}`;
  if (what === "target") return `Target of ${sample.id}`;
  return `${sample.id} refined by ${DATA.runs[Number(what)].name}`;
}
const nameOf = (what) => (/^\d+$/.test(what) ? DATA.runs[Number(what)].name : what[0].toUpperCase() + what.slice(1));

// What pictures are laid over and differ from: the target, or the draft where the suite has none.
const BASE = DATA.targets ? "target" : "draft";
// The picture itself: the target (or draft) below, what differs from it above.
function layers(sample, what) {
  if (what === "reference") return [image(sample.images.reference, describe(sample, what))];
  if (what === "target") return [image(sample.images.target, describe(sample, what))];
  const over = what === "draft" ? sample.images.draft : sample.outputs[Number(what)];
  const base = image(sample.images.target, describe(sample, what));
  return over === null ? [base] : [base, image(over, "")];
}
const failure = (sample, what) => (/^\d+$/.test(what) ? sample.failed[Number(what)] : null);

function outlineOf(sample, what) {
  const [w, h] = what === "reference" ? sample.referenceSize : sample.size;
  const box = sample.referenceBox;
  const path = what === "reference" ? (box ? `M${box[0]} ${box[1]}h${box[2]}v${box[3]}h${-box[2]}Z` : "") : sample.outline;
  return svg("svg", { class: "outline", viewBox: `0 0 ${w} ${h}`, preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true" },
    svg("path", { d: path, class: "under" }), svg("path", { d: path, class: "over" }));
}
// A picture that follows the shared view; `heat` shows its difference to the base instead.
function picture(sample, what, heat = false) {
  const why = failure(sample, what);
  if (why) return el("div", { class: "picture failed" }, el("p", {}, el("b", {}, nameOf(what) + " failed. "), why, " It is scored as the draft."));
  const stack = heat
    ? el("div", { class: "heat", role: "img", "aria-label": `Difference between ${describe(sample, what)} and the ${BASE}` },
      el("div", { class: "moved" }, el("div", { class: "stack" }, image(sample.images.target, "")), el("div", { class: "stack differ" }, layers(sample, what))))
    : el("div", { class: "moved" }, el("div", { class: "stack" }, layers(sample, what)));
  return el("div", { class: "picture", "data-what": what }, stack, el("div", { class: "moved marks" }, outlineOf(sample, what)));
}
function setGain(value) {
  const part = (Number(value) / 3).toFixed(4);
  const line = `${part} ${part} ${part} 0 0`;
  $("gain").setAttribute("values", `${line}  ${line}  ${line}  0 0 0 0 1`);
}

// Mouse, pen and fingers on a frame: wheel and pinch zoom, drag moves; `slide` is told where an unzoomed drag goes.
function listen(stage, slide) {
  const down = new Map();
  const spot = (event, frame) => {
    const box = frame.getBoundingClientRect();
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
    const [w, h] = [held.frame.clientWidth, held.frame.clientHeight];
    if (down.size === 2) {
      const other = [...down.entries()].find(([key]) => key !== event.pointerId)[1];
      const before = Math.hypot(held.x - other.x, held.y - other.y);
      const after = Math.hypot(event.clientX - other.x, event.clientY - other.y);
      const box = held.frame.getBoundingClientRect();
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

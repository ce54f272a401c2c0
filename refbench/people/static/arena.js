// The arena: one question at a time, pictures that zoom and flicker in step, a verdict by button or key.
"use strict";
let rater = "";
let question = null; // what is before the rater: token, prompt, sizes, boxes, outline
let since = null; // when all its pictures were there, in ms
let busy = false;
let blink = 0; // timer of the flicker
const FLICKER_MS = 700;
const stage = $("stage");

async function call(address, said) {
  const options = said === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(said) };
  let answer;
  try { answer = await fetch(address, options); } catch { throw new Error("The server does not answer; is the command still running? Votes given are kept."); }
  const found = await answer.json().catch(() => ({ error: `The server answered ${answer.status}.` }));
  if (!answer.ok) throw new Error(found.error);
  return found;
}
function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

// One frame: its pictures lie over each other, and one of them is on.
function layer(what) {
  const node = el("img", { src: `/picture/${question.token}/${what}`, alt: what === "left" || what === "right" ? `Result on the ${what}` : what[0].toUpperCase() + what.slice(1), draggable: "false" });
  const [w, h] = what === "reference" ? question.referenceSize : question.size;
  const box = question.referenceBox;
  const path = what === "reference" ? (box ? `M${box[0]} ${box[1]}h${box[2]}v${box[3]}h${-box[2]}Z` : "") : question.outline;
  const marks = svg("svg", { class: "outline", viewBox: `0 0 ${w} ${h}`, preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true" }, svg("path", { d: path, class: "under" }), svg("path", { d: path, class: "over" }));
  return el("div", { class: "picture", "data-what": what, style: { "--ratio": w / h } }, el("div", { class: "moved" }, el("div", { class: "stack" }, node)), el("div", { class: "moved marks" }, marks));
}
function panel(title, whats, attributes = {}) {
  return el("figure", { class: "panel" + (attributes["data-side"] ? "" : " beside"), ...attributes },
    el("div", { class: "frame" }, whats.map(layer)), el("figcaption", {}, el("b", {}, title)));
}
function show() {
  const flickering = $("flicker").getAttribute("aria-pressed") === "true";
  const draft = $("show-draft").getAttribute("aria-pressed") === "true";
  const right = stage.classList.contains("on-right");
  stage.classList.toggle("flickering", flickering);
  for (const side of ["left", "right"]) {
    const node = stage.querySelector(`[data-side=${side}]`);
    const on = draft ? "draft" : flickering && right ? "right" : side;
    for (const one of node.querySelectorAll(".picture")) one.classList.toggle("on", one.dataset.what === on);
    node.querySelector("figcaption b").textContent = on === "draft" ? "Draft" : on[0].toUpperCase() + on.slice(1);
  }
  clearInterval(blink);
  // who asks for less motion changes by the key or the button of the picture itself
  if (flickering && !matchMedia("(prefers-reduced-motion: reduce)").matches) blink = setInterval(turn, FLICKER_MS);
}
function turn() {
  stage.classList.toggle("on-right");
  stage.classList.toggle("on-left", !stage.classList.contains("on-right"));
  show();
}
function press(id, on) {
  const node = $(id);
  node.setAttribute("aria-pressed", String(on ?? node.getAttribute("aria-pressed") !== "true"));
  if (id === "outline") stage.classList.toggle("outlined", node.getAttribute("aria-pressed") === "true");
  else show();
}

async function draw(found) {
  question = found.token ? found : null;
  since = null;
  $("progress").textContent = found.of === null ? `${found.given} judged` : `${found.given} of ${found.of} judged`;
  $("undo").disabled = !found.undo;
  for (const [id, on] of [["who", false], ["contest", question], ["verdicts", question || found.undo], ["prompt", question], ["end", !question]]) $(id).hidden = !on;
  for (const node of document.querySelectorAll("[data-verdict]")) node.hidden = !question;
  if (!question) {
    $("ended").textContent = `That was all: ${found.given} verdicts of ${rater} are kept. This page can be closed.`;
    return;
  }
  $("prompt").textContent = `“${question.prompt}”`;
  const beside = [["Draft", "draft"], ["Reference", "reference"], ...(question.target ? [["Target", "target"]] : [])];
  stage.style.setProperty("--beside", beside.length);
  stage.classList.toggle("three", beside.length === 3);
  stage.classList.remove("on-right");
  stage.classList.add("on-left");
  stage.replaceChildren(...beside.map(([title, what]) => panel(title, [what])),
    panel("Left", ["draft", "left", "right"], { "data-side": "left" }), panel("Right", ["draft", "right"], { "data-side": "right" }));
  for (const node of stage.querySelectorAll(".beside .picture")) node.classList.add("on");
  press("flicker", false);
  press("show-draft", false);
  toRegion(question);
  const token = question.token;
  try { await Promise.all([...stage.querySelectorAll("img")].map((node) => node.decode())); } catch { trouble("A picture could not be loaded; reload the page."); return; }
  if (question && question.token === token) { since = performance.now(); toRegion(question); document.body.classList.remove("busy"); }
}
async function step(address, said) {
  if (busy) return;
  busy = true;
  document.body.classList.add("busy");
  try {
    trouble("");
    await draw(await call(address, said));
  } catch (error) { trouble(error.message); } finally { busy = false; document.body.classList.remove("busy"); }
}
function vote(verdict) {
  if (!question || since === null) return;
  step("/answer", { question: question.token, verdict, seconds: (performance.now() - since) / 1000 });
}
const undo = () => { if (!$("undo").disabled && !$("verdicts").hidden) step("/undo", { rater }); };
async function begin(name) {
  rater = name.trim();
  await step(`/question?rater=${encodeURIComponent(rater)}`);
  $("title").focus({ preventScroll: true });
}

const KEYS = [
  ["← or 1", "the left one is better"], ["→ or 2", "the right one is better"], ["↑ or 3", "a tie: both as good"], ["↓ or 4", "both are bad"],
  ["u", "take the last verdict back"], ["f", "flicker: both in one place, in turn"], ["space", "turn the flicker by hand"], ["d", "the draft in place of both"],
  ["m", "outline of the mask"], ["+ − 0", "zoom in, out, whole picture"], ["r", "zoom to the masked region"], ["t", "theme"], ["?", "this help"],
];
function openHelp() {
  $("help").replaceChildren(
    el("div", { class: "bar head" }, el("h2", {}, "Help"), el("span", { class: "grow" }), el("button", { type: "button", "aria-label": "Close", title: "Close (Esc)", onclick: () => $("help").close() }, "✕")),
    el("p", {}, "The draft is wrong inside the outline; the reference shows the same thing right, perhaps from elsewhere and in other light. Which result puts the detail right and sits in the picture? Tie: you would not mind which. Both bad: you would use neither."),
    el("dl", { class: "keys" }, KEYS.map(([key, text]) => [el("dt", {}, key), el("dd", {}, text)])),
    el("p", { class: "quiet" }, "Wheel or pinch zooms all pictures together, dragging moves them. With each verdict are kept: your name, the pair and its order, and how long you took."));
  $("help").showModal();
}
function nextTheme() { setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]); }

for (const node of document.querySelectorAll("[data-verdict]")) node.addEventListener("click", () => vote(node.dataset.verdict));
for (const id of ["flicker", "show-draft", "outline"]) $(id).addEventListener("click", () => press(id));
const CLICKS = {
  undo, theme: nextTheme, "help-button": openHelp, fit: resetView, "zoom-in": () => zoomAt(1.5), "zoom-out": () => zoomAt(1 / 1.5),
  region: () => toRegion(question),
};
for (const [id, action] of Object.entries(CLICKS)) $(id).addEventListener("click", action);
const ACTIONS = {
  ArrowLeft: () => vote("left"), 1: () => vote("left"), ArrowRight: () => vote("right"), 2: () => vote("right"),
  ArrowUp: () => vote("tie"), 3: () => vote("tie"), ArrowDown: () => vote("bad"), 4: () => vote("bad"),
  u: undo, f: () => press("flicker"), d: () => press("show-draft"), m: () => press("outline"),
  "+": () => zoomAt(1.5), "=": () => zoomAt(1.5), "-": () => zoomAt(1 / 1.5), 0: resetView, r: () => toRegion(question),
  " ": () => { if ($("flicker").getAttribute("aria-pressed") === "true") turn(); },
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.matches("input") || $("help").open) return;
  if (event.key === " " && event.target.matches("button")) return; // that presses the button
  const action = { t: nextTheme, "?": openHelp }[event.key] || ((question || event.key === "u") && ACTIONS[event.key]);
  if (action) { event.preventDefault(); action(); }
});
$("who").addEventListener("submit", (event) => { event.preventDefault(); begin($("name").value); });
listen(stage);
addEventListener("resize", () => { if (question) toRegion(question); });
stage.classList.add("outlined");
setTheme(savedTheme());
call("/facts").then(({ raters }) => {
  if (raters.length === 1) { begin(raters[0]); return; }
  $("who").hidden = false;
  if (!raters.length) { $("name").focus(); return; }
  for (const node of [$("name").parentElement, $("who").querySelector("label")]) node.hidden = true;
  $("name").required = false;
  $("names").replaceChildren(...raters.map((name) => el("button", { type: "button", onclick: () => begin(name) }, name)));
}).catch((error) => trouble(error.message));

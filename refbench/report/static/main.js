// Keys, help, and the start.
const KEYS = [
  ["← → or k j", "previous and next sample"], ["1 … 9", "this run on the right of the slider"], ["v", "slider, all, difference"],
  ["x", "swap left and right"], ["m", "mask outline"], ["+ − 0", "zoom in, out, whole picture"], ["r", "zoom to the masked region"],
  ["/", "search"], ["t", "theme"], ["Esc", "close"], ["?", "this help"],
];
function openHelp() {
  $("help").replaceChildren(
    el("div", { class: "bar head" }, el("h2", {}, "Help"), el("span", { class: "grow" }), button("✕", "Close (Esc)", () => $("help").close(), { "aria-label": "Close" })),
    el("p", {}, "Scores are recovery points: 0 is the trivial answer, 100 the ground truth. A sample's score is its texture and alignment, the lower one by three quarters, times its consistency; pixel fidelity and diagnostics stand beside it. ",
      "Wheel or pinch zooms all pictures together, dragging moves them; the address always holds what you see, so copying it makes a link."),
    el("dl", { class: "keys" }, KEYS.map(([key, text]) => [el("dt", {}, key), el("dd", {}, text)])),
    el("p", { class: "quiet" }, "Pictures are shown compressed; every number was measured on the originals."));
  $("help").showModal();
}
function nextTheme() { setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]); }

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=search], input[type=number], select, textarea");
  if (typing) { if (event.key === "Escape") event.target.blur(); return; }
  if ($("help").open) return;
  const always = { t: nextTheme, "?": openHelp };
  const sample = byId.get(state.s);
  const inDetail = {
    ArrowLeft: () => step(-1), k: () => step(-1), ArrowRight: () => step(1), j: () => step(1), x: swap, r: () => toRegion(sample),
    v: () => { const names = ["slider", "all", "difference"]; state.view = names[(names.indexOf(state.view) + 1) % 3]; writeAddress(); drawDetail(); },
    m: () => $("outline").click(), "+": () => zoomAt(1.5), "=": () => zoomAt(1.5), "-": () => zoomAt(1 / 1.5), "0": resetView,
  };
  const action = always[event.key] || (sample ? inDetail[event.key] : event.key === "/" ? () => $("f-q").focus() : null);
  if (action) { event.preventDefault(); action(); return; }
  if (sample && /^[1-9]$/.test(event.key) && Number(event.key) <= DATA.runs.length) {
    openDetail(sample.id, { right: String(Number(event.key) - 1) });
  }
});
$("detail").addEventListener("cancel", (event) => { event.preventDefault(); closeDetail(); });
$("detail").addEventListener("close", () => { document.title = DATA.title; });
$("theme").addEventListener("click", nextTheme);
$("help-button").addEventListener("click", openHelp);

function fromAddress() {
  readAddress();
  drawFilters();
  drawList();
  resetView();
  drawDetail();
}
// "popstate" comes for steps through the history, "hashchange" for an edited address.
for (const name of ["popstate", "hashchange"]) window.addEventListener(name, fromAddress);

setTheme(savedTheme());
drawSummary();
fromAddress();
new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting) && drawn < shown.length) grow();
}, { rootMargin: "1500px" }).observe($("more"));

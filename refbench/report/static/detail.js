// One sample: slider, all pictures, or differences; its metrics with interval and rank; where it comes from.
let split = 50;

function openDetail(id, change = {}) {
  const fresh = state.s === "";
  state.s = id;
  Object.assign(state, change);
  if (change.right !== undefined && state.view === "all") state.view = "slider";
  writeAddress(fresh);
  resetView();
  drawDetail();
}
function closeDetail() {
  if (!state.s) return;
  const id = state.s;
  state.s = "";
  writeAddress();
  $("detail").close();
  const row = document.querySelector(`[data-id="${CSS.escape(id)}"] .name`);
  if (row) row.focus({ preventScroll: false });
}
function step(by) {
  const at = shown.findIndex((sample) => sample.id === state.s);
  const next = shown[at + by];
  if (at >= 0 && next) { openDetail(next.id); if (at + by >= drawn) grow(); }
}
function pictureChoices() {
  return [["draft", "Draft"], ["reference", "Reference"], ...DATA.runs.map((run, k) => [String(k), run.name]), ...(DATA.targets ? [["target", "Target"]] : [])];
}
function select(key, label, options, redraw) {
  const node = el("select", { id: "d-" + key, "aria-label": label });
  for (const [value, text] of options) node.append(el("option", { value }, text));
  node.value = state[key];
  node.addEventListener("change", () => { state[key] = node.value; writeAddress(); redraw(); });
  return node;
}
const label = (text, side) => el("span", { class: "label " + (side || "") }, text);

function sliderStage(sample) {
  const handle = el("div", {
    class: "handle", id: "handle", role: "slider", tabindex: "0", "aria-label": "Share of the left picture that shows", "aria-valuemin": "0", "aria-valuemax": "100",
    "aria-orientation": "horizontal",
    onkeydown: (event) => {
      const by = { ArrowLeft: -2, ArrowRight: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      slide((split + by) / 100);
    },
  }, el("span", {}));
  const frame = el("div", { class: "frame single", style: { "--ratio": sample.size[0] / sample.size[1] } },
    el("div", { class: "side under-side" }, picture(sample, state.right)),
    el("div", { class: "side over-side" }, picture(sample, state.left)),
    label(nameOf(state.left), "left"), label(nameOf(state.right), "right"), handle);
  function slide(share) {
    split = Math.min(Math.max(share * 100, 0), 100);
    frame.style.setProperty("--split", split + "%");
    handle.setAttribute("aria-valuenow", Math.round(split));
  }
  slide(split / 100);
  return [el("div", { id: "stage", class: "stage slider" }, frame), slide];
}
function panelStage(sample, heat) {
  const whats = heat ? ["draft", ...DATA.runs.map((_, k) => String(k))] : pictureChoices().map(([what]) => what);
  const panels = whats.map((what) => el("figure", { class: "panel" },
    el("div", { class: "frame", style: { "--ratio": sample.size[0] / sample.size[1] } }, picture(sample, what, heat)),
    el("figcaption", {}, /^\d+$/.test(what) ? dot(Number(what)) : null, nameOf(what),
      /^\d+$/.test(what) ? el("b", {}, " " + points(score(sample, Number(what), MAIN))) : null)));
  const top = Math.round(255 / Number(state.gain));
  const legend = heat ? el("p", { class: "quiet legend" }, `Mean difference to the ${BASE} per channel: 0 `, el("span", { class: "ramp" }), ` ${top} levels or more. Pictures are compressed here; one or two levels mean nothing.`) : null;
  return el("div", {}, el("div", { id: "stage", class: "stage panels" }, panels), legend);
}
function button(text, title, action, extra = {}) {
  return el("button", { type: "button", title, onclick: action, ...extra }, text);
}
function drawDetail() {
  const sample = byId.get(state.s);
  const dialog = $("detail");
  if (!sample) { if (dialog.open) dialog.close(); return; }
  const place = shown.indexOf(sample);
  let slide = null;
  let stage;
  if (state.view === "slider") [stage, slide] = sliderStage(sample);
  else stage = panelStage(sample, state.view === "difference");
  const views = [["slider", "Slider"], ["all", "All"], ["difference", "Difference"]].map(([key, text]) =>
    button(text, text + " (v)", () => { state.view = key; writeAddress(); drawDetail(); }, { "aria-pressed": String(state.view === key), "data-view": key }));
  const outlineBox = el("input", { type: "checkbox", id: "outline" });
  outlineBox.checked = state.outline === "1";
  outlineBox.addEventListener("change", () => { state.outline = outlineBox.checked ? "1" : "0"; writeAddress(); dialog.classList.toggle("outlined", outlineBox.checked); });
  dialog.classList.toggle("outlined", state.outline === "1");
  const scroll = dialog.scrollTop;
  const focused = dialog.contains(document.activeElement) ? document.activeElement.id || document.activeElement.dataset.view : "";
  dialog.replaceChildren(
    el("div", { class: "bar head" },
      button("‹", "Previous sample (←)", () => step(-1), { id: "previous", disabled: place <= 0, "aria-label": "Previous sample" }),
      button("›", "Next sample (→)", () => step(1), { id: "next", disabled: place < 0 || place >= shown.length - 1, "aria-label": "Next sample" }),
      el("h2", { tabindex: "-1", autofocus: true }, sample.id), el("span", { class: "quiet" }, place >= 0 ? `${place + 1} of ${shown.length}` : "not in the filtered list"),
      el("span", { class: "grow" }), button("✕", "Close (Esc)", closeDetail, { id: "close", "aria-label": "Close" })),
    el("div", { class: "bar controls" },
      el("div", { class: "group", role: "group", "aria-label": "View" }, views),
      state.view === "slider" ? el("div", { class: "group" }, select("left", "Left picture", pictureChoices(), drawDetail),
        button("⇄", "Swap left and right (x)", swap, { id: "swap", "aria-label": "Swap" }), select("right", "Right picture", pictureChoices(), drawDetail)) : null,
      state.view === "difference" ? el("label", {}, "Gain ", select("gain", "Gain of the difference", [["1", "× 1"], ["4", "× 4"], ["16", "× 16"]], drawDetail)) : null,
      el("label", {}, outlineBox, " Outline"),
      el("div", { class: "group" },
        button("−", "Zoom out (−)", () => zoomAt(1 / 1.5), { "aria-label": "Zoom out" }), el("span", { id: "zoom-label", class: "quiet" }),
        button("+", "Zoom in (+)", () => zoomAt(1.5), { id: "zoom-in", "aria-label": "Zoom in" }),
        button("Fit", "Whole picture (0)", resetView, { id: "fit" }), button("Region", "The masked region (r)", () => toRegion(sample), { id: "region" }))),
    stage,
    el("p", { class: "prompt" }, "“", sample.prompt, "”"),
    metricTable(sample),
    facts(sample));
  setGain(state.gain);
  listen($("stage"), slide);
  applyView();
  if (!dialog.open) dialog.showModal();
  else {
    dialog.scrollTop = scroll;
    const again = focused && (document.getElementById(focused) || dialog.querySelector(`[data-view="${focused}"]`));
    (again && !again.disabled ? again : dialog.querySelector("h2")).focus({ preventScroll: true });
  }
  document.title = `${sample.id} · ${DATA.title}`;
}
function swap() { [state.left, state.right] = [state.right, state.left]; writeAddress(); drawDetail(); }

function metricCell(sample, run, m) {
  const value = sample.values[run][m];
  if (value === null) return el("td", { class: "number" }, "–");
  const place = rank(sample, run, m);
  const whole = DATA.runs[run].metrics[m];
  return el("td", { class: "number" }, el("span", {}, short(value)),
    el("small", {}, `recovery ${points(sample.recoveries[run][m])} · rank ${place[0]}/${place[1]}`),
    el("small", { class: "quiet", title: "Recovery of this run over the whole suite with its 95 % interval" }, whole ? "suite " + interval(whole, 0) : "not scored on the suite"));
}
function metricTable(sample) {
  const body = [];
  for (const axis of [...DATA.axes.slice(0, 3), DATA.axes[4]]) {
    body.push(el("tr", { class: "axis" }, el("th", { scope: "rowgroup" }, TITLES[axis]),
      DATA.runs.map((one, run) => el("td", { class: "number" }, !DATA.targets && one.withheld[DATA.axes.indexOf(axis)] ? "not measured" : el("b", {}, points(sample.scores[run][DATA.axes.indexOf(axis)], 1))))));
    DATA.metrics.forEach((metric, m) => {
      if (metric.axis !== axis) return;
      body.push(el("tr", {}, el("th", { scope: "row", title: metric.definition }, metric.name, el("small", {}, `${metric.higher ? "↑" : "↓"} ${metric.region}${metric.scored ? "" : " · not scored"}`)),
        DATA.runs.map((_, run) => metricCell(sample, run, m))));
    });
  }
  if (DATA.diagnostics.length) body.push(el("tr", { class: "axis" }, el("th", { scope: "rowgroup" }, "Diagnostics"), DATA.runs.map(() => el("td"))));
  DATA.diagnostics.forEach((one, d) => body.push(el("tr", {}, el("th", { scope: "row", title: one.help }, one.title, el("small", {}, "not in the score")),
    DATA.runs.map((run, k) => el("td", { class: "number" }, el("span", {}, inUnit(sample.diagnostics[k][d], one)),
      el("small", { class: "quiet" }, "run's mean " + inUnit(run.diagnostics[d], one)))))));
  return el("div", {}, el("div", { class: "scroll" }, el("table", { class: "metrics" },
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Metric"), DATA.runs.map((run, k) => el("th", { scope: "col", class: "number" }, dot(k), run.name)))),
    el("tbody", {}, body))),
    el("p", { class: "caption" }, "Each metric on this sample: value, recovery (0 trivial, 100 truth, clipped to ±100), rank among the run's samples (1 is best), and the run's recovery on the suite with its 95 % interval."));
}
function facts(sample) {
  const rows = [
    ["Task", sample.task], ["Source", sample.source], ["View", sample.view === "true" ? "true change of view" : "composed"],
    ["Degradation", `${sample.degradation}, strength ${short(sample.strength)}`], ["Masked share", `${(sample.share * 100).toFixed(1)} %`],
    ["Text", sample.text], ["Size", `${sample.size[0]} × ${sample.size[1]} px, reference ${sample.referenceSize[0]} × ${sample.referenceSize[1]} px`],
    ["Seconds", DATA.runs.map((run, k) => `${run.name} ${short(sample.seconds[k])}`).join(" · ")],
    ["Licence", sample.licence], ["Attribution", sample.attribution],
  ];
  return el("dl", { class: "facts" }, rows.filter(([, value]) => value).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

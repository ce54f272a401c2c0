// The table of runs: score, axes and pixel fidelity with intervals, failures, seconds; categories, diagnostics below.
function bar(cell, colour) {
  if (!cell) return el("span", { class: "interval" });
  const at = (value) => Math.min(Math.max((value + 20) / 1.3, 0), 100);
  const low = cell[1] === null ? cell[0] : cell[1];
  const high = cell[2] === null ? cell[0] : cell[2];
  return el("span", { class: "interval", "aria-hidden": "true" },
    el("i", { class: "zero" }), el("i", { class: "full" }),
    el("b", { style: { left: at(low) + "%", width: Math.max(at(high) - at(low), 0.8) + "%", "--ink": colour } }),
    el("u", { style: { left: at(cell[0]) + "%", "--ink": colour } }));
}
function resultCell(cell, colour, best, why) {
  const title = cell ? "95 % interval " + interval(cell) : "not scored" + (why ? ": " + why : "");
  if (!cell && why && !DATA.targets) return el("td", { class: "number", title }, "not measured");
  return el("td", { class: "number" + (best ? " best" : ""), title },
    el("span", {}, cell ? points(cell[0], 1) : "–"),
    el("small", {}, cell && cell[1] !== null ? `[${points(cell[1], 1)}, ${points(cell[2], 1)}]` : ""),
    bar(cell, colour));
}
// Of DATA.axes: the score, its axes, and pixel fidelity beside it.
const COLUMNS = [3, 0, 1, 2, 4];
const runHead = (index, title) => [el("th", { scope: "row", title, class: "run" + named(DATA.runs[index].name) }, dot(index), DATA.runs[index].name), DATA.runs[index].name];
const valueOf = (cell) => (cell ? cell[0] : null);
function drawSummary() {
  const order = DATA.runs.map((run, index) => index)
    .sort((x, y) => ((DATA.runs[y].axes[MAIN] || [-1e9])[0]) - ((DATA.runs[x].axes[MAIN] || [-1e9])[0]));
  const best = DATA.axes.map((_, k) => Math.max(...DATA.runs.map((run) => (run.axes[k] ? run.axes[k][0] : -1e9))));
  const heads = [["Run", ""], ...COLUMNS.map((k) => [TITLES[DATA.axes[k]], "number"]), ["Failed", "number"], ["s/image", "number"]];
  const rows = order.map((index) => {
    const run = DATA.runs[index];
    return [
      runHead(index, run.about),
      ...COLUMNS.map((k) => [resultCell(run.axes[k], run.colour, DATA.runs.length > 1 && run.axes[k] && run.axes[k][0] === best[k], run.withheld[k]), valueOf(run.axes[k])]),
      [el("td", { class: "number" + (run.failed ? " bad" : "") }, `${run.failed} / ${run.samples}`), run.failed],
      [el("td", { class: "number" }, run.seconds === null ? "–" : Number(run.seconds.toPrecision(2)).toString()), run.seconds],
    ];
  });
  const categories = [...new Set(DATA.runs.flatMap((run) => Object.keys(run.categories)))];
  const byCategory = el("details", {}, el("summary", {}, `By category (${TITLES[DATA.by].toLowerCase()})`),
    sortableTable([["Run", ""], ...categories.map((name) => [name, "number"])], order.map((index) => [
      runHead(index, null),
      ...categories.map((name) => (DATA.runs[index].categories[name] || [])[MAIN]).map((cell) => [resultCell(cell, DATA.runs[index].colour, false), valueOf(cell)]),
    ]), { "aria-label": "Results by category" }));
  const diagnostics = DATA.diagnostics.length ? el("details", {}, el("summary", {}, "Diagnostics (means over samples, not in the score)"),
    sortableTable([["Run", ""], ...DATA.diagnostics.map((one) => [one.title + (one.unit ? `, ${one.unit}` : ""), "number"])], order.map((index) => [
      runHead(index, null),
      ...DATA.runs[index].diagnostics.map((value, d) => [el("td", { class: "number", title: DATA.diagnostics[d].help }, short(value)), value]),
    ]), { "aria-label": "Diagnostics" })) : null;
  $("summary").replaceChildren(
    sortableTable(heads, rows, { "aria-label": "Results" }),
    el("p", { class: "caption" }, "Recovery: 0 is the trivial answer, 100 the ground truth; 95 % intervals in brackets. Pixel: every pixel at its place, as published tables count; not in the score."),
    ...(DATA.targets ? [] : [el("p", { class: "caption" }, "This suite has no targets: texture, pixel fidelity and the score are not measured. In alignment 100 is what a typical truth wins; consistency is what lies outside the mask. These numbers compare with no suite that has targets.")]),
    ...DATA.runs.filter((run) => DATA.targets && run.withheld[3]).map((run) => el("p", { class: "caption" }, `${run.name} has no score: ${run.withheld[3]}`)),
    byCategory, ...(diagnostics ? [diagnostics] : []));
  $("about").textContent = `Suite ${DATA.suite.name} ${DATA.suite.version} (${DATA.suite.hash.slice(0, 12)}), score ${DATA.score}, ` +
    `${DATA.samples.length} samples, ${DATA.runs.length} run${DATA.runs.length === 1 ? "" : "s"}.`;
}

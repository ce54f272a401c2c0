// Data and state in the address. Text from the data only ever becomes text nodes and plain attributes.
const DATA = JSON.parse(document.getElementById("data").textContent);
const TITLES = {
  texture_fidelity: "Texture", reference_alignment: "Alignment", local_consistency: "Consistency", mean: "Score",
  pixel_fidelity: "Pixel",
};
const byId = new Map(DATA.samples.map((sample) => [sample.id, sample]));
DATA.samples.forEach((sample, index) => { sample.index = index; });

// State: what the address says. Everything has a default, and defaults are not written.
// A is the first run; B the best of the others.
const MAIN = DATA.axes.indexOf(DATA.by); // what runs are ordered by: the score, or an axis where there is none
const rival = DATA.runs.map((run, index) => [index, (run.axes[MAIN] || [-1e9])[0]]).slice(1).sort((x, y) => y[1] - x[1]);
const DEFAULTS = {
  s: "", view: "slider", left: "draft", right: "0", outline: "1", gain: "4",
  task: "", category: "", mode: "", source: "", degradation: "", status: "", q: "",
  a: "0", b: rival.length ? String(rival[0][0]) : "", axis: DATA.by, sort: DATA.runs.length > 1 ? "difference" : "score", order: "up",
  ...Object.fromEntries(DATA.diagnostics.map((one) => ["least-" + one.name, ""])),
};
const state = { ...DEFAULTS };

function readAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(DEFAULTS)) state[key] = found.get(key) ?? DEFAULTS[key];
  const run = (text, fallback) => (/^\d+$/.test(text) && Number(text) < DATA.runs.length ? text : fallback);
  state.a = run(state.a, "0");
  state.b = run(state.b, DEFAULTS.b);
  const picture = (text, fallback) => (["draft", "reference", "target"].includes(text) ? text : run(text, fallback));
  state.left = picture(state.left, "draft");
  state.right = picture(state.right, "0");
  if (!["slider", "all", "difference"].includes(state.view)) state.view = "slider";
  if (!DATA.axes.includes(state.axis)) state.axis = DEFAULTS.axis;
  if (state.s && !byId.has(state.s)) state.s = "";
}
function writeAddress(push = false) {
  const found = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) if (value !== DEFAULTS[key]) found.set(key, value);
  const hash = found.toString();
  const url = hash ? "#" + hash : location.pathname + location.search;
  if (push) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
}

const axisIndex = () => DATA.axes.indexOf(state.axis);
const score = (sample, run, axis = axisIndex()) => sample.scores[run][axis];
function difference(sample) {
  if (state.b === "") return null;
  const [a, b] = [score(sample, Number(state.a)), score(sample, Number(state.b))];
  return a === null || b === null ? null : a - b;
}
function points(value, digits = 0) {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}
const signed = (value) => (value === null ? "–" : (value > 0 ? "+" : "") + points(value, 1));
function short(value) {
  if (value === "inf") return "∞";
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 0.001 || size >= 1e5) ? value.toExponential(2) : Number(value.toPrecision(4)).toString();
  return text.replace("-", "−");
}
function interval(cell, digits = 1) {
  if (!cell) return "–";
  return cell[1] === null ? points(cell[0], digits) : `${points(cell[0], digits)} [${points(cell[1], digits)}, ${points(cell[2], digits)}]`;
}
const dot = (run) => el("span", { class: "dot", style: { "--ink": DATA.runs[run].colour }, "aria-hidden": "true" });

// A diagnostic of a sample with its unit, and how strong it is whichever its sign.
const inUnit = (value, one) => short(value) + (value === null || !one.unit ? "" : " " + one.unit);
function strength(sample, d, run = Number(state.a)) {
  const value = sample.diagnostics[run][d];
  return value === null ? null : Math.abs(value);
}

// Rank of a sample among the suite, for one run and one metric: 1 is best, equal values share the better rank.
const rankCache = new Map();
function rank(sample, run, metric) {
  const key = run + "/" + metric;
  if (!rankCache.has(key)) {
    const sign = DATA.metrics[metric].higher ? -1 : 1;
    const number = (value) => sign * (value === "inf" ? Infinity : value);
    const all = DATA.samples.filter((one) => one.values[run][metric] !== null)
      .map((one) => [number(one.values[run][metric]), one.index]).sort((x, y) => x[0] - y[0]);
    const ranks = new Map();
    all.forEach(([value, index], place) => {
      ranks.set(index, place > 0 && all[place - 1][0] === value ? ranks.get(all[place - 1][1]) : place + 1);
    });
    rankCache.set(key, [ranks, all.length]);
  }
  const [ranks, count] = rankCache.get(key);
  return ranks.has(sample.index) ? [ranks.get(sample.index), count] : null;
}

// A table whose columns sort: by a click on a head or by its key, numbers from the largest, words from the first, and
// again the other way. `heads` are [text, class]; a row is a list of cells, each [node, value] with null sorted last.
function sortableTable(heads, rows, attributes) {
  const body = el("tbody", {}, rows.map((row) => el("tr", {}, row.map(([node]) => node))));
  const lines = rows.map((row, index) => [row, body.rows[index]]);
  const head = el("tr", {}, heads.map(([text, kind], column) => el("th", { scope: "col", class: kind },
    el("button", { type: "button", class: "sort", title: `Sort by ${text}`, onclick: (event) => {
      const cell = event.currentTarget.parentElement;
      const words = rows.some((row) => typeof row[column][1] === "string");
      const was = cell.getAttribute("aria-sort");
      const falling = was ? was === "ascending" : !words;
      for (const other of head.cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const compare = words ? (x, y) => x.localeCompare(y) : (x, y) => x - y;
      lines.sort(([one], [two]) => {
        const [x, y] = [one[column][1], two[column][1]];
        if (x === null || y === null) return (x === null) - (y === null);
        return falling ? compare(y, x) : compare(x, y);
      });
      body.append(...lines.map(([, line]) => line));
    } }, text))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", ...attributes }, el("table", { class: "results" }, el("thead", {}, head), body));
}
// A name is not broken, unless it alone is wider than a phone has room for.
const named = (name) => (name.length > 24 ? " long" : "");

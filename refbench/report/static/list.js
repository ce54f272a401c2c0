// Filters, sorting, and the list of samples, added in portions as the reader scrolls.
const PORTION = 40;
const LETTERS = Math.min(24, Math.max(...DATA.runs.map((run) => run.name.length)));
let shown = [];
let drawn = 0;

const OF_A = DATA.runs.length > 1 ? " of A" : "";
const FILTERS = [["task", "Task"], ["category", "Category"], ["mode", "Mode"], ["degradation", "Degradation"], ["source", "Source"]];

function choice(key, label, options, hint) {
  const select = el("select", { id: "f-" + key, "data-key": key, title: hint });
  for (const [value, text] of options) select.append(el("option", { value }, text));
  select.value = state[key];
  select.addEventListener("change", () => { state[key] = select.value; writeAddress(); drawList(); });
  return el("label", { class: "field" }, el("span", {}, label), select);
}
function drawFilters() {
  const runs = DATA.runs.map((run, index) => [String(index), run.name]);
  const fields = FILTERS.map(([key, label]) => {
    const values = [...new Set(DATA.samples.map((sample) => sample[key]))].sort();
    return values.length > 1 ? choice(key, label, [["", "all"], ...values.map((value) => [value, value])]) : null;
  });
  const failures = [["", "all"], ["failed", "failed in any run"], ...(DATA.runs.length > 1 ? runs.map(([k, name]) => ["failed-" + k, "failed in " + name]) : []), ["ok", "worked in every run"]];
  const search = el("input", { id: "f-q", type: "search", placeholder: "id, prompt, text…", title: "Search (/)" });
  search.value = state.q;
  search.addEventListener("input", () => { state.q = search.value; writeAddress(); drawList(); });
  const sorts = [
    ...(DATA.runs.length > 1 ? [["difference", "paired difference A − B"]] : []),
    ["score", "score" + OF_A], ...DATA.diagnostics.map((one) => [one.name, one.title + OF_A]), ["id", "sample"],
  ];
  const orders = [["up", "worst first"], ["down", "best first"]];
  const was = $("filters").firstElementChild;
  const open = was ? was.open : matchMedia("(min-width: 701px)").matches;
  $("filters").replaceChildren(el("details", { open }, el("summary", {}, "Filter and sort"),
    el("div", { class: "fields" }, ...fields.filter(Boolean), choice("status", "Status", failures),
      el("label", { class: "field" }, el("span", {}, "Search"), search)),
    el("div", { class: "fields" },
      choice("sort", "Sort by", sorts), choice("order", "Order", orders),
      DATA.runs.length > 1 ? choice("a", "A", runs) : null,
      DATA.runs.length > 1 ? choice("b", "B", runs) : null,
      choice("axis", "Axis", COLUMNS.filter((k) => DATA.targets || DATA.runs.some((run) => run.axes[k])).map((k) => [DATA.axes[k], TITLES[DATA.axes[k]]])),
      el("button", { type: "button", id: "clear", onclick: clearFilters }, "Clear filters")),
    DATA.diagnostics.length ? el("div", { class: "fields least" }, DATA.diagnostics.map(atLeast)) : null));
}
// Only samples whose diagnostic is at least so far from 0, in run A.
function atLeast(one) {
  const key = "least-" + one.name;
  const input = el("input", { id: "f-" + key, type: "number", min: "0", step: "any", title: `${one.help}; of either sign` });
  input.value = state[key];
  input.addEventListener("input", () => { state[key] = input.value; writeAddress(); drawList(); });
  return el("label", { class: "field" }, el("span", {}, `${one.title}${OF_A} at least${one.unit ? ", " + one.unit : ""}`), input);
}
function clearFilters() {
  for (const key of ["task", "category", "mode", "source", "degradation", "status", "q", ...DATA.diagnostics.map((one) => "least-" + one.name)]) state[key] = "";
  writeAddress();
  drawFilters();
  drawList();
}
function passes(sample) {
  for (const [key] of FILTERS) if (state[key] && sample[key] !== state[key]) return false;
  if (state.status === "failed" && !sample.failed.some(Boolean)) return false;
  if (state.status === "ok" && sample.failed.some(Boolean)) return false;
  if (state.status.startsWith("failed-") && !sample.failed[Number(state.status.slice(7))]) return false;
  for (const [d, one] of DATA.diagnostics.entries()) {
    const least = state["least-" + one.name];
    if (least !== "" && !(strength(sample, d) >= Number(least) && strength(sample, d) !== null)) return false;
  }
  if (state.q) {
    const text = [sample.id, sample.prompt, sample.text || "", sample.source, sample.degradation].join(" ").toLowerCase();
    return state.q.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  }
  return true;
}
const sortedBy = () => DATA.diagnostics.findIndex((one) => one.name === state.sort);
function sortKey(sample) {
  const d = sortedBy();
  if (d >= 0) return strength(sample, d) === null ? null : -strength(sample, d);
  return state.sort === "difference" ? difference(sample) : score(sample, Number(state.a));
}
function chosen() {
  const list = DATA.samples.filter(passes);
  const sign = state.order === "down" ? -1 : 1;
  const keys = new Map(list.map((sample) => [sample, state.sort === "id" ? sample.index : sortKey(sample)]));
  return list.sort((x, y) => {
    const [p, q] = [keys.get(x), keys.get(y)];
    if (p === null || q === null) return (p === null) - (q === null) || x.index - y.index;
    return sign * (p - q) || x.index - y.index;
  });
}
function thumb(src, label, note, open, mark) {
  const picture = src === null
    ? el("span", { class: "missing" }, "failed")
    : el("img", { src, alt: label, width: 128, height: 96, loading: "lazy", decoding: "async" });
  return el("button", { type: "button", class: "thumb" + (mark ? " " + mark : ""), title: label, onclick: open }, picture, el("span", { class: "note" }, note));
}
function drawRow(sample) {
  const open = (right, left = "draft") => () => openDetail(sample.id, { left, right });
  const gap = difference(sample);
  const runs = DATA.runs.map((run, k) => thumb(
    sample.small[k], sample.failed[k] ? `${run.name} failed on ${sample.id}: ${sample.failed[k]}` : `${sample.id} refined by ${run.name}`,
    el("span", {}, dot(k), el("em", { class: named(run.name) }, run.name), el("b", {}, points(score(sample, k)))), open(String(k)),
    DATA.runs.length > 1 && (state.a === String(k) ? "is-a" : state.b === String(k) ? "is-b" : "")));
  return el("article", { class: "row", "data-id": sample.id },
    el("div", { class: "what" },
      el("a", { class: "name", href: "#s=" + encodeURIComponent(sample.id), onclick: (event) => { event.preventDefault(); openDetail(sample.id); } }, sample.id),
      el("span", { class: "chips" }, el("span", { class: "chip" }, sample.mode), el("span", { class: "chip" }, sample.degradation),
        sample.failed.some(Boolean) ? el("span", { class: "chip bad" }, "failure") : null),
      gap === null ? null : el("span", { class: "gap " + (gap < 0 ? "worse" : gap > 0 ? "better" : "") }, "A − B ", el("b", {}, signed(gap)))),
    el("div", { class: "strip", style: { "--letters": LETTERS } },
      thumb(sample.thumbs.draft, `Draft of ${sample.id}, around the region`, "draft", open(state.a)),
      thumb(sample.thumbs.reference, `Reference of ${sample.id}`, "reference", open(state.a, "reference")),
      runs,
      DATA.targets ? thumb(sample.thumbs.target, `Target of ${sample.id}, around the region`, "target", open("target")) : null));
}
function drawList() {
  shown = chosen();
  drawn = 0;
  $("samples").replaceChildren();
  grow();
  const sorted = state.sort === "difference"
    ? `sorted by ${DATA.runs[state.a].name} minus ${DATA.runs[state.b].name} (${TITLES[state.axis].toLowerCase()})`
    : state.sort === "score" ? `sorted by the score of ${DATA.runs[state.a].name} (${TITLES[state.axis].toLowerCase()})`
      : sortedBy() >= 0 ? `sorted by ${DATA.diagnostics[sortedBy()].title} of ${DATA.runs[state.a].name}` : "in the suite's order";
  $("count").textContent = `${shown.length} of ${DATA.samples.length} samples, ${sorted}.`;
}
function grow() {
  const next = shown.slice(drawn, drawn + PORTION);
  $("samples").append(...next.map(drawRow));
  drawn += next.length;
  $("more").hidden = drawn >= shown.length;
}

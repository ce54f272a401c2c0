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

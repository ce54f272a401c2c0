"""Does the score agree with the eye? Judged pairs of results on `core` against score, axes and metrics.

    python benchmarks/agreement.py                                  # from the values measured when they were judged
    python benchmarks/agreement.py --outputs DIR [--pairs FILE ...] # measure pictures anew
    python benchmarks/agreement.py --page reports/agreement.md      # write the page
    python benchmarks/agreement.py --sheet FILE --pictures DIR ...  # draw the worst disagreements

The folder `eye/` beside this file holds the verdicts. A vision-language model gave them, by looking at draft with mask
outline, both results and target in one picture, sides at random, before any score was opened:

- `pairs.csv`, `absolute.csv`: 72 pairs and 24 single results against their draft, judged before score 2 was designed;
- `pairs_second.csv`: 72 pairs judged after axes and metrics were fixed, with a second verdict: which sits better? How
  axes make the score (the lower of texture and alignment weighs more) was chosen on these and the first 72;
- `pairs_last.csv`: 64 pairs judged after that, with both verdicts; nothing was chosen on them;
- `sitting.csv`: 64 pairs judged for that alone, result beside result without draft and target, while consistency
  was designed;
- `values.parquet`: each metric's value for each judged picture and trivial answer, with the picture's SHA-256;
- `saw.md`: what was seen in the pictures, the end of the page;
- `score1.csv`: texture, alignment, consistency and mean of the same pictures by score 1.

These are no votes of `refbench arena`: no run holds their pictures, so that `refbench agreement` cannot read them;
shares and intervals are its own (:mod:`refbench.stats.agreement`).

A file of pairs has the columns sample, A, B, verdict (A, B or tie) and confidence (1 to 3). Pictures are windows
`<sample>.<model>.<x>.<y>.webp` of a result, whose rest is the draft; `identity` is the draft itself. The sheet takes
such windows and outputs of runs (`DIR/<model>/outputs/<task>/<sample>.png`) that have the SHA-256 of what was judged.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from refbench.images import Image, encode_webp, load_image, mask_box, resize, write_atomic
from refbench.metrics.regions import cut, reference_crop, square_box
from refbench.metrics.registry import default_metrics, make_metrics
from refbench.schema import AXES, PIXEL, Truth
from refbench.stats.agreement import preference, rate
from refbench.stats.gains import MEASURES, clipped, gains

HERE = Path(__file__).parent / "eye"
SHEET = 8
"""Pairs on the sheet of the worst disagreements."""
TILE, CAPTION, QUALITY = 168, 40, 80
"""Side of a picture of the sheet and height of the text above a row in px; quality of the WebP file."""
BASELINES = ("draft", "paste", "stretch", "blend", "target")
Scores = Mapping[tuple[str, str], Mapping[str, float]]
"""(sample, model) -> measure or metric -> points."""


def laid(draft: Image, path: Path) -> Image:
    """A result from its window, `<sample>.<model>.<x>.<y>.webp`, and the draft that it is in."""
    x, y = map(int, path.name.rsplit(".", 4)[2:4])
    window, whole = load_image(path), draft.copy()
    whole[y : y + window.shape[0], x : x + window.shape[1]] = window
    return whole


def fingerprint(picture: Image) -> str:
    """What tells pictures apart in `values.parquet`: 16 digits of the SHA-256 of the pixels."""
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()[:16]


def measured(folder: Path, wanted: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Values of every default metric of the judged pictures in a folder, and of the answers of their samples."""
    import refbench
    from refbench.baselines import baseline_image
    from refbench.metrics.measurer import Measurer

    suite, measurer, rows = refbench.load_suite("core"), Measurer(threads=1, batch_size=1), []
    windows = {tuple(path.name.rsplit(".", 4)[:2]): path for path in folder.glob("*.webp")}
    models: dict[str, set[str]] = {}
    for sample, model in wanted:
        if model != "identity":
            models.setdefault(sample, set()).add(model)
    for sample in sorted(models):
        truth = suite.truth(sample)
        pictures = {answer: baseline_image(truth, answer) for answer in BASELINES}
        for model in sorted(models[sample]):
            pictures[model] = laid(pictures["draft"], windows[sample, model])
        found = measurer.measure([truth] * len(pictures), list(pictures.values()))
        for (name, picture), scores in zip(pictures.items(), found, strict=True):
            digest = fingerprint(picture)
            rows += [(sample, name, score.metric, score.value, score.card, digest) for score in scores]
    return pd.DataFrame(rows, columns=["sample", "model", "metric", "value", "card", "sha256"])


def scored(values: pd.DataFrame) -> Scores:
    """Points of each judged picture by measure and by metric."""
    cards = {name: metric.card_once for name, metric in make_metrics(default_metrics()).items()}
    answers = values[values["model"].isin(BASELINES)].rename(columns={"model": "answer"})
    found: dict[tuple[str, str], dict[str, float]] = {}
    for model in ["identity", *sorted(set(values["model"]) - set(BASELINES))]:
        mine = values[values["model"] == ("draft" if model == "identity" else model)]
        samples = sorted(set(mine["sample"]))
        table = gains(mine, answers[answers["sample"].isin(samples)], samples, cards)
        points = np.where(table.could > 0, 100.0 * table.won, np.nan)
        single = clipped(table, cards)
        for at, sample in enumerate(samples):
            found[sample, model] = dict(zip(MEASURES, points[at], strict=True)) | dict(
                zip(table.metrics, single[at], strict=True)
            )
    return found


def sides(pairs: pd.DataFrame, scores: Scores, measure: str, verdict: str = "verdict") -> pd.DataFrame:
    """Pairs that are no tie for the eye: sample, task, confidence, and whether the measure prefers the same side."""
    decided = pairs[pairs[verdict].isin(["A", "B"])]
    a, b = (
        np.array([scores[row["sample"], row[side]].get(measure, np.nan) for row in decided.to_dict("records")], float)
        for side in ("A", "B")
    )
    first = (decided[verdict] == "A").to_numpy(bool)
    of = "confidence" if verdict == "verdict" else "sits_confidence"
    found = pd.DataFrame(
        {
            "sample": decided["sample"].to_numpy(),
            "task": [name.rsplit("-", 1)[0] for name in decided["sample"]],
            "confidence": decided[of].to_numpy(int) if of in decided else 1,
            "right": preference(np.where(first, a, b), np.where(first, b, a)),
            "apart": np.abs(a - b),
        }
    )
    return found[found["right"].notna()]


def text(found: pd.DataFrame) -> str:
    """ "88.1 [81, 94]", in per cent as `refbench agreement` has it; a dash without pairs."""
    part = rate(found["right"].to_numpy(), list(found["sample"]))
    if part.value is None:
        return "–"
    ends = "" if part.low is None or part.high is None else f" [{100 * part.low:.0f}, {100 * part.high:.0f}]"
    return f"{100 * part.value:.1f}{ends}"


def report(sets: Mapping[str, tuple[pd.DataFrame, str]], two: Scores, one: Scores | None) -> dict[str, object]:
    """All figures: by set of pairs and measure, by confidence, by task, and by metric."""
    out: dict[str, object] = {}
    for title, (pairs, verdict) in sets.items():
        rows: dict[str, dict[str, str]] = {}
        for measure in (*AXES, "mean", PIXEL):
            row = {"score 2": text(sides(pairs, two, measure, verdict))}
            if one is not None and measure != PIXEL:
                row["score 1"] = text(sides(pairs, one, measure, verdict))
            rows[measure] = row
        mean = sides(pairs, two, "mean", verdict)
        out[title] = {
            "pairs": len(pairs),
            "not tied": int(pairs[verdict].isin(["A", "B"]).sum()),
            "measures": rows,
            "score 2 by confidence": {str(c): text(part) for c, part in mean.groupby("confidence")},
            "score 2 by task": {str(t): text(part) for t, part in mean.groupby("task")},
            "metrics": {
                name: text(sides(pairs, two, name, verdict))
                for name in next(iter(two.values()))
                if name not in MEASURES
            },
            "worst": mean[mean["right"] == 0].nlargest(6, "apart")[["sample", "apart"]].round(1).to_dict("records"),
        }
    return out


def worst(sets: Iterable[pd.DataFrame], scores: Scores) -> list[dict[str, Any]]:
    """Pairs in which the score prefers the other side than the eye, most points apart first, with both scores."""
    found = []
    for pair in (pair for pairs in sets for pair in pairs.to_dict("records") if pair["verdict"] in ("A", "B")):
        a, b = (scores[pair["sample"], pair[side]]["mean"] for side in ("A", "B"))
        if (a > b) != (pair["verdict"] == "A"):
            found.append({**pair, "a": a, "b": b})
    return sorted(found, key=lambda pair: -abs(pair["a"] - pair["b"]))


def result(truth: Truth, sample: str, model: str, folders: Iterable[Path], digest: str) -> Image | None:
    """The judged picture from the windows and runs in these folders; None where none has this SHA-256."""
    assert truth.draft is not None
    if model == "identity":
        return truth.draft
    for folder in folders:
        whole = folder / model / "outputs" / sample.rsplit("-", 1)[0] / f"{sample}.png"
        pictures = [laid(truth.draft, path) for path in folder.glob(f"{sample}.{model}.*.webp")]
        pictures += [load_image(whole)] if whole.is_file() else []
        for picture in pictures:
            if fingerprint(picture) == digest:
                return picture
    return None


def sheet(
    pairs: Iterable[Mapping[str, Any]], values: pd.DataFrame, folders: list[Path], say: Callable[[str], None]
) -> Image:
    """The first :data:`SHEET` pairs whose pictures are there, in rows: draft with outline, reference, A, B, target."""
    import cv2
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    import refbench

    suite, font = refbench.load_suite("core"), ImageFont.load_default(13)
    digests = values.drop_duplicates(["sample", "model"]).set_index(["sample", "model"])["sha256"]
    rows: list[Image] = []
    for pair in pairs:
        sample, truth = pair["sample"], suite.truth(pair["sample"])
        assert truth.draft is not None
        assert truth.mask is not None
        assert truth.reference is not None
        found = [result(truth, sample, pair[s], folders, digests.get((sample, pair[s]), "")) for s in ("A", "B")]
        if found[0] is None or found[1] is None:
            say(f"{sample}: the judged pictures of {pair['A']} and {pair['B']} are not there, left out")
            continue
        outlined = truth.draft.copy()
        edges, _ = cv2.findContours(truth.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(outlined, edges, -1, (255, 0, 255), 1)
        box = square_box(mask_box(truth.mask, 24), truth.mask.shape)
        tiles = [cut(outlined, box), reference_crop(truth), *(cut(one, box) for one in found), cut(truth.target, box)]
        row = Pillow.new("RGB", (5 * TILE, CAPTION + TILE), "white")
        for at, tile in enumerate(tiles):
            scale = (TILE - 4) / max(tile.shape)
            tile = resize(np.ascontiguousarray(tile), (round(tile.shape[0] * scale), round(tile.shape[1] * scale)))
            row.paste(Pillow.fromarray(tile), (at * TILE + 2, CAPTION))
        pen, reason = ImageDraw.Draw(row), pair.get("reason")
        said = f": {reason}" if isinstance(reason, str) else ", no reason noted"
        pen.text((4, 2), f"{sample}   eye {pair['verdict']}, sure {pair['confidence']} of 3{said}", "black", font)
        names = ["draft", "reference", *(f"{s} {pair[s]} {pair[s.lower()]:.1f}" for s in ("A", "B")), "target"]
        for at, name in enumerate(names):
            pen.text((at * TILE + 4, 20), name, "black", font)
        rows.append(np.asarray(row))
        if len(rows) == SHEET:
            break
    return np.concatenate(rows)


def above_draft(absolute: pd.DataFrame, scores: Scores, measure: str) -> str:
    """How many of the results that the eye calls better than their draft have more than 0 points."""
    better = absolute[absolute["verdict"] == "better"]
    right = sum(scores[row.sample, row.model][measure] > 0 for row in better.itertuples())
    return f"{right} of {len(better)}"


def ghosts(sets: Iterable[tuple[pd.DataFrame, str]], scores: Scores) -> str:
    """A table of how often the mean of the metrics of sitting agrees with the eye, with `ghosting` and without."""
    metrics = ("seam", "illumination", "sharpness", "ghosting")
    without = {
        key: {f"{count}": float(np.nanmean([row.get(name, np.nan) for name in metrics[:count]])) for count in (3, 4)}
        for key, row in scores.items()
    }
    found = {n: pd.concat([sides(pairs, without, n, verdict) for pairs, verdict in sets]) for n in ("4", "3")}
    lines = ["| pairs | with `ghosting` | without |", "|---|---|---|"]
    for task in (None, "face-refine", "logo-refine"):
        parts = [one if task is None else one[one["task"] == task] for one in found.values()]
        cells = (f"{part['right'].sum():.0f} of {len(part)}" for part in parts)
        lines.append(f"| {task or 'all'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def page(figures: Mapping[str, object], above: Mapping[str, str], saw: str) -> str:
    """The figures as a page."""
    lines = [
        "# Does the score agree with the eye?",
        "",
        "Share of judged pairs in which the score prefers the side that the eye prefers, in per cent with 95 %",
        "intervals (over whole samples). One vision-language model judged all pairs, blind, before scores were",
        "opened; ties are left out. Chance is 50. Made by `python benchmarks/agreement.py --page",
        "reports/agreement.md`; the verdicts lie in `benchmarks/eye/`.",
        "",
    ]
    for title, found in figures.items():
        assert isinstance(found, dict)
        lines += [f"## {title}", "", f"{found['pairs']} pairs, {found['not tied']} of them not tied.", ""]
        lines += ["| | score 1 | score 2 |", "|---|---|---|"]
        for measure, row in found["measures"].items():
            name = {"mean": "**score**"}.get(measure, measure.replace("_", " "))
            lines.append(f"| {name} | {row.get('score 1', '–')} | {row['score 2']} |")
        lines += ["", "Score 2 by confidence of the verdict, and by task:", ""]
        parts = {**found["score 2 by confidence"], **found["score 2 by task"]}
        lines += [f"| {' | '.join(parts)} |", "|---" * len(parts) + "|", f"| {' | '.join(parts.values())} |", ""]
        lines += ["| metric | agrees |", "|---|---|"]
        lines += [f"| `{name}` | {value} |" for name, value in found["metrics"].items() if value != "–"]
        if found["worst"]:
            listed = ", ".join(f"{one['sample']} ({one['apart']:.0f} points apart)" for one in found["worst"])
            lines += ["", f"Worst disagreements of the score: {listed}."]
        lines.append("")
    lines += ["## Single results", ""]
    lines += [f"- better than their draft for the eye, and above 0 by {name}: {value}" for name, value in above.items()]
    return "\n".join([*lines, "", saw])


def read_score_1(path: Path) -> Scores:
    """Score 1 of the judged pictures, as kept."""
    columns = [*AXES, "mean"]
    return {
        (row["sample"], row["model"]): {name: row[name] for name in columns}
        for row in pd.read_csv(path).to_dict("records")
    }


def main(say: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description="Agreement of the score with judged pairs.")
    parser.add_argument("--pairs", type=Path, nargs="*", help="files of pairs; by default those of eye/")
    parser.add_argument("--outputs", type=Path, help="folder of windows, measured anew")
    parser.add_argument("--keep", type=Path, help="write the values measured to this parquet file")
    parser.add_argument("--sheet", type=Path, help="draw the worst disagreements into this WebP file")
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="folders of windows or runs for the sheet")
    parser.add_argument("--page", type=Path, help="write the page here")
    arguments = parser.parse_args()
    if arguments.pairs:
        sets = {path.stem: (pd.read_csv(path), "verdict") for path in arguments.pairs}
        better = [pairs for pairs, _ in sets.values()]
        one: Scores | None = None
    else:
        first, second, last, sitting = (
            pd.read_csv(HERE / f"{name}.csv") for name in ("pairs", "pairs_second", "pairs_last", "sitting")
        )
        sets = {
            "Judged first: metrics and axes were chosen on these": (first, "verdict"),
            "Judged second: how axes make the score was chosen on these and the first": (second, "verdict"),
            "Judged last: nothing was chosen on these": (last, "verdict"),
            "Which sits better? Consistency was chosen on these": (sitting, "verdict"),
            "Which sits better? Nothing of consistency was chosen on these": (pd.concat([second, last]), "sits"),
        }
        better = [first, second, last]
        one = read_score_1(HERE / "score1.csv")
    if arguments.outputs:
        wanted = [(row.sample, m) for pairs, _ in sets.values() for row in pairs.itertuples() for m in (row.A, row.B)]
        values = measured(arguments.outputs, wanted)
        if arguments.keep:
            values.to_parquet(arguments.keep, index=False)
    else:
        values = pd.read_parquet(HERE / "values.parquet")
    two = scored(values)
    figures = report(sets, two, one)
    absolute = pd.read_csv(HERE / "absolute.csv")
    known = absolute[[(row.sample, row.model) in two for row in absolute.itertuples()]]
    above = {name: above_draft(known, two, name) for name in ("mean", "texture_fidelity")}
    say(json.dumps({**figures, "above the draft": above}, indent=1))
    if arguments.sheet:
        drawn = sheet(worst(better, two), values, arguments.pictures, say)
        write_atomic(arguments.sheet, encode_webp(drawn, QUALITY))
    if arguments.page:
        sat = [(pairs, kind) for title, (pairs, kind) in sets.items() if title.startswith("Which sits better")]
        arguments.page.write_text(
            page(figures, above, (HERE / "saw.md").read_text().format(ghosts=ghosts(sat, two)) if sat else "")
        )


if __name__ == "__main__":
    main()

"""The audit: how does each metric answer each failure in rising strength?

Every failure is done to the targets of real samples in four strengths. A metric should get worse, and worse with
every step, for the failures that its axis is about, and may be blind to others: the table says which is which.
Recovery weighs metrics alike, so a metric that answers wrongly does harm: its card says ``scored=False`` and why.

Beside it stands what the metric says of itself and the doctor holds it to (:mod:`refbench.metrics.doctor`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from refbench.baselines import baseline_images
from refbench.csvtext import csv_bytes
from refbench.errors import RefbenchError
from refbench.images import Image, Mask, resize, write_atomic
from refbench.metrics.doctor import Check, run_doctor
from refbench.metrics.failures import FAILURES, SMALL
from refbench.metrics.filters import Floats
from refbench.metrics.measurer import Measurer
from refbench.schema import MetricCard, Truth

if TYPE_CHECKING:
    import pandas as pd

BLIND = 0.05
"""A mean change at the greatest strength below this share of the metric's gap (trivial answer to truth), or of the
largest change that any failure makes in it, is blindness."""
SURE = 0.8
"""Share of samples that must get worse, and of steps that must not get better, to call an answer right or monotone."""
CHEAP = 20.0
"""Per cent of the gap that a failure hardly seen (:data:`refbench.metrics.failures.SMALL`) may cost a scored metric."""


class HasTruths(Protocol):
    """The part of a suite that the audit needs."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Sample ids."""
        ...

    def truth(self, sample: str) -> Truth:
        """The truth of one sample."""
        ...


def picture_truths() -> list[Truth]:
    """Truths made of scikit-image's photographs, for where there is no suite: an ellipse of each is the region."""
    import cv2
    from skimage import data

    truths = []
    for name, (left, top), centre in (
        ("astronaut", (60, 0), (165, 115)),
        ("coffee", (100, 40), (190, 150)),
        ("chelsea", (60, 0), (160, 130)),
        ("rocket", (180, 40), (150, 180)),
    ):
        whole: Image = getattr(data, name)()
        target = np.ascontiguousarray(whole[top : top + 288, left : left + 352])
        filled = np.zeros(target.shape[:2], dtype=np.uint8)
        cv2.ellipse(filled, centre, (80, 60), 15, 0, 360, 1, -1)
        mask: Mask = filled > 0
        soft = cv2.GaussianBlur(target, (0, 0), 3.0).astype(np.float64) * (1.05, 1.0, 0.95)
        draft = np.where(mask[..., None], np.clip(soft, 0, 255).astype(np.uint8), target)
        lit = np.clip(whole * 0.92 + 6.0, 0, 255).astype(np.uint8)
        scale = 0.8
        reference = resize(lit, (round(whole.shape[0] * scale), round(whole.shape[1] * scale)))
        x, y = (centre[0] - 80 + left) * scale, (centre[1] - 80 + top) * scale
        box = (max(round(x), 0), max(round(y), 0), round(160 * scale), round(160 * scale))
        truths.append(Truth(name, target, draft, reference, mask, reference_box=box, category="object"))
    return truths


def measure_failures(
    truths: Sequence[Truth],
    device: str = "cpu",
    names: Sequence[str] | None = None,
    failures: Sequence[str] = tuple(FAILURES),
) -> tuple[pd.DataFrame, dict[str, MetricCard]]:
    """Every metric (or those named) but the diagnostics, which have no better, of every failure in every strength.

    Returns:
        A frame (failure, step 0 to 4, sample, metric, value, gap), step 0 being the target itself and gap the distance
        from the card's trivial answer to the target, better positive; and the cards.
    """
    import pandas as pd

    measurer = Measurer(names, device=device)
    cards = {name: card for name, card in measurer.cards.items() if card.axis != "diagnostics"}

    def measured(truth: Truth, outputs: Sequence[Image]) -> list[dict[str, float]]:
        found = measurer.measure([truth] * len(outputs), outputs)
        return [{score.metric: score.value for score in scores} for scores in found]

    def answered(truth: Truth) -> dict[str, dict[str, float]]:
        answers = baseline_images(truth)
        return dict(zip(answers, measured(truth, list(answers.values())), strict=True))

    rows = []
    for number, original in enumerate(truths):
        untouched = answered(original)
        for failure in failures:
            damage, strengths, _ = FAILURES[failure]
            done = [damage(original, strength, np.random.default_rng([number, 7])) for strength in strengths]
            truth = done[0][0]
            answers = untouched if truth is original else answered(truth)
            scores = [answers["target"], *measured(truth, [output for _, output in done])]
            for name, card in cards.items():
                zero = answers.get(card.trivial, {}).get(name)
                if zero is None or any(name not in values for values in scores):
                    continue
                for step, values in enumerate(scores):
                    rows.append(
                        {
                            "failure": failure,
                            "step": step,
                            "sample": truth.id,
                            "metric": name,
                            "value": _worse(values[name], card),
                            "gap": _worse(zero, card) - _worse(scores[0][name], card),
                        }
                    )
    return pd.DataFrame(rows), cards


def _worse(value: float, card: MetricCard) -> float:
    """The value so that greater is worse; PSNR as root mean squared error."""
    if card.recovery_of == "root_mse":
        return float(10.0 ** (-value / 20.0))
    return -value if card.higher_is_better else value


def judge(frame: pd.DataFrame, cards: dict[str, MetricCard]) -> pd.DataFrame:
    """One row a metric and failure: damage at each step in per cent of the metric's gap, and the verdict.

    - `right`: at the greatest strength the metric is worse on at least 80 % of the samples, and on average by at least
      5 % of its gap; `weak`: worse on average by that much, but on fewer samples;
    - `blind`: moves by less than 5 % of its gap, or of the largest change that any failure makes in the metric;
    - `wrong`: better on average by at least that much;
    - monotone: at least 80 % of the steps of single samples get no better;
    - small: of the failures that are hardly seen at a small strength (:data:`refbench.metrics.failures.SMALL`) what
      that strength costs, in per cent of the gap, a value better than the truth's counted as the truth's, as recovery
      does; NaN for the others.
    """
    import pandas as pd

    ends = frame[frame["step"].isin([0, 4])].pivot_table(
        index=["metric", "failure"], columns="step", values="value", aggfunc="mean"
    )
    largest = (ends[4] - ends[0]).abs().groupby("metric").max()
    rows = []
    for (metric, failure), part in frame.groupby(["metric", "failure"], sort=False):
        values: Floats = part.pivot(index="sample", columns="step", values="value").to_numpy(np.float64)
        gap = max(abs(float(part.groupby("sample")["gap"].first().mean())), 1e-9)
        moved = values - values[:, :1]
        damage = 100.0 * moved.mean(axis=0) / gap
        worse_on = float((moved[:, -1] > 1e-9).mean())
        steps = np.diff(values, axis=1)
        monotone = float((steps >= -1e-9).mean())
        last = damage[-1]
        if abs(last) < 100.0 * BLIND or abs(moved[:, -1].mean()) < BLIND * largest[metric]:
            verdict = "blind"
        elif last < 0:
            verdict = "wrong"
        else:
            verdict = "right" if worse_on >= SURE else "weak"
        rows.append(
            {
                "metric": metric,
                "axis": cards[str(metric)].axis,
                "failure": failure,
                **{f"step{i}": round(float(damage[i]), 1) for i in range(1, 5)},
                "worse_on": round(worse_on, 2),
                "monotone": round(monotone, 2),
                "small": _small(str(failure), moved, gap),
                "verdict": verdict,
                "samples": len(values),
                "scored": cards[str(metric)].scored,
            }
        )
    return pd.DataFrame(rows)


def _small(failure: str, moved: Floats, gap: float) -> float:
    """Cost of the small strength of a failure from damages (samples, steps 0 to 4); NaN where it has none."""
    if failure not in SMALL:
        return float("nan")
    step, _ = SMALL[failure]
    return round(100.0 * float(np.maximum(moved[:, step], 0.0).mean()) / gap, 1)


def run_audit(suite: HasTruths | None = None, limit: int | None = None, device: str = "cpu") -> pd.DataFrame:
    """The audit's table.

    Args:
        suite: whose targets are damaged; four photographs of scikit-image when None.
        limit: so many samples, taken evenly over the suite.
        device: where networks run.

    Returns:
        Rows of :func:`judge`, with the metric's own checks in words (:func:`checks_in_words`) in a column `checks`.

    Raises:
        RefbenchError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise RefbenchError(f"Expected a limit of 1 or more samples, got {limit}; leave it out to take all.")
    if suite is None:
        truths = picture_truths()[:limit]
    else:
        ids = list(suite.ids)
        count = len(ids) if limit is None else min(limit, len(ids))
        truths = [suite.truth(ids[at]) for at in np.linspace(0, len(ids) - 1, count).astype(int)]
    frame, cards = measure_failures(truths, device)
    told = checks_in_words(run_doctor(list(cards), device))
    return judge(frame, cards).assign(checks=lambda table: table["metric"].map(told))


def checks_in_words(checks: Sequence[Check]) -> dict[str, str]:
    """Metric -> its checks by kind: "6 closed form, second library, perfect", or "none" where it names none.

    Behind a check that failed, or could not be made here, stands why.
    """
    found: dict[str, Counter[str]] = {check.metric: Counter() for check in checks}
    for check in checks:
        note = check.note or f"expected {check.expected:g}, found {check.found:g}"
        why = {True: "", False: f" FAILED ({note})", None: f" ({note})"}[check.passed]
        if check.kind != "none":
            found[check.metric][f"{check.kind}{why}"] += 1
    return {
        metric: ", ".join(f"{count} {what}" if count > 1 else what for what, count in kinds.items()) or "none"
        for metric, kinds in found.items()
    }


MISSING = "**none**: only this audit holds it to anything"
MARK = {"right": "●", "weak": "◐", "blind": "○", "wrong": "✗"}


def audit_markdown(table: pd.DataFrame, source: str) -> str:
    """The table as a page: one row a metric, one column a failure, with what each metric is blind to."""
    failures = list(FAILURES)
    small = {name: f"{words} {name}" for name, (_, words) in SMALL.items()}
    lines = [
        "# Audit of the metrics",
        "",
        f"Made by `refbench.metrics.run_audit` on {source}. Every failure is done to the targets in four rising "
        "strengths; the number is the damage that a metric sees at the greatest strength, in per cent of its gap "
        "between trivial answer and truth (100 = as bad as the trivial answer).",
        "",
        "● right: worse on at least 80 % of samples · ◐ worse on average only · ○ blind: moves by less than 5 % of the "
        "gap, or of its largest move · "
        "✗ wrong: gets better · `~` not monotone (more than 20 % of the steps get better).",
        "",
        "The last columns: what a failure that is hardly seen costs, in per cent of the gap, a value better than the "
        f"truth's counted as the truth's; bold where it is {CHEAP:g} or more.",
        "",
        "| metric | scored | " + " | ".join([*failures, "blind to", *small.values()]) + " |",
        "|---|---|" + "---|" * (len(failures) + 1 + len(small)),
    ]
    for metric, rows in table.groupby("metric", sort=False):
        by = rows.set_index("failure")
        cells = []
        for failure in failures:
            if failure not in by.index:
                cells.append("–")
                continue
            row = by.loc[failure]
            wavy = " ~" if row["monotone"] < SURE and row["verdict"] != "blind" else ""
            number = "" if row["verdict"] == "blind" else f" {row['step4']:.0f}"
            cells.append(f"{MARK[str(row['verdict'])]}{number}{wavy}")
        blind = ", ".join(f for f in failures if f in by.index and by.loc[f, "verdict"] == "blind")
        scored = "yes" if bool(rows["scored"].iloc[0]) else "no"
        costs = [float(by.loc[name, "small"]) if name in by.index else float("nan") for name in small]
        told = ["–" if np.isnan(cost) else f"**{cost:.0f}**" if cost >= CHEAP else f"{cost:.0f}" for cost in costs]
        lines.append(f"| {metric} | {scored} | " + " | ".join([*cells, blind, *told]) + " |")
    units = "; ".join(
        f"{name} {'/'.join(f'{s:g}' for s in steps)} {unit}" for name, (_, steps, unit) in FAILURES.items()
    )
    held = table.groupby("metric", sort=False)["checks"].first().replace("none", MISSING)
    lines += [
        "",
        f"Strengths: {units}.",
        "",
        "## What each metric is held to",
        "",
        "Its own checks, run by `refbench doctor`: values worked out on paper or published (closed form), the same "
        "number by a second library, what the target itself scores (perfect), and that output and target can change "
        "places (symmetric).",
        "",
        "| metric | checks |",
        "|---|---|",
        *(f"| {metric} | {MISSING if told == 'none' else told} |" for metric, told in held.items()),
        "",
    ]
    return "\n".join(lines)


def write_audit(table: pd.DataFrame, folder: Path, source: str) -> tuple[Path, Path]:
    """Write ``audit.md`` and ``audit.csv`` to a folder; returns their paths.

    Raises:
        RefbenchError: the folder cannot be written.
    """
    page, rows = folder / "audit.md", folder / "audit.csv"
    write_atomic(page, audit_markdown(table, source).encode())
    write_atomic(rows, csv_bytes(table))
    return page, rows

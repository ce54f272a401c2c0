"""Read an entry's claimed scores from its parquet file, and compare claims with what was recomputed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refbench.leaderboard.refused import RefusedError
from refbench.leaderboard.textsafe import printable
from refbench.leaderboard.verdict import ClaimDifference
from refbench.runs.tables import schema
from refbench.schema import MetricCard
from refbench.stats.recovery import Summary

MAX_UNPACKED = 256 * 1024 * 1024
POINTS = 0.01
"""Recovery points that an aggregated value may differ by, beside what its metrics' tolerances amount to."""
INTERVAL_POINTS = 0.1
"""The same for the ends of intervals: quantiles of resamples can jump from one to the next."""

Key = tuple[str, str]


def read_scores(path: Path, samples: int, cards: Mapping[str, str]) -> dict[Key, float]:
    """Claimed values by (sample, metric); arguments and errors as :func:`read_rows`."""
    return {key: float(row["value"]) for key, row in read_rows(path, samples, cards).items()}


def check_labels(
    rows: Mapping[Key, Mapping[str, Any]], cards: Mapping[str, MetricCard], tasks: Mapping[str, str]
) -> None:
    """Refuse a row that puts its score into another task, axis or region than sample and card do.

    Args:
        rows: of :func:`read_rows`.
        tasks: sample -> task.

    Raises:
        RefusedError: "broken-scores".
    """
    for (sample, metric), row in rows.items():
        card, shown = cards[metric], f"{printable(metric, 40)} of {printable(sample, 60)}"
        right: dict[str, object] = {"task": tasks.get(sample), "axis": card.axis, "region": card.region}
        right |= {"higher_is_better": card.higher_is_better}
        for name, value in right.items():
            if row[name] != value:
                raise RefusedError(
                    "broken-scores",
                    f"Expected {name} {value} for {shown}, but its row says {printable(row[name], 40)}; measure the "
                    "run again.",
                )


def read_rows(path: Path, samples: int, cards: Mapping[str, str]) -> dict[Key, dict[str, Any]]:
    """Rows of the score table by (sample, metric), after looking at the file's declared sizes and columns.

    Args:
        samples: how many samples the suite has.
        cards: metric -> card hash that every row must carry.

    Raises:
        RefusedError: "broken-scores", "duplicate-score", "not-finite", "other-card" or "too-large".
    """
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=False)
        meta = file.metadata
        unpacked = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
        if meta.num_rows > 4 * samples * max(len(cards), 1) or unpacked > MAX_UNPACKED:
            raise RefusedError(
                "too-large", f"Expected scores of {samples} samples, but the table declares {meta.num_rows} rows."
            )
        if not file.schema_arrow.remove_metadata().equals(schema("scores")):
            raise RefusedError(
                "broken-scores", "Expected the columns of a refbench score table, but scores.parquet has others."
            )
        rows = file.read().to_pylist()
    except RefusedError:
        raise
    except Exception as error:  # Arrow's own errors, and OSError, ValueError, MemoryError ... of damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RefusedError(
            "broken-scores", f"Expected a readable scores.parquet, but {printable(reason)}; pack again."
        ) from None
    found: dict[Key, dict[str, Any]] = {}
    for row in rows:
        key = (str(row["sample"]), str(row["metric"]))
        shown = f"{printable(key[1], 40)} of {printable(key[0], 60)}"
        if key in found:
            raise RefusedError("duplicate-score", f"Expected each score once, but {shown} is there twice.")
        value = row["value"]
        if value is None or math.isnan(value) or value == -math.inf or (value == math.inf and key[1] != "psnr"):
            raise RefusedError("not-finite", f"Expected a finite score, but {shown} is {value}; measure the run again.")
        if row["card"] != cards.get(key[1]):
            raise RefusedError(
                "other-card",
                f"Expected {shown} by the card {cards.get(key[1], '(none)')}, but its row names "
                f"{printable(row['card'], 20)}; measure the run again.",
            )
        found[key] = row
    return found


def compare_scores(
    claimed: Mapping[Key, float], found: Mapping[Key, float], cards: Mapping[str, MetricCard]
) -> list[ClaimDifference]:
    """Every score whose recomputed value is further away than its card's tolerance, or that only one side has."""
    differences = []
    for key in sorted(claimed.keys() | found.keys()):
        one, two = claimed.get(key), found.get(key)
        tolerance = cards[key[1]].tolerance if key[1] in cards else 0.0
        if one is not None and two is not None and (one == two or abs(one - two) <= tolerance):
            continue
        differences.append(
            ClaimDifference(
                what=f"score {key[1]} of {key[0]}", claimed=_shown(one), found=_shown(two), tolerance=tolerance
            )
        )
    return differences


def _shown(value: float | None) -> float | None:
    """JSON has no infinity: an infinite PSNR is shown as 1e9 dB."""
    return value if value is None or math.isfinite(value) else 1e9


def slack(gap: float, card: MetricCard) -> float:
    """Recovery points that a metric may move when each of its scores moves by the card's tolerance.

    Args:
        gap: mean gap between truth and trivial answer, in the unit of the recovery. For PSNR that is root mean
            squared error, at most 1, which changes by at most ln(10)/20 of itself for a dB.
    """
    step = card.tolerance * (math.log(10) / 20 if card.recovery_of == "root_mse" else 1.0)
    return 100.0 * step / gap


def compare_claims(claimed: Summary, found: Summary, allowed: float) -> tuple[int, list[ClaimDifference]]:
    """Every number of the claimed summary that recomputing does not give.

    Args:
        allowed: recovery points that values may differ by, beside :data:`POINTS`.

    Returns:
        How many numbers were compared, and the differences.
    """
    mine, theirs = _numbers(found), _numbers(claimed)
    differences = []
    for place in sorted(mine.keys() | theirs.keys()):
        one, two = theirs.get(place), mine.get(place)
        if place.endswith((" low", " high")):
            tolerance = INTERVAL_POINTS + 2 * allowed
        elif place.endswith("value"):
            tolerance = POINTS + allowed
        elif place.endswith("raw_mean"):
            tolerance = 1e-3 * max(1.0, abs(two or 0.0))
        else:
            tolerance = 0.0
        if one == two or (one is not None and two is not None and abs(one - two) <= tolerance):
            continue
        differences.append(ClaimDifference(what=f"claim {place}", claimed=one, found=two, tolerance=tolerance))
    return len(mine.keys() | theirs.keys()), differences


def _numbers(summary: Summary) -> dict[str, float | None]:
    """All that a summary says, by its place in words: its numbers, and 1 for each text (which metric is in which axis,
    which are not scored, by which method) so that another text is one that the other side lacks."""
    out: dict[str, float | None] = {}

    def walk(place: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(f"{place} {key}".strip(), item)
        elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            out[place] = None if value is None else float(value)
        elif isinstance(value, str):
            out[f"{place} {value}"] = 1.0

    walk("", summary.model_dump(mode="python"))
    return {place: value for place, value in out.items() if value is None or np.isfinite(value)}

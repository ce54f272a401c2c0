"""The board's baseline sheet: what the baselines and the truth score, the samples' metadata, the metric cards.

It stands beside the entries so that the board can be rendered anywhere from the committed files alone,
without the suite's pictures, the metric libraries or their weights.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, ValidationError

from refbench.csvtext import csv_bytes, csv_text
from refbench.errors import RefbenchError
from refbench.images import Image, encode_webp, resize, write_atomic
from refbench.leaderboard.submission import THUMB_PX, THUMBS, thumbnail
from refbench.results.comparable import Facts
from refbench.results.run import measured, meta_table
from refbench.runs.aggregate import scoring
from refbench.runs.folder import first_fault
from refbench.schema import MetricCard, Record
from refbench.stats.gains import NO_TARGETS

if TYPE_CHECKING:
    import pandas as pd

    from refbench.tasks.suite import Suite

FOLDER = "sheet"


class SheetHead(Record):
    """Content of ``sheet.json``."""

    suite: str
    suite_version: str
    suite_hash: str
    metric_cards: dict[str, str]
    """Metric -> hash of the card that every score of the board carries."""
    cards: dict[str, MetricCard]
    lacking: dict[str, str] = Field(default_factory=dict)
    """Scoring metric without scores -> why: the suite has no targets."""

    @property
    def without(self) -> bool:
        """Whether the suite has no targets, so that texture and score are not measured."""
        return NO_TARGETS in self.lacking.values()


@dataclass(frozen=True, slots=True)
class BaselineSheet:
    """The baseline sheet in memory."""

    head: SheetHead
    baselines: pd.DataFrame
    metas: pd.DataFrame
    """With a column `difficulty`: how far the draft is from the truth, in thirds of the suite."""
    folder: Path

    @property
    def facts(self) -> Facts:
        """What decides which results may stand on the board."""
        return Facts(self.head.suite_hash, tuple(self.metas["sample"]), self.head.metric_cards)

    @property
    def scoring(self) -> set[str]:
        """The metrics that make the score."""
        return {name for name, card in self.head.cards.items() if card.scored}


def difficulty(baselines: pd.DataFrame, samples: list[str]) -> list[str]:
    """Thirds of the suite by the draft's PSNR inside the mask; "unknown" where that was not measured.

    Returns:
        One of easy (draft near the truth), medium, hard for each sample.
    """
    rows = baselines[(baselines["answer"] == "draft") & (baselines["metric"] == "psnr")]
    values = dict(zip(rows["sample"], rows["value"], strict=True))
    known = np.array([values[s] for s in samples if s in values], dtype=np.float64)
    if not len(known):
        return ["unknown"] * len(samples)
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    return [
        "unknown" if s not in values else "hard" if values[s] < low else "medium" if values[s] < high else "easy"
        for s in samples
    ]


def write_sheet(board: Path, run: Path, suite: Suite, cards: Mapping[str, MetricCard]) -> Path:
    """Write the sheet from a measured run over the whole suite; its model does not matter.

    Raises:
        RefbenchError: the run is of another suite or is not measured, or the folder cannot be written.
    """
    import pyarrow.parquet as pq

    from refbench.metrics.contract import card_hash

    folder, manifest = measured(run)
    if manifest.suite_hash != suite.hash or set(manifest.samples) != set(suite.ids):
        raise RefbenchError(
            f"Expected a measured run over the whole suite '{suite.name}' at {run}, but it is of another suite or "
            "unfinished; run 'refbench eval' without --tasks and --limit."
        )
    table = pq.read_table(folder.answers)
    named = set(table.column("metric").to_pylist())
    used = {name: card for name, card in cards.items() if name in named}
    known, why = scoring(manifest)
    lacking = {name: known[name] for name in why if why[name] == NO_TARGETS and known[name].scored}
    head = SheetHead(
        suite=suite.name,
        suite_version=str(suite.version),
        suite_hash=suite.hash,
        metric_cards={name: card_hash(card) for name, card in used.items()},
        cards=used | lacking,
        lacking=dict.fromkeys(lacking, NO_TARGETS),
    )
    to = board / FOLDER
    content = head.model_dump(mode="json", exclude=None if lacking else {"lacking"})
    text = json.dumps(content, indent=1, ensure_ascii=False)
    write_atomic(to / "sheet.json", (text + "\n").encode())
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), buffer, compression="zstd")
    write_atomic(to / "answers.parquet", buffer.getvalue())
    write_atomic(to / "samples.csv", csv_bytes(meta_table(suite.metas)))
    seen: set[str] = set()
    for meta in suite.metas:
        if meta.task not in seen and len(seen) < THUMBS:
            seen.add(meta.task)
            sample = suite.sample(meta.id)
            pictures = {
                "draft": thumbnail(sample.draft, sample.mask),
                "reference": _small(sample.reference),
                **({"target": thumbnail(suite.target(sample), sample.mask)} if suite.targets else {}),
            }
            for kind, image in pictures.items():
                write_atomic(to / "thumbs" / f"{meta.id}-{kind}.webp", encode_webp(image, 60))
    return to


def _small(image: Image) -> Image:
    """The middle square of a picture, as large as a thumbnail."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return resize(image[top : top + side, left : left + side], (THUMB_PX, THUMB_PX))


def read_sheet(board: Path) -> BaselineSheet:
    """Read the sheet of a board.

    Raises:
        RefbenchError: there is none, or it is broken.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    folder = board / FOLDER
    try:
        head = SheetHead.model_validate_json((folder / "sheet.json").read_bytes())
        baselines = pq.read_table(folder / "answers.parquet").to_pandas()
        metas = pd.read_csv(folder / "samples.csv", keep_default_na=False)
        metas = metas.map(lambda value: csv_text(value) if isinstance(value, str) else value)
    except FileNotFoundError as error:
        raise RefbenchError(
            f"Expected an baseline sheet at {folder}, but {Path(str(error.filename)).name} is not there; "
            "start the board with 'refbench leaderboard add RUN'."
        ) from None
    except ValidationError as error:
        raise RefbenchError(
            f"Expected an baseline sheet at {folder}, but {first_fault(error)}; write it again."
        ) from None
    except (OSError, ValueError) as error:
        raise RefbenchError(f"Expected a readable baseline sheet at {folder}, but {error}; write it again.") from None
    metas["difficulty"] = difficulty(baselines, list(metas["sample"]))
    return BaselineSheet(head, baselines, metas, folder)

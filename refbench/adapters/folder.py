"""Refinements that exist already: a folder of PNGs named ``<sample id>.png``."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from refbench.adapters.contract import normalise_output
from refbench.adapters.load import check_card
from refbench.errors import RefbenchError
from refbench.images import Image, load_image
from refbench.schema import AdapterCard, Inputs, Refinement


class FolderAdapter:
    """Answers each sample with the PNG of its id, from the folder or one folder below it.

    ``card.json`` beside the PNGs, if there is one, holds the fields of the card; else the folder's name is the
    model's. The folder is listed once; a file is read when its sample is asked for.

    Args:
        folder: where the PNGs are, flat or one folder a task (as a run's ``outputs``).

    Raises:
        RefbenchError: no PNG at all, two for one id, or a broken card.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, Path] = {}
        for path in [*sorted(folder.glob("*.png")), *sorted(folder.glob("*/*.png"))]:
            if path.stem in self.files:
                raise RefbenchError(
                    f"Expected one PNG for each sample id in {folder}, but '{path.stem}' is there twice "
                    f"({self.files[path.stem]} and {path}); remove one."
                )
            self.files[path.stem] = path
        if not self.files:
            raise RefbenchError(
                f"Expected PNGs named <sample id>.png in {folder}, but there are none; check the folder, or give a "
                "Python file."
            )
        self.card = self._card()

    def _card(self) -> AdapterCard:
        path = self.folder / "card.json"
        if not path.is_file():
            return AdapterCard(
                name=self.folder.name,
                summary=f"Images made elsewhere, read from the folder '{self.folder.name}'.",
                deterministic=True,
            )
        try:
            return check_card(json.loads(path.read_text(encoding="utf-8")), str(path))
        except (ValueError, OSError) as error:
            raise RefbenchError(f"Expected a card in JSON at {path}, but {error}; correct it or remove it.") from None

    def refine(self, inputs: Inputs, /) -> Image:
        """The image made elsewhere for this sample.

        Raises:
            RefbenchError: there is none, it is damaged, or its size is not the draft's.
        """
        path = self.files.get(inputs.id)
        if path is None:
            raise RefbenchError(f"Expected {inputs.id}.png in {self.folder}, but it is not there; add it.")
        return normalise_output(load_image(path), inputs)


class FolderContained:
    """A folder as a contained adapter: reading it runs no foreign code, so it needs no child."""

    isolation = "folder"

    def __init__(self, adapter: FolderAdapter) -> None:
        self.card = adapter.card
        self._adapter = adapter

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[Refinement]:
        """One refinement for each input; a missing or damaged file is that sample's failure."""
        return [self._one(inputs) for inputs in batch]

    def _one(self, inputs: Inputs) -> Refinement:
        start = time.perf_counter()
        try:
            image = self._adapter.refine(inputs)
        except RefbenchError as error:
            failure = "missing" if inputs.id not in self._adapter.files else "invalid"
            return Refinement(inputs.id, None, time.perf_counter() - start, str(error), {"failure": failure})
        return Refinement(inputs.id, image, time.perf_counter() - start)

    def close(self) -> None:
        """Nothing to end."""

"""Samples of a suite to try the page with: what a model would see of them, never the target."""

from __future__ import annotations

import threading
from typing import Any

from refbench.app.store import GoneError
from refbench.images import Image, encode_png, encode_webp, mask_box, resize
from refbench.runs.suites import open_suite

MOST = 48
"""How many are offered."""
THUMB = 120
"""Height and width of a small picture in px: the region with some room around it."""


class Examples:
    """The first samples of a suite's tasks in turn; errors as :func:`refbench.runs.suites.open_suite`."""

    def __init__(self, suite: str) -> None:
        self._suite = open_suite(suite).select(limit=MOST)
        self._reading = threading.Lock()

    def rows(self) -> list[dict[str, Any]]:
        """Id and task of each."""
        return [{"id": meta.id, "task": meta.task} for meta in self._suite.metas]

    def facts(self, name: str) -> dict[str, Any]:
        """Prompt and box of one; errors as :meth:`picture`."""
        sample = self._sample(name)
        return {"id": name, "prompt": sample.prompt, "reference_box": sample.reference_box}

    def picture(self, name: str, what: str) -> tuple[bytes, str]:
        """A file of one and its type: draft, reference or mask as PNG, or thumb as WebP.

        Raises:
            GoneError: there is no such sample or file.
        """
        sample = self._sample(name)
        if what == "thumb":
            return encode_webp(_thumb(sample.draft, mask_box(sample.mask)), 80, method=4), "image/webp"
        if what not in ("draft", "reference", "mask"):
            raise GoneError(f"Expected draft, reference, mask or thumb of an example, but '{what}' came.")
        return encode_png(getattr(sample, what)), "image/png"

    def _sample(self, name: str) -> Any:
        if name not in self._suite.ids:
            raise GoneError("Expected one of the page's examples, but there is none of that name.")
        with self._reading:
            return self._suite.sample(name)


def _thumb(picture: Image, box: tuple[int, int, int, int]) -> Image:
    """A square around a box, as far as the picture goes, small."""
    height, width = picture.shape[:2]
    side = min(max(int(1.5 * max(box[2:])), THUMB), height, width)
    x, y = (
        min(max(start + length // 2 - side // 2, 0), limit - side)
        for start, length, limit in ((box[0], box[2], width), (box[1], box[3], height))
    )
    return resize(picture[y : y + side, x : x + side], (THUMB, THUMB))

"""The metric contract: a card, what it needs, and a pure function of one output beside its truth.

A metric is a class of one page. It says what it is (:meth:`Metric.card`, cheap, without heavy imports), what
it needs, why it may be unavailable here, and turns a :class:`refbench.metrics.view.View` into a number. Two
metrics never talk to each other; what they share (crops, colour spaces, maps) they take from the view.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar, Literal, TypeAlias

from refbench.images import Image
from refbench.metrics.checks import Form, Second
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

Need: TypeAlias = Literal["mask", "reference", "draft"]


def card_sha256(card: MetricCard) -> str:
    """SHA-256 of the card as canonical JSON (sorted keys, no spaces, UTF-8), 64 hex digits."""
    text = json.dumps(card.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def card_hash(card: MetricCard) -> str:
    """The first 12 hex digits of :func:`card_sha256`; stands in every score."""
    return card_sha256(card)[:12]


@lru_cache
def library(name: str, *packages: str) -> str:
    """Name and installed version for a card's backend, e.g. "OpenCV 5.0.0"; `packages` are tried in order.

    The local part of a version names a build (torch 2.13.0+cpu), which is no other definition, so it is left out.
    """
    for package in packages or (name,):
        try:
            return f"{name} {version(package).partition('+')[0]}"
        except PackageNotFoundError:
            continue
    return f"{name} (not installed)"


def opencv() -> str:
    """Name and version of whichever OpenCV wheel is installed."""
    return library("OpenCV", "opencv-python-headless", "opencv-python", "opencv-contrib-python-headless")


class Metric(ABC):
    """One metric. Subclasses set the class variables, write a card and a value."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    """Parts of a truth, beside the target, without which the metric is undefined."""
    batched: ClassVar[bool] = False
    """True where :meth:`values` runs a network over many views at once."""
    target_free: ClassVar[bool] = False
    """True where the metric never looks at the target inside the mask, so that it has a value without a target."""
    smallest: ClassVar[int] = 11
    """Shortest side in px of an image on which the metric is defined."""
    perfect: ClassVar[float | None] = None
    """What an output that equals the target scores by definition; None where the definition gives no such number."""
    symmetric: ClassVar[bool] = False
    """True where the definition does not tell output and target apart."""
    second: ClassVar[Second | None] = None
    """The same number by a second library; None where there is none, or where the metric runs a published network."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    @abstractmethod
    def card(self) -> MetricCard:
        """The whole definition."""

    @cached_property
    def hash(self) -> str:
        """First 12 digits of the card's SHA-256."""
        return card_hash(self.card())

    def missing(self) -> str | None:
        """None where the metric can run here, else one sentence: what is missing and the command that fetches it."""
        return None

    def lacking(self, truth: Truth, any_category: bool = False) -> str | None:
        """None where this truth has what the metric needs, else what it lacks, as a noun phrase."""
        if not truth.has_target and not self.target_free:
            return "a target"
        for need in sorted(self.needs):
            if getattr(truth, need) is None:
                return f"a {need}"
        if min(truth.target.shape[:2]) < self.smallest:
            return f"an image of at least {self.smallest} px on its short side"
        categories = self.card_once.categories
        if categories is not None and not any_category and truth.category not in categories:
            return f"a sample of category {' or '.join(categories)}"
        return None

    @cached_property
    def card_once(self) -> MetricCard:
        """The card, made once."""
        return self.card()

    def closed_forms(self) -> Iterator[Form]:
        """Values that can be worked out on paper, or were published, and what the metric gives for them."""
        return iter(())

    def number(self, truth: Truth, output: Image) -> float:
        """The number for one output, NaN where it is undefined."""
        value = self.values([View(truth, output)])[0]
        return math.nan if value is None else value

    def value(self, view: View) -> float | None:
        """The number for one output, or None where it is undefined for this sample (the card says when)."""
        raise NotImplementedError

    def values(self, views: Sequence[View]) -> list[float | None]:
        """The numbers for several outputs; equal to calling :meth:`value` on each (to 1e-5)."""
        return [self.value(view) for view in views]

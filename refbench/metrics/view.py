"""One output beside its truth, cut once and shared by all metrics; and what is known of a truth alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np

from refbench.images import Image, Mask
from refbench.metrics import filters
from refbench.metrics.features import Arrays, FeatureStore
from refbench.metrics.filters import Floats, Singles
from refbench.metrics.regions import composite, cut, region_box
from refbench.schema import Box, Region, Truth

T = TypeVar("T")
LARGE = 1_500_000
"""Regions of more px hold no array that a metric can make again, so that memory is that of one metric at a time."""
LAB = "d65-near6-f4"
"""Stands where a card's hash stands in the names of features that belong to no metric: what :attr:`Known.lab` keeps."""


class shared_array(Generic[T]):
    """A cached property of a view or of what is known of a truth, made again at each use where the region is large."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> T:
        if instance is None:
            return self  # type: ignore[return-value]
        found: T = self._make(instance)
        if not instance.large:
            instance.__dict__[self._name] = found  # found there the next time: this is no data descriptor
        return found


class Known:
    """What depends on a truth alone: its crops, and features that a store keeps from one model to the next."""

    def __init__(self, truth: Truth, store: FeatureStore | None = None) -> None:
        self.truth = truth
        self._store = store if truth.key else None
        self._features: dict[str, Arrays] = dict(self._store.load(truth.key)) if self._store is not None else {}
        self._apart: dict[str, Arrays] = {}
        self.shared: dict[str, object] = {}
        """What metrics share of this truth while it is measured, kept nowhere."""
        self._new = False

    def feature(self, name: str, card: str, make: Callable[[], Arrays]) -> Arrays:
        """Arrays that belong to this truth and to the metric card with this hash, made once and stored.

        Args:
            name: of the feature within its metric.
            card: hash of the card whose definition `make` follows; another definition is another feature.
            make: returns the arrays by name.
        """
        full = f"{name}@{card}"
        if full not in self._features:
            self._features[full] = dict(make())
            self._new = True
        return self._features[full]

    def has(self, name: str, card: str) -> bool:
        """Whether :meth:`feature` would find this one made."""
        return f"{name}@{card}" in self._features

    def apart(self, name: str, card: str, make: Callable[[], Arrays], most_mb: float) -> Arrays:
        """:meth:`feature` for large arrays: in a file of their own, read only by who asks; none above `most_mb`."""
        full = f"{name}@{card}"
        if not self.has_apart(name, card):
            made = self._apart[full] = dict(make())
            size = sum(array.nbytes for array in made.values())
            if self._store is not None and size <= most_mb * 2**20:
                self._store.save(f"{self.truth.key}.{full}", {full: made})
        return self._apart[full]

    def has_apart(self, name: str, card: str) -> bool:
        """Whether :meth:`apart` finds this one made."""
        full = f"{name}@{card}"
        if full not in self._apart and self._store is not None:
            found = self._store.load(f"{self.truth.key}.{full}").get(full)
            if found is not None:
                self._apart[full] = found
        return full in self._apart

    def save(self) -> None:
        """Hand new features to the store; does nothing where there is no store or nothing is new."""
        if self._store is not None and self._new:
            self._store.save(self.truth.key, self._features)
            self._new = False

    @cached_property
    def box(self) -> Box:
        """The region's box in the frame: (x, y, width, height)."""
        return region_box(self.truth.mask, self.truth.target.shape[:2])

    @cached_property
    def large(self) -> bool:
        """Whether the region has more than :data:`LARGE` px."""
        return self.box[2] * self.box[3] > LARGE

    @cached_property
    def mask(self) -> Mask:
        """The mask in the box, (h, w) bool; all true without a mask."""
        if self.truth.mask is None:
            return np.ones(self.truth.target.shape[:2], dtype=bool)
        return np.ascontiguousarray(cut(self.truth.mask, self.box))

    @cached_property
    def target(self) -> Image:
        """The target in the box, (h, w, 3) uint8."""
        return np.ascontiguousarray(cut(self.truth.target, self.box))

    @shared_array
    def rgb(self) -> Floats:
        """The target in the box, float64 RGB in [0, 1]."""
        return filters.unit(self.target)

    @shared_array
    def single(self) -> Singles:
        """:attr:`rgb` in float32."""
        return filters.single(self.target)

    @shared_array
    def luma(self) -> Floats:
        """BT.601 luma of the target in the box, float64 in [0, 1]."""
        return filters.luma(self.rgb)

    @shared_array
    def near(self) -> Mask:
        """The mask and what lies within 6 px of it, (h, w) bool; where :attr:`lab` has values."""
        import cv2

        return np.asarray(cv2.dilate(self.mask.astype(np.uint8), np.ones((13, 13), np.uint8)), dtype=bool)

    def lab_of(self, image: Image) -> Floats:
        """CIELAB (D65) of an image of the box's size :attr:`near` the mask, 0 elsewhere."""
        if self.near.all():
            return filters.lab(image)
        out = np.zeros(image.shape, dtype=np.float64)
        out[self.near] = filters.lab(image[self.near])
        return out

    @shared_array
    def lab(self) -> Floats:
        """CIELAB (D65) of the target :attr:`near` the mask, 0 elsewhere; kept in float32 (4e-6 of a unit)."""
        if self.large:
            return self.lab_of(self.target)
        kept = self.feature("view.lab", LAB, lambda: {"near": filters.lab(self.target[self.near]).astype(np.float32)})
        out = np.zeros(self.target.shape, dtype=np.float64)
        out[self.near] = kept["near"]
        return out


class View:
    """One output beside its truth. All arrays are of the region's box unless they say otherwise."""

    def __init__(self, truth: Truth, output: Image, known: Known | None = None) -> None:
        self.truth = truth
        self.output = output
        self.known = Known(truth) if known is None else known
        self.shared: dict[str, object] = {}
        """What :meth:`once` has made, by name."""

    @property
    def region(self) -> Region:
        """`inside` with a mask, `full` without."""
        return "full" if self.truth.mask is None else "inside"

    @property
    def large(self) -> bool:
        """See :attr:`Known.large`."""
        return self.known.large

    def once(self, name: str, make: Callable[[], T]) -> T:
        """A value that several metrics share, made by the first that asks; arrays of a large region are not kept."""
        if self.large:
            return make()
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]  # type: ignore[return-value]

    @property
    def box(self) -> Box:
        """The region's box in the frame."""
        return self.known.box

    @property
    def mask(self) -> Mask:
        """The mask in the box; all true without a mask."""
        return self.known.mask

    @cached_property
    def image(self) -> Image:
        """The output's masked pixels over the target, (h, w, 3) uint8; what `inside` metrics see."""
        part = cut(self.output, self.box)
        if self.truth.mask is None:
            return np.ascontiguousarray(part)
        return composite(part, self.known.target, self.known.mask)

    @shared_array
    def rgb(self) -> Floats:
        """:attr:`image` as float64 RGB in [0, 1]."""
        return filters.unit(self.image)

    @shared_array
    def single(self) -> Singles:
        """:attr:`rgb` in float32."""
        return filters.single(self.image)

    @shared_array
    def luma(self) -> Floats:
        """BT.601 luma of :attr:`image`, float64 in [0, 1]."""
        return filters.luma(self.rgb)

    @shared_array
    def lab(self) -> Floats:
        """CIELAB (D65) of :attr:`image` near the mask (within 6 px)."""
        return self.known.lab_of(self.image)

    @cached_property
    def same(self) -> bool:
        """Whether the output equals the target on all masked pixels."""
        return bool(np.array_equal(self.image, self.known.target))

    @cached_property
    def changed(self) -> Mask:
        """(H, W) of the frame: pixels outside the mask that differ from the target in any channel."""
        if self.truth.mask is None:
            return np.zeros(self.output.shape[:2], dtype=bool)
        import cv2

        same = cv2.inRange(cv2.absdiff(self.output, self.truth.target), (0, 0, 0), (0, 0, 0))
        changed: Mask = (np.asarray(same) == 0) & ~self.truth.mask
        return changed

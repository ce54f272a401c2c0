"""Measure outputs beside their truths: every metric, in batches, each shared thing made once."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from refbench.errors import RefbenchError, UnavailableError
from refbench.images import Image, Mask, check_mask, check_same_size
from refbench.metrics.contract import Metric
from refbench.metrics.features import FeatureStore
from refbench.metrics.registry import default_metrics, make_metrics
from refbench.metrics.view import LARGE, Known, View
from refbench.schema import MetricCard, Score, Truth

THREADS = 4
"""Most threads that a measurer takes by itself; each works on a sample of its own."""


class Measurer:
    """A set of metrics, ready to measure.

    Args:
        names: metrics to measure, also the groups "default", "learned" and "all"; None means "default", all but the
            learned ones. Metrics whose weights or modules are missing are listed in :attr:`unavailable`, and are an
            error where they were named one by one.
        device: where the networks run, as torch names it.
        batch_size: outputs that are held at once, and that pass through a network together on a GPU.
        features: keeps what depends on the truth alone; in memory only when None.
        threads: samples measured at once; most of the work is in OpenCV, numpy and torch, which leave the interpreter
            free. None takes the cores there are, at most 4. OpenCV and torch are set to one thread each while measuring
            on a CPU: two pools on two cores disturb each other.
        any_category: measure a metric also on samples of categories that its card does not name.

    Raises:
        RefbenchError: an unknown metric.
        UnavailableError: a metric was named that cannot run here.
    """

    def __init__(
        self,
        names: Sequence[str] | None = None,
        *,
        device: str = "cpu",
        batch_size: int = 8,
        features: FeatureStore | None = None,
        threads: int | None = None,
        any_category: bool = False,
    ) -> None:
        made = make_metrics(default_metrics() if names is None else names, device)
        self.unavailable: dict[str, str] = {}
        """Metric -> what is missing and the command that fetches it."""
        self._metrics: dict[str, Metric] = {}
        for name, metric in made.items():
            missing = metric.missing()
            if missing is None:
                self._metrics[name] = metric
            elif names is not None and name in names:
                raise UnavailableError(f"The metric '{name}' is unavailable here: it {missing}.")
            else:
                self.unavailable[name] = missing
        self.cards: dict[str, MetricCard] = {name: metric.card_once for name, metric in self._metrics.items()}
        """Metric -> card, of the metrics that run here."""
        self.batch_size = max(batch_size, 1)
        self.threads = max(threads if threads is not None else min(os.cpu_count() or 1, THREADS), 1)
        self._store = features if features is not None else FeatureStore()
        self._any_category = any_category
        self._device = device

    def lacking(self, truth: Truth) -> dict[str, str]:
        """Metric -> what this truth lacks for it, of the metrics that are undefined there."""
        found = {name: metric.lacking(truth, self._any_category) for name, metric in self._metrics.items()}
        return {name: reason for name, reason in found.items() if reason is not None}

    def measure(self, truths: Sequence[Truth], outputs: Sequence[Image]) -> list[list[Score]]:
        """Scores of each output, in the order of the metrics; a metric that is undefined for a sample is left out.

        Args:
            truths: one per output; the same truth may come several times.
            outputs: (H, W, 3) uint8 of the target's size.

        Raises:
            RefbenchError: an output of another type or size, an empty or full mask, or more outputs than truths.
        """
        if len(truths) != len(outputs):
            raise RefbenchError(f"Expected one output for each truth, but {len(outputs)} came for {len(truths)}.")
        for truth, output in zip(truths, outputs, strict=True):
            check_pair(truth, output)
        found: list[list[Score]] = []
        with single_threaded(self._device), ThreadPoolExecutor(self.threads) as pool:
            for start in range(0, len(truths), self.batch_size):
                stop = start + self.batch_size
                found += self._measure_batch(truths[start:stop], outputs[start:stop], pool)
        return found

    def _measure_batch(
        self, truths: Sequence[Truth], outputs: Sequence[Image], pool: ThreadPoolExecutor
    ) -> list[list[Score]]:
        from refbench.metrics.learned.base import forget_networks

        shared: dict[object, Known] = {}
        views = []
        for truth, output in zip(truths, outputs, strict=True):
            known = shared.setdefault(truth.key or id(truth), Known(truth, self._store))
            views.append(View(truth, output, known))
        values: list[dict[str, float]] = [{} for _ in views]
        wanted = [set(self._metrics) - set(self.lacking(truth)) for truth in truths]

        def one(at: int) -> None:
            for group in self._groups(let_go=large):
                for name in group:
                    if name in wanted[at] and name not in apart:
                        _put(values[at], name, self._metrics[name].values([views[at]])[0], views[at])
                if large:
                    forget_networks()

        # A network on a GPU takes the batch at once; on a CPU each thread takes its sample through all metrics, whose
        # crops and activations then stay in its cache.
        apart = [name for name, metric in self._metrics.items() if metric.batched and self._device != "cpu"]
        for name in apart:
            chosen = [at for at in range(len(views)) if name in wanted[at]]
            if chosen:
                for at, value in zip(chosen, self._metrics[name].values([views[at] for at in chosen]), strict=True):
                    _put(values[at], name, value, views[at])
        # Large frames one after another, and one network after another: what a metric makes of one frame, and one
        # network, is the most that is held. Loading a network anew takes less time than such a frame.
        large = any(truth.target.shape[0] * truth.target.shape[1] > LARGE for truth in truths)
        if self.threads == 1 or len(views) == 1 or large:
            for at in range(len(views)):
                one(at)
        else:
            list(pool.map(one, range(len(views))))
        for known in shared.values():
            known.save()
        return [self._scores(view, value) for view, value in zip(views, values, strict=True)]

    def _groups(self, let_go: bool) -> list[list[str]]:
        """Metrics in the order of measuring; where networks are let go, those of the same weights together."""
        groups: dict[object, list[str]] = {}
        for name, metric in self._metrics.items():
            groups.setdefault(getattr(metric, "files", ()) if let_go else None, []).append(name)
        return sorted(groups.values(), key=lambda group: bool(getattr(self._metrics[group[0]], "files", ())))

    def _scores(self, view: View, values: dict[str, float]) -> list[Score]:
        scores = []
        for name, metric in self._metrics.items():
            if name in values:
                card = metric.card_once
                region = view.region if card.region == "inside" else card.region
                scores.append(
                    Score(view.truth.id, name, card.axis, region, values[name], card.higher_is_better, metric.hash)
                )
        return scores


def _put(values: dict[str, float], name: str, value: float | None, view: View) -> None:
    """Keep a value that is a number, or PSNR's infinity; None is undefined and left out.

    Raises:
        RefbenchError: anything else, which is a fault of the metric and not of the output.
    """
    if value is None:
        return
    if not math.isfinite(value) and not (name == "psnr" and value > 0):
        raise RefbenchError(f"The metric '{name}' gave {value} on {view.truth.id or 'the image'}; please report this.")
    values[name] = value


def check_pair(truth: Truth, output: Image) -> None:
    """Refuse an output that is not an image of the target's size, and a truth whose parts do not fit together.

    Raises:
        RefbenchError: what was expected and what came.
    """
    where = truth.id or "the output"
    if not isinstance(output, np.ndarray) or output.dtype != np.uint8 or output.ndim != 3 or output.shape[2] != 3:
        what = (
            f"{output.dtype} of shape {output.shape}"
            if isinstance(output, np.ndarray)
            else f"a {type(output).__name__}"
        )
        raise RefbenchError(f"Expected an output of (H, W, 3) uint8 at {where}, but it is {what}; convert it first.")
    size = (truth.target.shape[0], truth.target.shape[1])
    check_same_size(output, size, f"the output of {where}" if truth.id else where, "the target")
    if truth.draft is not None:
        check_same_size(truth.draft, size, f"the draft of {where}" if truth.id else "the draft", "the target")
    if truth.mask is not None:
        check_mask(truth.mask, size, f"the mask of {where}" if truth.id else "the mask")


@lru_cache(maxsize=1)
def _pools() -> Any:
    """The BLAS libraries that are loaded, found once: numpy's; no metric uses scipy's own, a second's import."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped,unused-ignore]

    return ThreadpoolController()


@contextmanager
def single_threaded(device: str) -> Iterator[None]:
    """OpenCV, BLAS and (on a CPU) torch on one thread each, restored afterwards."""
    import cv2
    import torch

    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        with _pools().limit(limits=1, user_api="blas"):
            yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def measure_one(
    output: Image,
    target: Image,
    reference: Image | None = None,
    mask: Mask | None = None,
    draft: Image | None = None,
    names: Sequence[str] | None = None,
    *,
    device: str = "cpu",
) -> list[Score]:
    """Measure one output.

    Args:
        output, target: (H, W, 3) uint8 of one size.
        reference: any size; alignment needs it.
        mask: (H, W) bool; without one the region is `full` and what concerns outside and seam is undefined.
        draft: size of the target; the keypoint gain needs it.
        names: metrics to measure. None measures all that are defined for these inputs and run here, without those of a
            single category (text, face), which are measured when named.
        device: where the networks run.

    Raises:
        RefbenchError: wrong sizes, an unknown name, or a named metric that lacks an input (the sentence says which).
        UnavailableError: a named metric that cannot run here.
    """
    measurer = Measurer(names, device=device, batch_size=1, threads=1, any_category=names is not None)
    truth = Truth(id="", target=target, draft=draft, reference=reference, mask=mask)
    check_pair(truth, output)
    if names is not None:
        for name, lack in measurer.lacking(truth).items():
            if name not in names:  # of a group
                continue
            hint = f"; give it with --{lack[2:]}" if lack[2:] in ("mask", "reference", "draft") else ""
            raise RefbenchError(f"The metric '{name}' needs {lack}, which did not come{hint}, or leave the metric out.")
    scores = measurer.measure([truth], [output])[0]
    if names is not None:
        for name in dict.fromkeys(names):
            if name in measurer.cards and all(score.metric != name for score in scores):
                raise RefbenchError(
                    f"The metric '{name}' is undefined for this image ({_why_undefined(name)}); leave the metric out."
                )
    return scores


def _why_undefined(name: str) -> str:
    return {
        "ocr_cer": "no text was read in the target",
        "face_id": "no face was found in the target's masked part or in the reference",
    }.get(name, "the mask lies too close to the frame's edge")

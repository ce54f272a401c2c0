"""Every metric, the axes and the score as ``torchmetrics.Metric``, for the validation of a training loop.

.. code-block:: python

    from refbench.metrics.torch import RefBench

    score = RefBench()
    for batch in loader:
        score.update(model(batch), batch.target, batch.reference, batch.mask, batch.draft)
    score.compute()  # {"score": ..., "texture_fidelity": ..., "reference_alignment": ..., ...}

``RefBench``, ``TextureFidelity``, ``ReferenceAlignment``, ``LocalConsistency`` and ``PixelFidelity`` give recovery
points, 0 = a trivial answer, 100 = the truth. Each metric of the registry, those of other packages too, is a class by
the name of its own (``PSNR``, ``SqueezePooled``, ``LPIPSAlex``, ...): ``compute()`` is its mean, or with
``recovery=True`` its recovery. They measure by the code of ``refbench measure`` and put samples together by that of a
run's summary. States are sums (of FID and KID, features), so that they add up over processes.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchmetrics import Metric as TorchMetric

from refbench.errors import RefbenchError, UnavailableError
from refbench.images import Image, Mask
from refbench.metrics.features import FeatureStore
from refbench.metrics.measurer import Measurer, check_pair
from refbench.metrics.registry import METRICS, SUITE_LEVEL, cards_of, make_metrics
from refbench.runs.answers import AnswerRow, measure_answers, needed
from refbench.schema import AXES, PIXEL, Box, Category, Truth
from refbench.stats.gains import gains
from refbench.tasks.suite import digest

Names: TypeAlias = tuple[str, ...]
Boxes: TypeAlias = Tensor | Sequence[Box | None]

SLACK = 1e-3
"""How far outside [0, 1] a value may lie and is clipped; more is taken for another range."""
KEPT = 4096
"""Truths whose trivial answers are remembered, so that a second epoch measures outputs alone."""


class Batched(TorchMetric):  # type: ignore[misc,unused-ignore]
    """What all share: tensors to pictures, and each truth's trivial answers measured once."""

    is_differentiable = False
    full_state_update = False
    names: ClassVar[Names] = ()
    """Metrics that are measured."""
    any_category: ClassVar[bool] = False
    """Whether a metric of one category (text, face) is measured where no category is given."""

    def update(
        self,
        output: Tensor,
        target: Tensor,
        reference: Tensor | None = None,
        mask: Tensor | None = None,
        draft: Tensor | None = None,
        *,
        reference_box: Boxes | None = None,
        text: Sequence[str | None] | None = None,
        category: Sequence[Category | None] | None = None,
    ) -> None:
        """Measure a batch.

        Args:
            output: (B, 3, H, W) float in [0, 1], what the model made; taken to 8 bits, as a saved picture is.
            target: (B, 3, H, W), the truth.
            reference: (B, 3, h, w), of a size of its own.
            mask: (B, 1, H, W); above 0.5 was to be put right. Without one the region is the full frame.
            draft: (B, 3, H, W), what the model was given.
            reference_box: for each sample the detail's (x, y, width, height) in the reference in px, or None.
            text: the right words, for `ocr_cer`; without them they are read in the target.
            category: of each sample; metrics of a single category (text, face) count there only. Without it they count
                on every sample where they were asked for by name, and in no axis.

        Raises:
            RefbenchError: another shape, type or range, an empty or full mask, or something that is needed is missing.
        """
        truths = _truths(target, reference, mask, draft, reference_box, text, category)
        outputs = _pictures(output, "output")
        if len(outputs) != len(truths):
            raise RefbenchError(f"Expected one output for each target, but {len(outputs)} came for {len(truths)}.")
        for truth, picture in zip(truths, outputs, strict=True):
            check_pair(truth, picture)
        self._take(truths, outputs, self.any_category and category is None)

    def _take(self, truths: list[Truth], outputs: list[Image], any_category: bool) -> None:
        raise NotImplementedError

    def _add(self, **amounts: Any) -> None:
        """Add to states that are sums."""
        for name, amount in amounts.items():
            state = getattr(self, name)
            setattr(self, name, state + torch.as_tensor(amount, dtype=torch.float64, device=state.device))

    def _sums(self, *names: str, parts: int = 0) -> None:
        """Make states that are sums, of `parts` numbers or (0) of one."""
        for name in names:
            # Names of their own: MetricCollection takes metrics for one whose states are alike.
            self.add_state(name, torch.zeros((parts,) if parts else (), dtype=torch.float64), dist_reduce_fx="sum")


class Recovered(Batched):
    """Recovery points of measures: what all samples won over what the truth wins."""

    higher_is_better = True
    plot_upper_bound = 100.0
    measures: ClassVar[Names] = ()
    """What is summed up: axes, "mean" (the score), or metrics."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _available(self.names)
        self._prefix = type(self).__name__.lower()
        self._sums(f"{self._prefix}_won", f"{self._prefix}_could", parts=len(self.measures))

    def _take(self, truths: list[Truth], outputs: list[Image], any_category: bool) -> None:
        won, could = _won(self.names, self.measures, truths, outputs, str(self.device), any_category)
        self._add(**{f"{self._prefix}_won": won, f"{self._prefix}_could": could})

    def _points(self) -> Tensor:
        """(P,) by measure, NaN where no sample has something to win."""
        won, could = (getattr(self, f"{self._prefix}_{part}") for part in ("won", "could"))
        return torch.where(could > 0, 100.0 * won / could, torch.nan)

    def compute(self) -> Any:
        """Recovery points, a float64 scalar; NaN where no sample has something to win."""
        return self._points()[0]


class RefBench(Recovered):
    """The score and what it is made of: `score` ("mean" in JSON), the three axes, and pixel fidelity beside it."""

    measures = ("mean", *AXES, PIXEL)

    def compute(self) -> dict[str, Tensor]:
        """Recovery points by name, float64 scalars; NaN where no sample has something to win."""
        return dict(zip(("score", *self.measures[1:]), self._points(), strict=True))


class One(Batched):
    """One metric; classes are made of the registry, see :func:`__getattr__`.

    Args:
        recovery: recovery points instead of the mean of the metric's own values; needs `draft`, `reference`, `mask`.
    """

    name: ClassVar[str] = ""
    any_category = True

    def __init__(self, recovery: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _available(self.names)
        self.recovery = recovery
        if recovery:
            self.__dict__["higher_is_better"] = True  # torchmetrics lets nobody set it otherwise
        parts = ("won", "could") if recovery else ("sum", "count")
        self._first, self._second = (f"{self.name}_{part}" for part in parts)
        self._sums(self._first, self._second)

    def _take(self, truths: list[Truth], outputs: list[Image], any_category: bool) -> None:
        if self.recovery:
            won, could = _won(self.names, self.names, truths, outputs, str(self.device), any_category)
            self._add(**{self._first: won[0], self._second: could[0]})
            return
        measurer = _measurer(self.names, str(self.device), any_category)
        lacking = [measurer.lacking(truth).get(self.name) for truth in truths]
        why = next((lack for lack in lacking if lack in ("a mask", "a reference", "a draft")), None)
        if why:
            raise RefbenchError(f"The metric '{self.name}' needs {why}, which did not come; give it to update().")
        values = [score.value for scores in measurer.measure(truths, outputs) for score in scores]
        self._add(**{self._first: sum(values), self._second: len(values)})

    def compute(self) -> Tensor:
        """Mean over the samples where it is defined, or recovery points; NaN where there is none."""
        top, bottom = getattr(self, self._first), getattr(self, self._second)
        return torch.where(bottom > 0, (100.0 if self.recovery else 1.0) * top / bottom, torch.nan)


class Distance(Batched):
    """FID or KID: a distance of two sets of pictures; states are the pictures' features, (n, 2048) each."""

    name: ClassVar[str] = ""
    outputs: Any
    targets: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _available(self.names)
        self.add_state("outputs", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def _take(self, truths: list[Truth], outputs: list[Image], any_category: bool) -> None:
        from refbench.metrics.learned.suitewide import output_features
        from refbench.metrics.view import Known, View

        views = [View(t, picture, Known(t, _features())) for t, picture in zip(truths, outputs, strict=True)]
        mine, theirs = output_features(views, _metric(self.name).hash, str(self.device))
        for state, found in ((self.outputs, mine), (self.targets, theirs)):
            state.append(torch.from_numpy(found).to(self.device))

    def compute(self) -> Tensor:
        """The distance, NaN below two pictures."""
        from refbench.metrics.learned.suitewide import FEWEST

        both = (self.outputs, self.targets)  # lists here, tensors where processes were brought together
        mine, theirs = ((torch.cat(s) if isinstance(s, list) else s).cpu().numpy() for s in both)
        value = float("nan") if len(mine) < FEWEST else _metric(self.name).distance(mine, theirs)
        return torch.tensor(value, dtype=torch.float64)


@lru_cache
def _features() -> FeatureStore:
    """What is kept in memory of truths, for all metrics of this process."""
    return FeatureStore()


@lru_cache
def _measurer(names: Names, device: str, any_category: bool) -> Measurer:
    return Measurer(names, device=device, features=_features(), any_category=any_category)


@lru_cache
def _metric(name: str) -> Any:
    return make_metrics([name])[name]


def _available(names: Names) -> None:
    for name in names:
        missing = _metric(name).missing()
        if missing is not None:
            raise UnavailableError(f"The metric '{name}' is unavailable here: it {missing}.")


_ANSWERS: OrderedDict[tuple[str, Names, bool], list[AnswerRow]] = OrderedDict()


def _answers(names: Names, truths: Sequence[Truth], device: str, any_category: bool) -> list[AnswerRow]:
    """What the trivial answers and the target score, measured once for each truth."""
    cards = cards_of(names)
    needs = needed(cards, {name: _metric(name).hash for name in cards})
    new = {truth.key: truth for truth in truths if (truth.key, names, any_category) not in _ANSWERS}
    left = {truth.id: set(needs) for truth in new.values()}
    found: dict[str, list[AnswerRow]] = {truth.id: [] for truth in new.values()}
    for _, rows in measure_answers(list(new.values()), left, lambda some: _measurer(some, device, any_category)):
        for row in rows:
            found[row.sample].append(row)
    for truth in truths:
        if truth.key in new:
            _ANSWERS[truth.key, names, any_category] = found[new[truth.key].id]
        _ANSWERS.move_to_end((truth.key, names, any_category))
    every = [row._replace(sample=t.id) for t in truths for row in _ANSWERS[t.key, names, any_category]]
    while len(_ANSWERS) > KEPT:
        _ANSWERS.popitem(last=False)
    return every


def _won(
    names: Names, measures: Names, truths: list[Truth], outputs: list[Image], device: str, any_category: bool
) -> tuple[list[float], list[float]]:
    """Sums over a batch of what the outputs won and could win, by measure."""
    for part in ("mask", "reference", "draft"):
        if any(getattr(truth, part) is None for truth in truths):
            raise RefbenchError(f"Expected a {part} in update(), which a recovery needs, but none came; give it.")
    scores = [one for row in _measurer(names, device, any_category).measure(truths, outputs) for one in row]
    answers = _answers(names, truths, device, any_category)
    table = gains(
        pd.DataFrame([(s.sample, s.metric, s.value, s.card) for s in scores], columns=[*_KEYS[:2], *_KEYS[3:]]),
        pd.DataFrame([(r.sample, r.metric, r.answer, r.value, r.card) for r in answers], columns=_KEYS),
        [truth.id for truth in truths],
        cards_of(names),
        measured=names,
    )
    has = [name for name in measures if name in table.metrics or name in ("mean", *AXES, PIXEL)]
    won, could = (dict(zip(has, part.sum(axis=0), strict=True)) for part in table.parts(has))
    return [won.get(name, 0.0) for name in measures], [could.get(name, 0.0) for name in measures]


_KEYS = ["sample", "metric", "answer", "value", "card"]


def _truths(
    target: Tensor,
    reference: Tensor | None,
    mask: Tensor | None,
    draft: Tensor | None,
    boxes: Boxes | None,
    texts: Sequence[str | None] | None,
    categories: Sequence[Category | None] | None,
) -> list[Truth]:
    """A batch's truths, each with the key that it has in a suite."""
    targets = _pictures(target, "target")
    drawn = [None if box is None else _box(box) for box in boxes] if boxes is not None else None
    columns: dict[str, Sequence[Any] | None] = {
        "draft": None if draft is None else _pictures(draft, "draft"),
        "reference": None if reference is None else _pictures(reference, "reference"),
        "mask": None if mask is None else _masks(mask),
        "reference_box": drawn,
        "text": texts,
        "category": categories,
    }
    for name, column in columns.items():
        if column is not None and len(column) != len(targets):
            raise RefbenchError(f"Expected one {name} for each target, but {len(column)} came for {len(targets)}.")
    for text in texts or ():
        if text is not None and not isinstance(text, str):
            raise RefbenchError(f"Expected words or None as each text, but {str(text)[:60]} came.")
    truths = []
    for at, picture in enumerate(targets):
        row: dict[str, Any] = {name: None if column is None else column[at] for name, column in columns.items()}
        more = json.dumps(row["reference_box"]), row["text"], row["category"]
        key = digest(picture, row["draft"], row["reference"], row["mask"], *more)
        truths.append(Truth(f"sample {at} of the batch", picture, key=key, **row))
    return truths


def _box(box: Any) -> Box:
    try:
        x, y, width, height = (int(number) for number in box)
    except (TypeError, ValueError):
        raise RefbenchError(
            f"Expected (x, y, width, height) or None as each reference_box, but {str(box)[:60]} came."
        ) from None
    return x, y, width, height


def _pictures(batch: Tensor, name: str) -> list[Image]:
    """(B, 3, H, W) in [0, 1] as B pictures (H, W, 3) uint8."""
    _check(batch, name, 3)
    if not batch.is_floating_point():
        raise RefbenchError(
            f"Expected {name} as floats in [0, 1], but {batch.dtype} came; convert it, from 8 bits by x / 255."
        )
    values = batch.detach().float()
    low, high = values.aminmax() if values.numel() else (values.new_zeros(()), values.new_zeros(()))
    if not (low >= -SLACK and high <= 1.0 + SLACK):
        raise RefbenchError(
            f"Expected {name} in [0, 1], but its values are {float(low):.4g} to {float(high):.4g}; scale or clamp it."
        )
    eight = (values.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [np.ascontiguousarray(one) for one in eight]


def _masks(batch: Tensor) -> list[Mask]:
    _check(batch, "mask", 1)
    return [np.ascontiguousarray(one[0]) for one in (batch.detach().float() > 0.5).cpu().numpy()]


def _check(batch: Any, name: str, channels: int) -> None:
    if not isinstance(batch, Tensor) or batch.ndim != 4 or batch.shape[1] != channels:
        came = f"{tuple(batch.shape)}" if isinstance(batch, Tensor) else f"a {type(batch).__name__}"
        raise RefbenchError(f"Expected {name} as a tensor (B, {channels}, H, W), but {came} came; reshape it.")


def _scoring(*axes: str) -> Names:
    """Metrics that make these axes."""
    builtin = [name for name in METRICS if not METRICS.is_plugin(name)]
    return tuple(name for name, card in cards_of(builtin).items() if card.scored and card.axis in axes)


_CLASSES = {METRICS[name].rpartition(":")[2]: name for name in reversed(list(METRICS))}
"""Class -> metric of the registry; a built-in one wins over another package's of the same name."""
_AXES = {axis.title().replace("_", ""): axis for axis in (*AXES, PIXEL)}

__all__ = ["RefBench", *_AXES, *reversed(_CLASSES)]


def __getattr__(name: str) -> Any:
    """Make the class of an axis or of a metric of the registry on first use (PEP 562)."""
    facts: dict[str, Any] = {"__module__": __name__, "__qualname__": name}
    if name in _AXES:
        axis = _AXES[name]
        facts |= {"__doc__": f"Recovery points of {axis.replace('_', ' ')}.", "measures": (axis,)}
        made = type(name, (Recovered,), {**facts, "names": _scoring(axis)})
    elif name in _CLASSES:
        metric = _CLASSES[name]
        card = _metric(metric).card_once
        facts |= {"__doc__": f"`{metric}`: {card.definition}.", "name": metric, "names": (metric,)}
        facts |= {"higher_is_better": card.higher_is_better}
        made = type(name, (Distance if metric in SUITE_LEVEL else One,), facts)
    else:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    return sorted(__all__)


RefBench.names = _scoring(*AXES, PIXEL)

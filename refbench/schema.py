"""The nouns: sample, inputs, truth, refinement, score, and the records that are written to disk.

In-memory nouns are frozen dataclasses over arrays; what is written to disk is a frozen pydantic
record, so that reading a file validates it. Arrays follow :mod:`refbench.images`: images are
(H, W, 3) uint8 sRGB, masks (H, W) bool. Boxes are (x, y, width, height) in px.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from refbench.images import Image, Mask

Box: TypeAlias = tuple[int, int, int, int]
Category: TypeAlias = Literal["text", "logo", "pattern", "face", "object"]
Mode: TypeAlias = Literal["refine", "replace"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
MODES: tuple[Mode, ...] = get_args(Mode)
"""In the order of tables."""
Axis: TypeAlias = Literal[
    "texture_fidelity", "reference_alignment", "local_consistency", "pixel_fidelity", "diagnostics"
]
Region: TypeAlias = Literal["inside", "outside", "seam", "full"]

AXES: tuple[Axis, ...] = ("texture_fidelity", "reference_alignment", "local_consistency")
"""The axes of the score."""
PIXEL: Axis = "pixel_fidelity"
"""The column beside the score, for comparison with tables that count every pixel at its place."""
ORDER: tuple[Axis, ...] = (*AXES, PIXEL, "diagnostics")
"""Every axis, as tables list them."""
SCORE_VERSION = 2
"""Version of the score: which metrics make an axis, their zeros, and how samples, axes and sets are put together.
Numbers of two versions never meet in one table."""


class Record(BaseModel):
    """Base of everything written to disk: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def non_finite(value: Any, where: str = "") -> str | None:
    """Where in plain data the first infinite or NaN number is, as "a.b.0"; None where all are finite."""
    if isinstance(value, float):
        return None if math.isfinite(value) else where
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return next((at for key, item in items if (at := non_finite(item, f"{where}.{key}".lstrip("."))) is not None), None)


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    where = non_finite(value)
    if where is not None:
        raise ValueError(f"Input should be a finite number at '{where}'")
    return value


Plain: TypeAlias = Annotated[dict[str, Any], AfterValidator(_plain)]
"""A mapping of plain values whose numbers are finite, so that it comes back from JSON as it was."""
Amount: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a model sees, and all it sees. There is no target here, nor a way to it."""

    id: str
    """Name of the sample, for logs and file names."""
    draft: Image
    """(H, W, 3); right outside the mask, wrong inside."""
    reference: Image
    """(h, w, 3); the same thing shown right, at a size of its own."""
    mask: Mask
    """(H, W); true where the detail is to be put right."""
    prompt: str
    """An instruction in English, e.g. "Restore the text on the can from the reference"."""
    reference_box: Box | None = None
    """Where the same detail is in the reference, when the user has drawn it."""
    seed: int = 0
    """Seed of every random choice for this sample; equal seeds must give equal images."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What measuring needs of one sample: everything but the model's answer."""

    id: str
    target: Image
    """(H, W, 3); equals `draft` exactly outside the mask. Without a target (`has_target`) it is the draft."""
    draft: Image | None
    """None where a single output is measured without its draft."""
    reference: Image | None
    mask: Mask | None
    """None means the whole frame: region `full`."""
    reference_box: Box | None = None
    text: str | None = None
    """The words inside the mask, for text samples."""
    category: Category | None = None
    key: str = ""
    """Content hash of all of the above; what depends on the truth alone is cached under it."""
    has_target: bool = True
    """False where nobody knows the right picture: what lies inside the mask of `target` is then not the truth."""


class SampleMeta(Record):
    """Where a sample comes from and how its draft was spoilt; a model never sees it."""

    id: str
    task: str
    category: Category
    mode: Mode
    source_id: str
    """Source asset family; the cluster of the bootstrap and the unit of the train/test split."""
    view: Literal["true", "composed"]
    """`true`: reference and target are two real views of one scene; `composed`: a print put on two photos."""
    degradation: str
    strength: float
    """0 (none) to 1 (nothing left), in the degradation's own recorded scale."""
    mask_kind: Literal["tight", "box", "scribble"]
    mask_share: float
    """Masked share of the image, 0 to 1."""
    text: str | None = None
    licence: str
    attribution: str
    source: str
    """Package, version and inner path of each asset used."""
    seed: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One question of a suite as its users handle it: the inputs and the metadata, without the target."""

    id: str
    draft: Image
    reference: Image
    mask: Mask
    prompt: str
    reference_box: Box | None
    meta: SampleMeta

    @property
    def seed(self) -> int:
        """0, so that an adapter can be tried on a sample directly; runs pass seeds through :meth:`inputs`."""
        return 0

    def inputs(self, seed: int = 0) -> Inputs:
        """The part a model sees."""
        return Inputs(self.id, self.draft, self.reference, self.mask, self.prompt, self.reference_box, seed)


Failure = Literal["invalid", "error", "refused", "stop", "died", "timeout", "garbage", "start", "missing", "forbidden"]
"""Why a sample has no image, in order: an answer that is none, an exception, a safety filter, no sample can have one,
a crash, too slow, nonsense on the channel, it does not start again, no such file, it looked for what is hidden."""
Isolation = Literal["worker", "process", "folder", "in-process"]
"""How a model runs: a class in a child process, a script in its own, a folder of pictures, a class in this process."""


@dataclass(frozen=True, slots=True)
class Refinement:
    """What became of one sample: an image of the draft's size, or the reason there is none."""

    id: str
    image: Image | None
    seconds: float
    error: str | None = None
    """One sentence; None when it worked."""
    failure: Failure | None = None
    price_usd: float | None = None
    """What the answer cost; None when the adapter does not say."""
    seed: int = 0
    """That the adapter was given."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Plain values that the adapter tells of this sample."""

    @property
    def recorded(self) -> dict[str, Any]:
        """``extra`` of the sample's record: the facts, price and failure where there are any."""
        named = {"price_usd": self.price_usd, "failure": self.failure}
        return {**self.facts, **{name: value for name, value in named.items() if value is not None}}


@dataclass(frozen=True, slots=True)
class Score:
    """One number: a metric of one sample in one region, with the hash of the card that defines it."""

    sample: str
    metric: str
    axis: Axis
    region: Region
    value: float
    higher_is_better: bool
    card: str
    """First 12 hex digits of the card's SHA-256."""

    def __repr__(self) -> str:
        """Metric, value and region, and the arrow to the better side."""
        better = "↑" if self.higher_is_better else "↓"
        return (
            f"<Score {self.metric}{better} {self.value:.6g} ({self.region}{', ' if self.sample else ''}{self.sample})>"
        )


class AdapterCard(Record):
    """What a reader of the board must know about a model."""

    name: str
    summary: str
    """One sentence: how it works."""
    licence: str = "unknown"
    open_weights: bool | None = None
    """True, False (commercial interface), or None where there are no weights."""
    paper: str | None = None
    weights: str | None = None
    """Where the weights come from, in words or as a hub id."""
    parameters: Annotated[int, Field(ge=0)] | None = None
    download_mb: Amount | None = None
    vram_gb: Amount | None = None
    price_per_image_usd: Amount | None = None
    needs_network: bool = False
    needs_reference: bool = True
    deterministic: bool = True
    """Equal inputs and seed give the identical image on one machine."""
    requires: tuple[str, ...] = ()
    """Modules that must be importable."""


class MetricCard(Record):
    """The whole definition of a metric; its hash stands in every score."""

    name: str
    definition: str
    paper: str
    axis: Axis
    region: Region
    higher_is_better: bool
    range: tuple[float | None, float | None]
    colour: str
    """Colour space and value range of the arithmetic, e.g. "sRGB in [0,1]"."""
    region_rule: str
    """How the region enters: from a local map, or on the mask's box."""
    resize_rule: str = "none"
    border_rule: str = "none"
    backend: str
    """Library and version that do the arithmetic."""
    weights: str | None = None
    weights_sha256: str | None = None
    licence: str = "Apache-2.0"
    categories: tuple[Category, ...] | None = None
    """Sample categories it is defined for; None means all."""
    trivial: Literal["draft", "paste", "stretch", "blend"] = "draft"
    """The trivial answer, 0 in its recovery: the draft, the reference pasted into the mask or stretched over all, or
    the mean of draft and paste."""
    unit: float | None = None
    """A typical gap between trivial answer and truth, in the metric's own (recovery's) values: the mean over the
    64 validation recipes. A sample's gain is divided by its own gap or by this, whichever is larger; None: by its own
    gap."""
    recovery_of: Literal["value", "root_mse"] = "value"
    """What the recovery is computed from: the value, or for PSNR the root mean squared error 10^(-PSNR/20)."""
    scored: bool = True
    """Whether it enters the axis; if not, `note` says why."""
    note: str = ""
    tolerance: float = 1e-5
    """Largest difference that a recomputation may show."""


class SampleRecord(Record):
    """One line of a run's append-only record."""

    id: str
    task: str
    status: Literal["ok", "failed", "refused"]
    """`refused`: a safety filter declined; it has no output and scores as a failed one, and is counted apart."""
    error: str | None = None
    seconds: Annotated[float, Field(allow_inf_nan=False)]
    sha256: str | None = None
    """Of the output's decoded pixels and shape; None without an output."""
    extra: Plain = Field(default_factory=dict)
    """See :attr:`Refinement.recorded`."""

    @property
    def price_usd(self) -> float | None:
        """What the answer cost; None when the adapter did not say."""
        price = self.extra.get("price_usd")
        return float(price) if isinstance(price, int | float) else None


class RunManifest(Record):
    """What was run, on what, with what; written before the first sample."""

    format: int = 1
    run: str
    suite: str
    suite_version: str
    suite_hash: str
    samples: tuple[str, ...]
    """Ids in order: the plan."""
    model: str
    """As the user named it."""
    card: AdapterCard
    arguments: Plain
    """As the user gave them, with paths made absolute."""
    isolation: Isolation
    seed: int
    device: str
    created: str
    """ISO 8601, UTC."""
    versions: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    hardware: Plain
    metric_cards: dict[str, str] = Field(default_factory=dict)
    """Metric -> card hash, once measured."""
    score_version: int | None = None
    """:data:`SCORE_VERSION` of the score that it was measured for, once measured."""
    unavailable: dict[str, str] = Field(default_factory=dict)
    """Metric -> why it could not be measured and what to do."""
    doctor: dict[str, Any] = Field(default_factory=dict)
    """Result of `refbench doctor` on this machine."""

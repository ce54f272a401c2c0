"""How a figure looks: paper sizes, fonts, and one colour and marker a model, everywhere.

Sizes are the venues' own: NeurIPS sets one column of 5.5 in, CVPR two of 3.28 in in 6.875 in, slides are
16:9. Text in a figure is 7 to 8 pt at print size (captions are 9 to 10 pt), in STIX, which ships with
matplotlib and is metrically close to the Times of both templates, so that a figure looks the same wherever
it is made.

Colours are ten of Okabe and Ito's (2008) and Tol's (2021) that stay apart for normal vision, protanopia,
deuteranopia and tritanopia (CIEDE2000 of at least 7.5 for every pair, tested); a marker tells models apart
once more, so that nothing depends on colour alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refbench.errors import unknown_name
from refbench.report.glyphs import drawable, families

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

PALETTE: tuple[str, ...] = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#882255", "#B07AA1", "#004488", "#AA4466", "#8A8A8A",
)  # fmt: skip
"""Blue, vermillion, green, orange, sky, wine, mauve, navy, rose, grey."""

MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v", "p", "d", "<", ">", "h")

_FIXED: Mapping[str, int] = MappingProxyType(
    {
        "identity": 9,
        "omnirefiner": 0,
        "omnirefiner-sft": 4,
        "warp-blend": 1,
        "texture-transfer": 2,
        "reference-paste": 3,
        "sharpen": 6,
    }
)
"""Places in the palette that belong to the models refbench ships, so that they never change hands."""

AXIS_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "texture_fidelity": "Texture fidelity",
        "reference_alignment": "Reference alignment",
        "local_consistency": "Local consistency",
        "mean": "Score",
    }
)
INK, MUTED, RULE = "#1a1a1a", "#5f5f5f", "#d0d0d0"


@dataclass(frozen=True, slots=True)
class Style:
    """The geometry and type of one venue; lengths in inches, fonts in points at print size."""

    name: str
    column: float
    """Width of one column."""
    text: float
    """Width of the whole text block (equal to `column` in one-column venues)."""
    height: float
    """Largest height a figure may take."""
    long: float
    """Width of a figure that lies on its side: the height of the text block; equal to `text` where pages are wide."""
    font: float
    small: float
    family: str
    line: float
    """Line width of data, in points."""
    marker: float
    """Marker size, in points."""
    dpi: int
    """Resolution of the PNG, and of pictures inside the PDF."""
    extra: Mapping[str, Any] = field(default_factory=dict)


STYLES: Mapping[str, Style] = MappingProxyType(
    {
        "neurips": Style("neurips", 5.5, 5.5, 8.0, 9.0, 8.0, 7.0, "STIXGeneral", 1.1, 4.2, 300),
        "cvpr": Style("cvpr", 3.28, 6.875, 8.6, 8.875, 8.0, 7.0, "STIXGeneral", 1.0, 3.8, 300),
        "slides": Style("slides", 12.0, 12.0, 6.0, 12.0, 18.0, 15.0, "DejaVu Sans", 2.4, 9.0, 160),
    }
)


def style_named(name: str) -> Style:
    """The style of that name.

    Raises:
        RefbenchError: no such style (with the nearest names).
    """
    if name not in STYLES:
        raise unknown_name("style", name, STYLES)
    return STYLES[name]


def sideways(style: Style) -> Style:
    """The style of a figure that takes a whole page turned by 90 degrees; 0.6 in are left for the caption."""
    if style.long <= style.text:
        return style
    return replace(style, column=style.long, text=style.long, height=style.text - 0.6)


@lru_cache(maxsize=4096)
def _points(text: str, family: str, bold: bool) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text.strip():
        return 0.0
    if not text.isascii():
        text = drawable(text, family)
    font = FontProperties(family=families(text, family), weight="bold" if bold else "normal")
    # A dollar would start mathematics; it is as wide as an S.
    return float(TextPath((0, 0), text.replace("$", "S"), size=100, prop=font).get_extents().x1) / 100


def text_width(text: str, size: float, style: Style, *, bold: bool = False) -> float:
    """Width of a line of text in inches at `size` points."""
    return _points(text, style.family, bold) * size / 72


def rc(style: Style) -> AbstractContextManager[None]:
    """A context in which matplotlib draws in this style, from its defaults: user settings have no say."""
    import matplotlib as mpl

    defaults: Any = mpl.rcParamsDefault
    values: Any = {
        **defaults,
        "backend": "agg",
        "font.family": style.family,
        "font.size": style.font,
        "mathtext.fontset": "stix" if style.family.startswith("STIX") else "dejavusans",
        "axes.titlesize": style.font,
        "axes.labelsize": style.font,
        "xtick.labelsize": style.small,
        "ytick.labelsize": style.small,
        "legend.fontsize": style.small,
        "axes.linewidth": 0.5 * style.line,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.major.width": 0.5 * style.line,
        "ytick.major.width": 0.5 * style.line,
        "xtick.major.size": 0.3 * style.font,
        "ytick.major.size": 0.3 * style.font,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "grid.color": RULE,
        "grid.linewidth": 0.4 * style.line,
        "axes.axisbelow": True,
        "lines.linewidth": style.line,
        "lines.markersize": style.marker,
        "lines.solid_capstyle": "round",
        "legend.frameon": False,
        "legend.handlelength": 1.2,
        "legend.columnspacing": 1.2,
        "figure.dpi": style.dpi,
        "savefig.dpi": style.dpi,
        "savefig.facecolor": "white",
        "pdf.fonttype": 42,  # TrueType, searchable and editable; Type 3 fonts are refused by venues
        "pdf.compression": 9,
        "figure.constrained_layout.w_pad": 0.02,
        "figure.constrained_layout.h_pad": 0.02,
        **style.extra,
    }
    return mpl.rc_context(values)


def _places(models: Iterable[str]) -> dict[str, int]:
    """Place in the palette of each model: its own if refbench ships it, else the next free one by name."""
    names = sorted(set(models))
    places = {name: _FIXED[name] for name in names if name in _FIXED}
    taken = set(places.values())
    # Free places that no shipped model owns come first, so that adding a shipped model moves no other.
    order = [i for i in range(len(PALETTE)) if i not in _FIXED.values()] + [
        i for i in range(len(PALETTE)) if i in _FIXED.values()
    ]
    free = [i for i in order if i not in taken]
    for number, name in enumerate(n for n in names if n not in _FIXED):
        places[name] = free[number] if number < len(free) else len(PALETTE) + number - len(free)
    return places


def colours(models: Iterable[str]) -> dict[str, str]:
    """A colour ("#rrggbb") for each model; shipped models keep theirs in every figure and in the viewer."""
    return {name: PALETTE[place % len(PALETTE)] for name, place in _places(models).items()}


def readable(colour: str) -> str:
    """A colour ("#rrggbb") darkened until text in it has a contrast of 4.5 (WCAG 2) against white."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]

    def luminance(share: float) -> float:
        linear = [(share * p) / 12.92 if share * p <= 0.04045 else ((share * p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    share = 1.0
    while share > 0 and 1.05 / (luminance(share) + 0.05) < 4.5:
        share -= 0.02
    return "#" + "".join(f"{round(255 * share * p):02x}" for p in parts)


def markers(models: Iterable[str]) -> dict[str, str]:
    """A matplotlib marker for each model; unlike the colour, it differs past ten models as well."""
    found = {}
    for name, place in _places(models).items():
        turn, index = divmod(place, len(PALETTE))
        found[name] = MARKERS[(index + 3 * turn) % len(MARKERS)]
    return found

"""What verification found, as a record, as an exit code, and as a comment for a pull request."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from refbench.leaderboard.textsafe import markdown, printable
from refbench.schema import AXES, Record
from refbench.stats.recovery import Cell

LISTED = 30
"""Differences that a verdict lists, the largest first."""


class Finding(Record):
    """Something wrong, by the name under which docs/reference/findings.md explains it."""

    name: str
    message: str


class ClaimDifference(Record):
    """One claim that recomputing did not confirm."""

    what: str
    """"score <metric> of <sample>" or "claim <place>"."""
    claimed: float | None
    found: float | None
    tolerance: float

    @property
    def excess(self) -> float:
        """How many times the tolerance the two are apart; infinite where one of them is missing."""
        if self.claimed is None or self.found is None:
            return float("inf")
        gap = abs(self.claimed - self.found)
        return gap / self.tolerance if self.tolerance > 0 else float("inf")


class Verdict(Record):
    """The result of verifying one entry."""

    verdict: Literal["verified", "differs", "refused"]
    entry: str
    seal: str
    suite_hash: str
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    compared: int = 0
    """Scores and claims that were recomputed."""
    differing: int = 0
    differences: tuple[ClaimDifference, ...] = ()
    regenerated: int = 0
    """Samples that the model answered again here with the same image."""
    regeneration: str = ""
    """Why no sample was regenerated, or how equal they are."""
    axes: dict[str, Cell] = Field(default_factory=dict)
    mean: Cell | None = None
    refbench: str = ""

    @property
    def exit_code(self) -> int:
        """0 verified, 1 differs, 2 refused."""
        return {"verified": 0, "differs": 1, "refused": 2}[self.verdict]

    def text(self) -> str:
        """The same for a terminal: plain lines, nothing but printable characters."""
        lines = [f"{printable(self.entry or 'entry without a name', 80)}: {self.verdict}"]
        lines += [f"  {one.name}: {printable(one.message, 600)}" for one in self.findings]
        lines += [f"  {printable(note, 300)}" for note in self.notes]
        if self.compared:
            lines.append(f"  {self.compared} scores and claims recomputed, {self.differing} differ.")
        lines += [
            f"    {printable(one.what, 120)}: claimed {_number(one.claimed, 6)}, found {_number(one.found, 6)}, "
            f"tolerance {one.tolerance:.2g}"
            for one in self.differences[:10]
        ]
        if self.regeneration:
            lines.append(f"  {printable(self.regeneration, 300)}")
        return "\n".join(lines)

    def comment(self) -> str:
        """A summary in GitHub Markdown, short enough for a comment."""
        title = {
            "verified": "verified: every claim was recomputed",
            "differs": "differs: recomputing does not confirm the claims",
            "refused": "refused: it cannot be verified",
        }[self.verdict]
        lines = [f"### Entry {markdown(self.entry or 'without a name')} — {title}", ""]
        lines += [f"- **{markdown(one.name)}**: {markdown(one.message)}" for one in self.findings]
        lines += [f"- {markdown(note)}" for note in self.notes]
        if self.compared:
            lines.append(f"- {self.compared} scores and claims recomputed, {self.differing} differ.")
        if self.regeneration:
            lines.append(f"- {markdown(self.regeneration)}")
        if self.mean is not None:
            lines += ["", "| axis | recomputed | 95 % interval |", "|---|---:|---|"]
            cells: dict[str, Cell] = {axis: self.axes[axis] for axis in AXES if axis in self.axes}
            for name, cell in (cells | {"mean": self.mean}).items():
                lines.append(f"| {name.replace('_', ' ')} | {_points(cell.value)} | {_interval(cell)} |")
        if self.differences:
            lines += ["", "| what | claimed | recomputed | tolerance |", "|---|---:|---:|---:|"]
            lines += [
                f"| {markdown(one.what)} | {_number(one.claimed, 6)} | {_number(one.found, 6)} | {one.tolerance:.2g} |"
                for one in self.differences[:10]
            ]
        return "\n".join(lines) + "\n"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _interval(cell: Cell) -> str:
    return "–" if cell.low is None or cell.high is None else f"{cell.low:.1f} to {cell.high:.1f}"

"""Two results of a sample at a time, blind, and a verdict on each: what the page and a judging model go through."""

from __future__ import annotations

import math
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from refbench.errors import RefbenchError
from refbench.images import Image, encode_png
from refbench.people.drawing import Drawer, Shown
from refbench.people.votes import VERDICTS, Verdict, Vote, VoteFile
from refbench.plaintext import printable
from refbench.results.resultset import distinct_names
from refbench.runs.folder import RunFolder
from refbench.runs.suites import suite_of
from refbench.schema import Sample, SampleRecord
from refbench.tasks.suite import Suite

PICTURES = ("draft", "reference", "left", "right", "target")
KEPT = 24
"""Encoded pictures that are kept."""


@dataclass(frozen=True)
class Contest:
    """Runs of one suite whose results are held against each other; they need not be measured."""

    suite: Suite
    names: tuple[str, ...]
    folders: tuple[RunFolder, ...]
    records: tuple[dict[str, SampleRecord], ...]
    """Sample -> what happened to it, of each run."""
    samples: tuple[str, ...]
    """Planned in all of them."""

    def output(self, model: int, sample: str) -> Image:
        """A result.

        Raises:
            RefbenchError: it is not there, or broken.
        """
        return self.folders[model].read_output(self.records[model][sample])

    def sha256(self, model: int, sample: str) -> str | None:
        """Of a result; None where there is none."""
        record = self.records[model].get(sample)
        return record.sha256 if record is not None and record.status == "ok" else None

    def drawer(self, seed: int) -> Drawer:
        """Draws pairs of these results."""
        models = range(len(self.names))
        outputs = {sample: [self.sha256(model, sample) for model in models] for sample in self.samples}
        return Drawer(outputs, len(self.names), seed)


def open_contest(runs: Sequence[str | os.PathLike[str]], suite: str | Suite | None = None) -> Contest:
    """Open run folders, at least two, of one suite.

    Raises:
        RefbenchError: fewer, another suite, no sample in common, or something that is no run.
    """
    if len(runs) < 2:
        raise RefbenchError(f"Expected two run folders or more, but {len(runs)} came; name another.")
    folders, manifests = zip(*(RunFolder.open(run) for run in runs), strict=True)
    names = distinct_names([m.card.name for m in manifests], [folder.path for folder in folders])
    for name, manifest in zip(names, manifests, strict=True):
        if manifest.suite_hash != manifests[0].suite_hash:
            raise RefbenchError(
                f"Expected runs of one suite, but {name} is on {manifest.suite} ({manifest.suite_hash[:12]}) and "
                f"{names[0]} on {manifests[0].suite} ({manifests[0].suite_hash[:12]}); evaluate it on the same one."
            )
    shared = [sample for sample in manifests[0].samples if all(sample in set(m.samples) for m in manifests)]
    if not shared:
        raise RefbenchError("Expected runs with samples in common, but there is none; evaluate them without --tasks.")
    whole = suite_of(manifests[0], runs[0], suite)
    records = tuple(dict(folder.read_records(m.samples)) for folder, m in zip(folders, manifests, strict=True))
    return Contest(whole, tuple(names), folders, records, tuple(shared))


@dataclass(frozen=True)
class Question:
    """What a rater has before him."""

    token: str
    """Drawn at random, so that nothing in an address tells what it is of."""
    rater: str
    shown: Shown
    sample: Sample


@dataclass
class _Seat:
    """Where one rater is."""

    now: Question | None = None
    last: tuple[Question, Vote] | None = None
    skipped: set[tuple[str, int, int]] = field(default_factory=set)


class Arena:
    """Asks raters, and appends what they say; safe for several threads.

    Args:
        contest: the results.
        votes: where verdicts go; those in it count as asked.
        seed: of the draws.
        most: pairs that each rater is asked, with those in the file; None asks until all are judged.
        target: whether raters may see the target.
        token: makes names for questions.

    Raises:
        RefbenchError: no two results differ, the target is wanted where the suite has none, or fewer than one pair.
    """

    def __init__(
        self,
        contest: Contest,
        votes: VoteFile,
        *,
        seed: int = 0,
        most: int | None = None,
        target: bool = False,
        token: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        if most is not None and most < 1:
            raise RefbenchError(f"Expected --pairs of 1 or more, but {most} came.")
        if target and not contest.suite.targets:
            raise RefbenchError(f"Expected a suite with targets for --target, but '{contest.suite.name}' has none.")
        self.contest, self.file, self.most, self.target = contest, votes, most, target
        self._drawer, self._token, self._lock = contest.drawer(seed), token, threading.Lock()
        if not self._drawer.size:
            raise RefbenchError("Expected results that differ, but these runs have none on any sample in common.")
        everything = [vote for vote in votes.read() if vote.suite == contest.suite.hash]
        self._votes = [vote for vote in everything if self._drawer.sides(vote) is not None]
        self._seats: dict[str, _Seat] = {}
        self._pictures: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def given(self, rater: str) -> int:
        """How many verdicts of a rater there are on these results."""
        return sum(vote.rater == rater for vote in self._votes)

    def ask(self, rater: str) -> Question | None:
        """The question before a rater, the same until it is answered; None when there is no more."""
        with self._lock:
            seat = self._seats.setdefault(rater, _Seat())
            if seat.now is None and (self.most is None or self.given(rater) < self.most):
                shown = self._drawer.draw(rater, self._votes, frozenset(seat.skipped))
                if shown is not None:
                    seat.now = Question(self._token(), rater, shown, self.contest.suite.sample(shown.sample))
            return seat.now

    def answer(self, token: str, verdict: str, seconds: float) -> str:
        """Keep a verdict; when this returns it is on the disk. One that comes twice counts once.

        Returns:
            the rater.

        Raises:
            RefbenchError: no such verdict or time, or a question that is not asked (any more).
        """
        if verdict not in VERDICTS:
            raise RefbenchError(f"Expected {', '.join(VERDICTS)} as verdict, but '{printable(verdict, 40)}' came.")
        if not (math.isfinite(seconds) and seconds >= 0):
            raise RefbenchError(f"Expected 0 seconds or more, but {seconds} came.")
        with self._lock:
            for rater, seat in self._seats.items():
                if seat.last is not None and seat.last[0].token == token:
                    return rater
                if seat.now is not None and seat.now.token == token:
                    vote = self._vote(seat.now, verdict, round(seconds, 3))
                    self.file.append(vote)
                    self._votes.append(vote)
                    seat.last, seat.now = (seat.now, vote), None
                    return rater
        raise _gone()

    def _vote(self, question: Question, verdict: Verdict, seconds: float) -> Vote:
        shown, names = question.shown, self.contest.names
        left, right = (self.contest.sha256(model, shown.sample) for model in (shown.left, shown.right))
        assert left is not None
        assert right is not None
        return Vote(
            id=secrets.token_hex(8), rater=question.rater, suite=self.contest.suite.hash, sample=shown.sample,
            left=names[shown.left], right=names[shown.right], left_sha256=left, right_sha256=right, verdict=verdict,
            seconds=seconds, target=self.target, repeat=shown.repeat,
        )  # fmt: skip

    def undo(self, rater: str) -> bool:
        """Take a rater's last verdict back and ask it again; False where there is none since the start."""
        with self._lock:
            seat = self._seats.setdefault(rater, _Seat())
            if seat.last is None:
                return False
            question, vote = seat.last
            self.file.withdraw(vote)
            self._votes.remove(vote)
            seat.now, seat.last = question, None
            return True

    def can_undo(self, rater: str) -> bool:
        """Whether :meth:`undo` would find something."""
        seat = self._seats.get(rater)
        return seat is not None and seat.last is not None

    def skip(self, token: str) -> None:
        """Leave a question out, for a rater who cannot answer it; nothing is kept."""
        with self._lock:
            for seat in self._seats.values():
                if seat.now is not None and seat.now.token == token:
                    shown = seat.now.shown
                    seat.skipped.add((shown.sample, min(shown[1:3]), max(shown[1:3])))
                    seat.now = None

    def picture(self, token: str, which: str) -> bytes:
        """A picture of a question that is before a rater, as PNG without a name or date in it.

        Raises:
            RefbenchError: no such picture or question, or a target that is held back.
        """
        with self._lock:
            question = next((s.now for s in self._seats.values() if s.now is not None and s.now.token == token), None)
            if (token, which) in self._pictures:
                return self._pictures[token, which]
        if question is None:
            raise _gone()
        if which not in PICTURES or (which == "target" and not self.target):
            raise RefbenchError("Expected a picture of the question, but there is no such one.")
        data = encode_png(self._image(question, which))
        with self._lock:
            self._pictures[token, which] = data
            while len(self._pictures) > KEPT:
                self._pictures.popitem(last=False)
        return data

    def _image(self, question: Question, which: str) -> Image:
        sample, shown = question.sample, question.shown
        if which in ("left", "right"):
            return self.contest.output(shown.left if which == "left" else shown.right, sample.id)
        if which == "target":
            return self.contest.suite.target(sample)
        return sample.draft if which == "draft" else sample.reference


def _gone() -> RefbenchError:
    return RefbenchError("Expected an answer to the question that is asked, but it is another's; reload the page.")

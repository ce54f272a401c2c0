"""Votes on disk: JSON lines that only grow, survive a kill, and merge with those of other machines.

A line is one verdict of one rater over two results of one sample, left and right as they were shown::

    {"id": "9f1c…", "rater": "ann", "suite": "dae7…", "sample": "text-refine-004", "left": "warp-blend",
     "right": "identity", "left_sha256": "…", "right_sha256": "…", "verdict": "left", "seconds": 6.2, "target": false,
     "repeat": false}

A rater whose name begins with ``model:`` is a model that judges. A line ``{"withdraws": ID}`` takes a vote back.
Nothing else of a person is kept, and not when a vote was given.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal, get_args

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from refbench.errors import RefbenchError
from refbench.plaintext import printable
from refbench.schema import Record

Verdict = Literal["left", "right", "tie", "bad"]
"""`bad`: both are, a tie that says more."""
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
JUDGE = "model:"
"""What the name of a rater begins with that is a model."""
LONGEST_NAME = 60
FIRST = b'{"id":"'
"""What a file of votes begins with."""
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{16,128}$")]


class Vote(Record):
    """One verdict."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
    """Of its own; a vote that comes twice, from two files, counts once."""
    rater: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    suite: Hash
    """Hash of the suite."""
    sample: str
    left: str
    """Name of the model that was shown on the left."""
    right: str
    left_sha256: Hash
    """Of the output, as the run's record has it."""
    right_sha256: Hash
    verdict: Verdict
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """From when all pictures were there to the verdict."""
    target: bool = False
    """Whether the target was shown too."""
    repeat: bool = False
    """Whether the rater had this pair before, the other way round."""

    @property
    def judge(self) -> bool:
        """Whether a model gave it."""
        return self.rater.startswith(JUDGE)

    @property
    def pair(self) -> tuple[str, frozenset[str]]:
        """Sample and outputs, whichever side they were on."""
        return self.sample, frozenset((self.left_sha256, self.right_sha256))

    @property
    def winner(self) -> str | None:
        """SHA-256 of the output that was preferred; None for a tie of either kind."""
        return {"left": self.left_sha256, "right": self.right_sha256}.get(self.verdict)


def check_rater(name: str, *, judge: bool = False) -> str:
    """A rater's name without spaces around it.

    Raises:
        RefbenchError: empty, too long, unprintable, or a judge's where a person's is expected.
    """
    name = name.strip()
    if not name or len(name) > LONGEST_NAME or printable(name, None) != name or name.startswith(JUDGE) != judge:
        raise RefbenchError(
            f"Expected a rater's name of 1 to {LONGEST_NAME} printable characters that does not begin with '{JUDGE}', "
            f"but '{printable(name, 40)}' came; any name or initials will do."
        )
    return name


class VoteFile:
    """A file that votes are appended to, by this process alone while it is open.

    Args:
        path: made if it is not there, its folder too.

    Raises:
        RefbenchError: another process appends to it, it cannot be written, or it holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            if path.exists():
                _cut_torn(path)
            self._handle = path.open("ab")
        except Timeout:
            raise RefbenchError(
                f"Expected to be alone at {path}, but another refbench process appends votes to it; name another file "
                "with --votes ('refbench agreement' merges them)."
            ) from None
        except RefbenchError:
            self._unlock()
            raise
        except OSError as error:
            raise RefbenchError(
                f"Expected to append votes to {path}, but {error.strerror}; name another file with --votes."
            ) from None

    def read(self) -> list[Vote]:
        """The votes so far; errors as :func:`read_votes`."""
        return read_votes(self.path) if self.path.stat().st_size else []

    def append(self, vote: Vote) -> None:
        """Add a vote; when this returns it is on the disk."""
        self._line(vote.model_dump_json())

    def withdraw(self, vote: Vote) -> None:
        """Take a vote back."""
        self._line(json.dumps({"withdraws": vote.id}))

    def _line(self, text: str) -> None:
        self._handle.write(text.encode() + b"\n")
        self._handle.flush()
        os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Let others append; a file that no vote came into goes."""
        if self._handle.closed:
            return
        empty = not self._handle.tell()
        self._handle.close()
        if empty:
            self.path.unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)


def _cut_torn(path: Path) -> None:
    """Cut a last line that a kill left without its end; a file of something else stays as it is.

    Raises:
        RefbenchError: it holds something else.
    """
    with path.open("rb+") as handle:
        data = handle.read()
        whole = data.rfind(b"\n") + 1
        if whole == len(data):
            return
        if whole:
            _parse(data[:whole], path, {}, set())
        elif not (data.startswith(FIRST) or FIRST.startswith(data)):
            raise RefbenchError(
                f"Expected votes at {path}, but it holds something else; name another file with --votes."
            )
        handle.truncate(whole)


def read_votes(place: Path) -> list[Vote]:
    """The votes of a file, or of all ``*.jsonl`` files of a folder, each vote once, without those taken back.

    A last line without its end, as a kill leaves it, is no vote.

    Raises:
        RefbenchError: no such file, no vote in it, or a line that is no vote.
    """
    paths = sorted(place.glob("*.jsonl")) if place.is_dir() else [place]
    found: dict[str, Vote] = {}
    withdrawn: set[str] = set()
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise RefbenchError(f"Expected votes at {path}, but {error.strerror}; check the path.") from None
        _parse(data[: data.rfind(b"\n") + 1], path, found, withdrawn)
    votes = [vote for vote in found.values() if vote.id not in withdrawn]
    if not votes and not withdrawn:
        what = "folder with .jsonl files of votes" if place.is_dir() else "file of votes"
        raise RefbenchError(f"Expected a {what} at {place}, but there is no vote; 'refbench arena' writes them.")
    return votes


def _parse(data: bytes, path: Path, found: dict[str, Vote], withdrawn: set[str]) -> None:
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            _take(line, f"{path}, line {number}", found, withdrawn)


def _take(line: bytes, where: str, found: dict[str, Vote], withdrawn: set[str]) -> None:
    try:
        value = json.loads(line)
        if isinstance(value, dict) and set(value) == {"withdraws"}:
            withdrawn.add(str(value["withdraws"]))
            return
        vote = Vote.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise RefbenchError(
            f"Expected a vote at {where}, but {'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}; "
            "see docs/people.md for the form."
        ) from None
    except (ValueError, RecursionError):
        raise RefbenchError(f"Expected a vote as JSON at {where}, but it is no JSON; remove the line.") from None
    found.setdefault(vote.id, vote)

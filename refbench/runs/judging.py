"""A vision-language model as judge, by any OpenAI-compatible endpoint: detail, faithfulness, naturalness, 1 to 5.

The judge sees the reference, and draft and output as A and B in drawn order, and rates each. Its numbers are *not
reproducible* (the model behind an address can change any day), so they stand apart from the score, with a drift check:
a fixed set of pairs, draft and target, that is judged anew in every run and compared with its first ratings. Votes are
kept in the cache by content; nothing is paid for twice. The key is read from the environment and written nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.baselines import baseline_image
from refbench.cache import keep
from refbench.errors import RefbenchError, missing_package
from refbench.images import Image, resize
from refbench.runs.folder import RunFolder
from refbench.runs.jsontext import as_json, read_json
from refbench.runs.suites import suite_of
from refbench.runs.suitewide import answered, pictures

if TYPE_CHECKING:
    import httpx

    from refbench.schema import Truth
    from refbench.tasks.suite import Suite

KEYS = ("REFBENCH_JUDGE_KEY", "OPENAI_API_KEY")
"""Environment variables that hold the key, the first that is set; a local server may need none."""
PROMPT = Path(__file__).with_name("judge_prompt.md")
RUBRIC = ("detail", "faithfulness", "naturalness")
FILE = "judge.json"
SIDE = 768
"""Longest side of a crop as it is sent, in px; smaller ones are not enlarged."""
DRIFT_PAIRS = 4
ATTEMPTS = 5


class Refused(Exception):
    """The model declined to answer, or answered in another form in spite of being asked again."""


@dataclass(frozen=True, slots=True)
class Judge:
    """An endpoint, a model, and how often it is asked.

    Args:
        url: up to and with ``/v1``; ``/chat/completions`` is added.
        model: as the endpoint names it.
        votes: asked on each sample, each in a drawn order.
        timeout_s: for one answer, in seconds.
        pause_s: before the first repetition, in seconds; doubled before each further one.
        seed: of the orders.
    """

    url: str
    model: str
    votes: int = 3
    timeout_s: float = 120.0
    pause_s: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")) or "@" in self.url:
            raise RefbenchError(
                f"Expected --judge http(s)://HOST/v1 without a user or key in it, but '{self.url.split('@')[-1]}' came."
            )
        if self.votes < 1:
            raise RefbenchError(f"Expected one vote of the judge or more, but {self.votes} came.")

    @property
    def prompt(self) -> str:
        """The pinned prompt."""
        return PROMPT.read_text(encoding="utf-8")

    @property
    def identity(self) -> str:
        """16 hex digits of address, model and prompt."""
        return hashlib.sha256(json.dumps([self.url, self.model, self.prompt]).encode()).hexdigest()[:16]


def crops(truth: Truth, output: Image) -> tuple[Image, Image, Image]:
    """(reference, draft, output) as the judge sees them: the region with half its side around it, at most 768 px."""
    from refbench.metrics.alignment.face_id import widened
    from refbench.metrics.regions import cut, reference_crop, region_box

    assert truth.draft is not None
    frame = (truth.target.shape[0], truth.target.shape[1])
    box = widened(region_box(truth.mask, frame), frame)
    return tuple(_sized(image) for image in (reference_crop(truth), cut(truth.draft, box), cut(output, box)))  # type: ignore[return-value]


def _sized(image: Image) -> Image:
    scale = SIDE / max(image.shape[:2])
    if scale >= 1.0:
        return np.ascontiguousarray(image)
    height, width = (max(round(length * scale), 1) for length in image.shape[:2])
    return resize(np.ascontiguousarray(image), (height, width))


def _png(image: Image) -> str:
    from PIL import Image as Pillow

    handle = io.BytesIO()
    Pillow.fromarray(image).save(handle, "PNG")
    return "data:image/png;base64," + base64.b64encode(handle.getvalue()).decode()


class Bench:
    """Asks one judge, and remembers what it said."""

    def __init__(self, judge: Judge, cache: Path | None, client: httpx.Client | None = None) -> None:
        self.judge = judge
        self.asked = 0
        """Requests that reached the endpoint and came back with a rating."""
        self._cache = None if cache is None else cache / "judge" / judge.identity
        self._key = next((os.environ[name] for name in KEYS if os.environ.get(name)), "")
        self._client = client or self._opened()

    def _opened(self) -> httpx.Client:
        try:
            import httpx
        except ImportError as error:
            raise missing_package(error, "for --judge") or error from None
        return httpx.Client(timeout=self.judge.timeout_s)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def vote(
        self, first: Image, a: Image, b: Image, number: int, *, fresh: bool = False
    ) -> tuple[dict[str, dict[str, int]], str]:
        """One vote on two versions: ({"a": {rubric: 1 to 5}, "b": {...}}, the order in which they were shown).

        Args:
            first: the reference.
            a: version a; shown as A or as B.
            b: version b.
            number: of the vote; draws the order with the pictures' content.
            fresh: ask again whatever is remembered, and remember nothing.

        Raises:
            Refused: no rating came.
            RefbenchError: the endpoint cannot be reached or does not let us in.
        """
        content = hashlib.sha256()
        for image in (first, a, b):
            content.update(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes())
        drawn = hashlib.sha256(f"{self.judge.seed} {number} {content.hexdigest()}".encode()).digest()[0]
        order = "ab" if drawn % 2 == 0 else "ba"
        path = None
        if self._cache is not None and not fresh:
            path = self._cache / f"{content.hexdigest()[:24]}-{number}-{order}.json"
            found = read_json(path)
            if found is not None:
                rated = _rated(json.dumps(found.get("ratings", {})))
                if rated is not None:
                    return _named(rated, order), order
        shown = (a, b) if order == "ab" else (b, a)
        ratings, said = self._asked(first, shown, number)
        if path is not None:
            keep(path, as_json({"order": order, "ratings": ratings, "answer": said}).encode())
        return _named(ratings, order), order

    def _asked(
        self, reference: Image, shown: tuple[Image, Image], number: int
    ) -> tuple[dict[str, dict[str, int]], str]:
        parts: list[dict[str, Any]] = []
        for label, image in zip(("REFERENCE", "A", "B"), (reference, *shown), strict=True):
            parts.append({"type": "text", "text": label})
            parts.append({"type": "image_url", "image_url": {"url": _png(image)}})
        body = {
            "model": self.judge.model,
            "temperature": 0,
            "seed": number,
            "max_tokens": 300,
            "messages": [{"role": "system", "content": self.judge.prompt}, {"role": "user", "content": parts}],
        }
        why = "no answer"
        for attempt in range(ATTEMPTS):
            wait = self.judge.pause_s * 2**attempt
            text, why, asked_wait = self._post(body)
            if text is not None:
                rated = _rated(text)
                if rated is not None:
                    self.asked += 1
                    return rated, text
                why = f"it gave no ratings of the rubric ({self._clean(text)[:80]!r})"
            if attempt < ATTEMPTS - 1:
                time.sleep(min(wait if asked_wait is None else asked_wait, 60.0))
        raise Refused(why)

    def _post(self, body: Mapping[str, Any]) -> tuple[str | None, str, float | None]:
        """(text of the answer or None, what went wrong, seconds that the server asks to wait)."""
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        address = f"{self.judge.url.rstrip('/')}/chat/completions"
        try:
            reply = self._client.post(address, json=body, headers=headers)
        except httpx.HTTPError as error:
            return None, self._clean(str(error) or type(error).__name__), None
        if reply.status_code in (400, 401, 403, 404):
            raise RefbenchError(
                f"Expected the judge at {address} to answer, but it said {reply.status_code} "
                f"({self._clean(reply.text)[:120]}); check the address, --judge-model and {KEYS[0]}."
            )
        if reply.status_code != 200:
            given = reply.headers.get("Retry-After", "")
            return None, f"the server answered {reply.status_code}", float(given) if given.isdigit() else None
        try:
            choice = reply.json()["choices"][0]
            message = choice["message"]
            if message.get("refusal") or choice.get("finish_reason") == "content_filter":
                raise Refused(f"refused: {self._clean(str(message.get('refusal') or 'content filter'))[:120]}")
            return str(message["content"]), "", None
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return None, "its answer was cut off or of another form", None

    def _clean(self, text: str) -> str:
        """Without the key, whatever echoes it."""
        text = " ".join(text.split())
        return text.replace(self._key, "***") if self._key else text


def _rated(text: str) -> dict[str, dict[str, int]] | None:
    """The ratings in an answer: the first JSON object in it that has both versions and whole numbers from 1 to 5."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text[start:])
            rated = {version: {name: found[version][name] for name in RUBRIC} for version in ("A", "B")}
            numbers = [number for cells in rated.values() for number in cells.values()]
            if all(type(number) is int and 1 <= number <= 5 for number in numbers):
                return rated
        except (ValueError, KeyError, TypeError):
            pass
        start = text.find("{", start + 1)
    return None


def _named(rated: Mapping[str, dict[str, int]], order: str) -> dict[str, dict[str, int]]:
    return {order[0]: rated["A"], order[1]: rated["B"]}


def judge_run(
    run: str | Path,
    judge: Judge,
    *,
    suite: str | None = None,
    cache: Path | None = None,
    client: httpx.Client | None = None,
) -> dict[str, Any]:
    """Let a judge rate every output of a run, and write ``judge.json``.

    Returns:
        ``model``, ``means`` (rubric -> output, draft, gain), ``samples``, ``unrated``, ``drift``, and what was shown.

    Raises:
        RefbenchError: no run there, another suite, or an endpoint that cannot be used.
    """
    folder, manifest = RunFolder.open(run)
    whole = suite_of(manifest, run, suite)
    bench = Bench(judge, cache, client)
    try:
        drift = _drift(bench, whole, cache)
        rows = [_sample(bench, truth, output) for truth, output in pictures(folder, manifest, whole)]
    finally:
        bench.close()
    rated = [row for row in rows if row["output"] is not None]
    means = {
        name: {who: float(np.mean([row[who][name] for row in rated])) if rated else None for who in ("output", "draft")}
        for name in RUBRIC
    }
    for cell in means.values():
        both = cell["output"], cell["draft"]
        cell["gain"] = None if both[0] is None or both[1] is None else both[0] - both[1]
    found = {
        "reproducible": False,
        "note": "ratings of a model behind an address; they enter no score",
        "judge": judge.url,
        "model": judge.model,
        "prompt_sha256": hashlib.sha256(judge.prompt.encode()).hexdigest(),
        "votes": judge.votes,
        "seed": judge.seed,
        "requests": bench.asked,
        "means": means,
        "rated": len(rated),
        "unrated": {row["id"]: row["why"] for row in rows if row["output"] is None},
        "failed": len(manifest.samples) - len(answered(folder, manifest)),
        "drift": drift,
        "samples": rows,
    }
    folder.write_json(FILE, found)
    return found


def _sample(bench: Bench, truth: Truth, output: Image) -> dict[str, Any]:
    """Mean ratings of draft and output over the votes that came, and every vote with its order."""
    reference, draft, answer = crops(truth, output)
    votes: list[dict[str, Any]] = []
    why = ""
    for number in range(bench.judge.votes):
        try:
            ratings, order = bench.vote(reference, draft, answer, number)
        except Refused as error:
            why = str(error)
            continue
        shown = ["draft", "output"] if order == "ab" else ["output", "draft"]
        votes.append({"vote": number, "shown": shown, "draft": ratings["a"], "output": ratings["b"]})
    return {
        "id": truth.id,
        "draft": _mean([vote["draft"] for vote in votes]),
        "output": _mean([vote["output"] for vote in votes]),
        "votes": votes,
        "why": why,
    }


def _mean(votes: Sequence[Mapping[str, int]]) -> dict[str, float] | None:
    return {name: float(np.mean([vote[name] for vote in votes])) for name in RUBRIC} if votes else None


def _drift(bench: Bench, suite: Suite, cache: Path | None) -> dict[str, Any]:
    """Judge the suite's first pairs of draft and target anew, and compare with the first time.

    Where the suite has no targets the pasted reference stands in the target's place: any fixed pair will do.
    """
    now: dict[str, Any] = {}
    for sample in suite.ids[:DRIFT_PAIRS]:
        truth = suite.truth(sample)
        reference, draft, target = crops(truth, truth.target if truth.has_target else baseline_image(truth, "paste"))
        try:
            ratings, _ = bench.vote(reference, draft, target, 0, fresh=True)
        except Refused as error:
            now[sample] = {"why": str(error)}
            continue
        now[sample] = {"draft": ratings["a"], "target": ratings["b"]}
    path = None if cache is None else cache / "judge" / bench.judge.identity / f"drift-{suite.hash[:12]}.json"
    first = None if path is None else read_json(path)
    kept = first is None and path is not None and keep(path, as_json(now).encode())
    moved = [
        abs(now[sample][who][name] - first[sample][who][name])
        for sample in now
        for who in ("draft", "target")
        for name in RUBRIC
        if first is not None and who in now[sample] and who in first.get(sample, {})
    ]
    return {
        "pairs": now,
        "first_time": first is None,
        "kept": kept,
        "mean_change": float(np.mean(moved)) if moved else None,
        "largest_change": int(max(moved)) if moved else None,
    }

"""Try an adapter on tiny made-up samples and say, row by row, what passes, what was not tried, and what fails.

The samples cover what a suite holds: square, odd, tall and small sizes, a reference of another size, tight, box,
scribble and one-pixel masks, with and without the reference's box, empty, long and non-Latin prompts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from refbench.adapters.card import missing_requirements
from refbench.adapters.contract import Contained
from refbench.adapters.load import open_contained
from refbench.adapters.process import Runner
from refbench.adapters.sandbox import can_confine
from refbench.adapters.spec import resolve
from refbench.errors import RefbenchError
from refbench.images import Image, Mask, mask_box
from refbench.schema import AdapterCard, Inputs, Refinement

Status = Literal["pass", "skip", "fail"]

QUICK = 2
"""Samples that a quick self-test asks for again."""


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the self-test."""

    name: str
    status: Status
    detail: str
    """One sentence: what was seen, and for a failure what to do."""


def _scene(height: int, width: int, generator: np.random.Generator) -> Image:
    """A made-up photograph: smooth colours, stripes, discs and grain."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    image = np.stack([128 + 90 * np.sin(generator.uniform(2, 7, 2) @ np.stack([x.ravel(), y.ravel()])) for _ in "rgb"])
    image = image.reshape(3, height, width).transpose(1, 2, 0)
    for _ in range(12):
        centre, radius = generator.uniform(0, 1, 2), generator.uniform(0.03, 0.15)
        image[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = generator.uniform(0, 255, 3)
    image[(x * 24).astype(int) % 5 == 0] *= 0.7
    return np.clip(image + generator.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def _mask(kind: str, height: int, width: int) -> Mask:
    y, x = np.mgrid[0:height, 0:width]
    if kind == "box":
        inside = (abs(y - height * 0.45) < height * 0.2) & (abs(x - width * 0.5) < width * 0.25)
    elif kind == "tight":
        inside = ((y / height - 0.5) / 0.25) ** 2 + ((x / width - 0.45) / 0.3) ** 2 < 1
    elif kind == "scribble":
        inside = abs(y - height * (0.5 + 0.2 * np.sin(9 * x / width))) < max(2, height * 0.06)
    else:
        inside = (y == height // 2) & (x == width // 3)
    return np.asarray(inside, bool)


def made_up_samples() -> list[Inputs]:
    """Eight small samples, the same every time; the names say what is special about them."""
    generator = np.random.default_rng(20)
    plan: tuple[tuple[str, tuple[int, int], str, tuple[int, int], str, bool], ...] = (
        ("square-box", (96, 96), "box", (96, 96), "Restore the detail from the reference.", True),
        (
            "odd-tight",
            (97, 121),
            "tight",
            (80, 100),
            "Repair the print; the reference shows it from another side.",
            True,
        ),
        ("tall-scribble", (160, 90), "scribble", (150, 200), "Fix the logo.", False),
        ("small-box", (48, 52), "box", (64, 64), "Make the text read as in the reference.", False),
        ("large-tight", (256, 240), "tight", (300, 220), "Replace the pattern with the reference's.", True),
        ("one-pixel", (64, 64), "pixel", (64, 64), "Fix the pixel.", False),
        ("empty-prompt", (80, 80), "box", (60, 90), "", True),
        (
            "long-prompt",
            (80, 88),
            "tight",
            (90, 70),
            "Stelle das Etikett wieder her: „緑茶“ – naïve café. " * 20,
            False,
        ),
    )
    samples = []
    for name, size, kind, reference_size, prompt, boxed in plan:
        truth = _scene(*reference_size, generator)
        target = np.asarray(_resized(truth, size))
        mask = _mask(kind, *size)
        draft = target.copy()
        blurred = _resized(_resized(target, (max(4, size[0] // 6), max(4, size[1] // 6))), size)
        draft[mask] = blurred[mask]
        box = None
        if boxed:
            x, y, w, h = mask_box(mask)
            scale = np.array([reference_size[1] / size[1], reference_size[0] / size[0]] * 2)
            x, y, w, h = (int(v) for v in np.array([x, y, w, h]) * scale)
            box = (x, y, max(w, 1), max(h, 1))
        samples.append(Inputs(name, draft, truth, mask, prompt, box, seed=7))
    return samples


def _resized(image: Image, size: tuple[int, int]) -> Image:
    from refbench.images import resize

    return resize(image, size)


def _same(a: Sequence[Refinement], b: Sequence[Refinement], levels: int = 0) -> list[str]:
    """Names of the samples whose images differ by more than so many grey levels anywhere."""

    def far(p: Image, q: Image) -> bool:
        return bool((np.abs(p.astype(np.int16) - q) > levels).any())

    return [p.id for p, q in zip(a, b, strict=True) if p.image is None or q.image is None or far(p.image, q.image)]


def check_adapter(
    spec: str | os.PathLike[str],
    *,
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
    timeout_s: float = 300.0,
    runner: Runner = "auto",
    quick: bool = False,
) -> list[Check]:
    """Run every check on an adapter: a name, file.py, file.py:Class, or a folder of PNGs.

    Args:
        spec: the adapter, as for :func:`refbench.adapters.load.open_contained`.
        device: passed to the adapter.
        options: keyword arguments of the adapter.
        timeout_s: longest time for one small sample.
        runner: how a script is run.
        quick: ask again for the first :data:`QUICK` samples alone, for a model that takes minutes a picture: 18
            pictures in place of 48.

    Returns:
        The rows in order; the adapter is fit for a run when none has the status "fail". A specification that does
        not load gives one failing row.
    """
    arguments: dict[str, Any] = {"device": device, "options": options, "timeout_s": timeout_s, "runner": runner}
    arguments["threads"] = 1  # sums in another order could differ between two processes
    try:
        kind = resolve(spec).kind
        if kind == "folder":
            return list(_folder_checks(spec))
        with open_contained(spec, **arguments) as adapter:
            rows, first = [Check("loads", "pass", f"'{adapter.card.name}', isolated as {adapter.isolation}.")], None
            rows += _card_checks(adapter.card)
            first = adapter.refine_batch(made_up_samples())
            rows += _answer_checks(first)
            if any(r.image is None for r in first):
                rows.append(Check("further checks", "skip", "Not tried before every sample has an answer."))
                return rows
            samples = made_up_samples()[: QUICK if quick else None]
            rows += _answered_checks(first)
            rows += _behaviour_checks(adapter, samples, first[: len(samples)])
        rows += _reopened_checks(spec, arguments, adapter.card, samples, first[: len(samples)])
    except RefbenchError as error:
        return [Check("loads", "fail", str(error))]
    return rows


def _card_checks(card: AdapterCard) -> Iterator[Check]:
    lacking = ["a summary of a sentence"] * (len(card.summary.split()) < 4)
    lacking += ["the licence"] * (card.licence in ("", "unknown"))
    if lacking:
        yield Check("card", "fail", f"Expected a complete card, but it lacks {' and '.join(lacking)}; fill it in.")
    elif card.summary.startswith("Skeleton:"):
        yield Check("card", "skip", "Complete, but the summary is still the skeleton's; say how the model works.")
    else:
        yield Check("card", "pass", f"Licence {card.licence}, paper {card.paper or 'none'}.")
    missing = missing_requirements(card)
    if missing:
        yield Check("requirements", "fail", f"Expected {', '.join(missing)} to be importable; install them.")
    else:
        yield Check("requirements", "pass", f"{', '.join(card.requires) or 'none'}.")


def _answer_checks(answers: Sequence[Refinement]) -> Iterator[Check]:
    """One row a sample, so that a failure names what is special about it."""
    for answer in answers:
        if answer.image is None:
            yield Check(f"answers {answer.id}", "fail", answer.error or "")
        else:
            size = f"{answer.image.shape[1]} x {answer.image.shape[0]} px"
            yield Check(f"answers {answer.id}", "pass", f"{size} in {answer.seconds:.2f} s.")


def _changed(samples: Sequence[Inputs], answers: Sequence[Refinement]) -> list[float]:
    """The share of each mask that an answer changed."""
    return [
        float((s.mask & (r.image != s.draft).any(2)).sum() / s.mask.sum())
        for s, r in zip(samples, answers, strict=True)
        if r.image is not None
    ]


def _answered_checks(first: Sequence[Refinement]) -> Iterator[Check]:
    """What all answers show without asking again."""
    samples = made_up_samples()
    changed = _changed(samples, first)
    if not any(changed):
        yield Check(
            "changes the masked part", "skip", "Every answer is the draft; right only for a do-nothing baseline."
        )
    else:
        yield Check("changes the masked part", "pass", f"{np.mean(changed):.0%} of its pixels.")
    kept = np.mean([
        (r.image == s.draft).all(2)[~s.mask].mean() for s, r in zip(samples, first, strict=True) if r.image is not None
    ])  # fmt: skip
    if kept == 1:
        yield Check("keeps the background", "pass", "Every pixel outside the mask is the draft's.")
    else:
        yield Check(
            "keeps the background", "skip", f"{kept:.1%} of it; not a fault, but local consistency measures it."
        )


def _behaviour_checks(adapter: Contained, samples: Sequence[Inputs], first: Sequence[Refinement]) -> Iterator[Check]:
    card, changed = adapter.card, _changed(samples, first)
    again = adapter.refine_batch(list(reversed(samples)))[::-1]
    if not card.deterministic:
        yield Check("repeats itself", "skip", "The card says that it is not deterministic.")
    else:
        differing = _same(first, again)
        bad = "it differs the second time, though the card says deterministic; use inputs.seed, or say so"
        yield _row("repeats itself", differing, "The same images in another order of samples.", bad)
    renamed = adapter.refine_batch([replace(s, id=f"other-{n}") for n, s in enumerate(samples)])
    if card.deterministic:
        bad = "the image depends on the sample's id"
        yield _row("ignores the sample's name", _same(first, renamed), "The same images under other ids.", bad)
    seeded = adapter.refine_batch([replace(s, seed=8) for s in samples])
    uses = bool(_same(first, seeded))
    yield Check("seed", "pass", f"Another seed gives {'another' if uses else 'the same'} image.")

    generator = np.random.default_rng(3)
    others = [
        replace(s, reference=generator.permutation(s.reference.ravel()).reshape(s.reference.shape)) for s in samples
    ]
    used = bool(_same(first, adapter.refine_batch(others)))
    if used == card.needs_reference or not any(changed):
        yield Check("uses the reference", "pass", "Yes." if used else "No, as the card says.")
    else:
        says, does = ("needs", "does not depend on") if card.needs_reference else ("does not need", "depends on")
        yield Check(
            "uses the reference", "fail", f"The card says that it {says} the reference, but the image {does} it."
        )
    if any(r.image is None for r in [*again, *renamed, *seeded]):
        yield Check("keeps answering", "fail", next(r.error for r in [*again, *renamed, *seeded] if r.error) or "")
    else:
        yield Check("keeps answering", "pass", f"{len(made_up_samples()) + 4 * len(samples)} samples in one process.")


def _row(name: str, differing: Sequence[str], good: str, bad: str) -> Check:
    if not differing:
        return Check(name, "pass", good)
    return Check(name, "fail", f"Expected equal images, but for {', '.join(differing)} {bad}.")


def _reopened_checks(
    spec: str | os.PathLike[str], arguments: dict[str, Any], card: AdapterCard, samples: Sequence[Inputs],
    first: Sequence[Refinement],
) -> Iterator[Check]:  # fmt: skip
    """A fresh process, with batches and, where the card says so and the system can, without the network."""
    closed = not card.needs_network and can_confine()
    with open_contained(spec, batch_size=4, network=not closed, **arguments) as adapter:
        again = adapter.refine_batch(list(samples))
    broken = next((r.error for r in again if r.error), None)
    if card.needs_network:
        yield Check("works without the network", "skip", "The card says that it needs the network.")
    elif not closed:
        yield Check(
            "works without the network", "skip", "This system has no user namespaces to close the network with."
        )
    elif broken:
        yield Check("works without the network", "fail", broken)
    else:
        yield Check("works without the network", "pass", "Every sample has an answer with the network closed.")
    if card.deterministic and not broken:
        # a batch sums in another order, which may round to the next grey level
        good = "The same images." if not _same(first, again) else "The same images, but for single grey levels."
        differing = _same(first, again, levels=1)
        yield _row("a fresh process and batches of 4", differing, good, "the image is another")
    else:
        yield Check("a fresh process and batches of 4", "skip", "Not deterministic, or it did not answer.")


def _folder_checks(spec: str | os.PathLike[str]) -> Iterator[Check]:
    from refbench.adapters.folder import FolderAdapter

    path = resolve(spec).path
    assert path is not None
    adapter = FolderAdapter(path)
    yield Check("loads", "pass", f"{len(adapter.files)} PNGs.")
    yield from _card_checks(adapter.card)
    broken = []
    for name in adapter.files:
        try:
            adapter.picture(name)
        except RefbenchError as error:
            broken.append(f"{name}: {error}")
    if broken:
        yield Check("images decode", "fail", f"{len(broken)} do not; first: {broken[0]}")
    else:
        yield Check("images decode", "pass", "All of them; their sizes are checked against the suite in a run.")

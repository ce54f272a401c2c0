"""Near names: a slip finds its name, and what is no slip finds nothing."""

from __future__ import annotations

import string

import pytest

from refbench.adapters.registry import MODELS
from refbench.errors import near_names, unknown_name
from refbench.metrics.registry import METRICS

TASKS = [f"{what}-{mode}" for what in ("text", "logo", "pattern") for mode in ("refine", "replace")]


def slips(name: str) -> set[str]:
    """Every name with one letter dropped, doubled, or swapped with its neighbour."""
    dropped = {name[:i] + name[i + 1 :] for i in range(len(name))}
    doubled = {name[:i] + name[i] + name[i:] for i in range(len(name))}
    swapped = {name[:i] + name[i + 1] + name[i] + name[i + 2 :] for i in range(len(name) - 1)}
    return dropped | doubled | swapped


@pytest.mark.parametrize("known", [list(MODELS), [n for n in METRICS if len(n) > 3], TASKS, ["core", "mini"]])
def test_every_single_slip_finds_its_name(known: list[str]) -> None:
    for name in known:
        for slip in slips(name) - set(known):
            assert name in near_names(slip, known), slip


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("warpblend", ["warp-blend"]),
        ("Warp_Blend", ["warp-blend"]),
        ("omnirefinr", ["omnirefiner"]),
        ("sdxl", ["sdxl-ip-adapter"]),
        ("kontext", ["flux-kontext", "flux-kontext-inpaint"]),
        ("my-model", []),
        ("none", []),
        ("x", []),
        ("", []),
    ],
)
def test_near_models(typed: str, near: list[str]) -> None:
    assert near_names(typed, MODELS) == near


@pytest.mark.parametrize("word", ["house", "keyboard", "guitar", "garden", "tiny", "run", "accuracy", "bleu"])
def test_word_of_another_kind_is_near_nothing(word: str) -> None:
    assert near_names(word, [*MODELS, *METRICS, *TASKS]) == []


def test_long_list_of_names_is_not_spelt_out() -> None:
    said = str(unknown_name("sample", "q", [f"{a}{b}" * 3 for a in string.ascii_lowercase for b in "12"]))
    assert said.endswith(" and 40 more.")
    assert str(unknown_name("model", "q", MODELS)).endswith(f"'refbench list models' shows all {len(MODELS)}.")
    assert str(unknown_name("suite", "q", ["core", "mini"], otherwise="a folder")) == (
        "Unknown suite 'q': known: core, mini; or give a folder."
    )

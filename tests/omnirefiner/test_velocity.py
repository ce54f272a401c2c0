"""How the transformer's answer is read as change and gate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from refbench.omnirefiner.method.tokens import Conditions, pack, unpack
from refbench.omnirefiner.method.velocity import add_noise, call
from refbench.omnirefiner.tiny.gates import GateHead, even_gate

N, C = 4, 64


def conditions(reference: bool) -> Conditions:
    generator = torch.Generator().manual_seed(0)
    return Conditions(
        draft=torch.randn(2, N, C, generator=generator), size=(4, 4), prompt_embeds=torch.zeros(2, 1, 8),
        pooled=torch.zeros(2, 8), reference=torch.randn(2, N, C, generator=generator) if reference else None,
        reference_size=(4, 4) if reference else None,
    )  # fmt: skip


class Answers:
    """Stands for a transformer: answers with fixed numbers for every token of the sequence."""

    def __init__(self, *parts: float) -> None:
        self.parts = parts

    def __call__(self, hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
        return (torch.cat([torch.full((*hidden_states.shape[:2], C), v) for v in self.parts], dim=-1),)


def picture(model: Answers, given: Conditions) -> Tensor:
    """The clean tokens that a call under "blend" stands for."""
    noise, sigma = torch.randn(2, N, C, generator=torch.Generator().manual_seed(1)), torch.tensor([1.0, 0.5])
    noisy = add_noise(given.draft, noise, sigma)
    answer = call(model, noisy, sigma, given, "none")  # type: ignore[arg-type]
    found, _ = GateHead().read(answer, noisy, sigma, given, sampling=False)
    return noisy - sigma.view(-1, 1, 1) * found


@pytest.mark.parametrize(("gate", "expected"), [(0.0, "draft"), (1.0, "reference")])
def test_a_gate_chooses_draft_or_reference(gate: float, expected: str) -> None:
    given = conditions(reference=True)
    # one addition and one division by sigma in single precision
    torch.testing.assert_close(picture(Answers(0.0, gate), given), getattr(given, expected), atol=2e-6, rtol=1e-6)


def test_without_reference_the_gate_is_idle() -> None:
    given = conditions(reference=False)
    torch.testing.assert_close(picture(Answers(0.25, 1.0), given), given.draft + 0.25, atol=2e-6, rtol=1e-6)


def test_change_and_gate_add_up() -> None:
    given = conditions(reference=True)
    assert given.reference is not None
    expected = given.draft + 0.25 + 0.5 * (given.reference - given.draft)
    torch.testing.assert_close(picture(Answers(0.25, 0.5), given), expected, atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("said", "gate", "change"),
    # a change of 0.3 goes to what a gate leaves of the draft: 0.6, 0.2, nothing
    [(0.4, 0.4, 0.18), (0.8, 0.8, 0.06), (1.6, 1.0, 0.0)],
)
def test_a_held_gate_shares_the_draft(said: float, gate: float, change: float) -> None:
    given = conditions(reference=True)
    assert given.reference is not None
    model: Any = Answers(0.3, said)
    noisy, sigma = torch.randn(2, N, C, generator=torch.Generator().manual_seed(1)), torch.ones(2)
    answer = call(model, noisy, sigma, given, "none")
    found, gates = GateHead().read(answer, noisy, sigma, given, sampling=True)
    assert gates is not None
    torch.testing.assert_close(gates, torch.full_like(gates, gate))
    expected = given.draft + change + gate * (given.reference - given.draft)
    torch.testing.assert_close(noisy - found, expected, atol=2e-6, rtol=1e-6)


def test_an_evened_gate_is_a_mean() -> None:
    field = torch.rand(1, 16, 12, 8, generator=torch.Generator().manual_seed(0))
    even = unpack(even_gate(pack(field), (12, 8), 1), 12, 8)
    assert even.shape == field.shape
    torch.testing.assert_close(even[0, 3, 5, 4], field[0, 3, 4:7, 3:6].mean())
    flat = torch.full((1, 24, 64), 0.3)
    torch.testing.assert_close(even_gate(flat, (12, 8)), flat)


def test_another_grid_cannot_be_blended() -> None:
    given = conditions(reference=True)
    odd = SimpleNamespace(**{name: getattr(given, name) for name in Conditions.__slots__})
    odd.reference_size = (8, 2)
    with pytest.raises(AssertionError, match="grid"):
        picture(Answers(0.0, 1.0), odd)  # type: ignore[arg-type]

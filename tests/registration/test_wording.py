"""Exchange or repair, by the words: prompts that a language model wrote, which had seen none of the suites'."""

from __future__ import annotations

from pathlib import Path

import pytest

from refbench.registration.wording import asks_exchange

WRITTEN = Path(__file__).parent / "wording"


@pytest.mark.parametrize("prompt", [
    "Replace the label by the reference's.", "Change the word to MINT.", "The door should read 'MINT'.",
    "Please write MINT on the box.", "The cup ought to carry the pattern of the reference.",
    "wrong car. I want the blue hatchback there", "Pattern change: camouflage out, tartan in.",
    "the poster on the wall has to be the jazz festival one, not the movie one",
    "Swap the broken sign for the one in the reference.",
    "The label was replaced badly; replace it by the reference's.",
])  # fmt: skip
def test_prompts_that_ask_for_other_content(prompt: str) -> None:
    assert asks_exchange(prompt)


@pytest.mark.parametrize("prompt", [
    "Repair the letters; the reference shows them clearly.", "The print is damaged. Restore it.",
    "Sharpen up what was written on the door.", "Make the words that the sign shows legible again.", "",
    "letters are wrong, use the reference", "give the mug its handle back, it got smeared",
    "Make the print on the door look as it does in the reference.", "Do not replace the logo, only repair it.",
    "Please don't swap the label; mend the letters.", "Restore the print that was replaced by the factory.",
    "Replace the missing pixels.",
])  # fmt: skip
def test_a_prompt_for_repair_does_not(prompt: str) -> None:
    assert not asks_exchange(prompt)


@pytest.mark.parametrize(("name", "least", "most"), [
    ("exchange", 67, 80), ("repair", 0, 3), ("exchange-held-out", 60, 80), ("repair-held-out", 0, 2),
])  # fmt: skip
def test_most_written_prompts_are_understood(name: str, least: int, most: int) -> None:
    """Of 80 each; the rule was written for the first two and not for what was held out, where the one before it had
    27 and 0."""
    prompts = (WRITTEN / f"{name}.txt").read_text().splitlines()
    assert len(prompts) == 80
    assert least <= sum(map(asks_exchange, prompts)) <= most

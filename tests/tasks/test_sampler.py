"""The on-the-fly sampler: exact outside the mask, seeded, aligned at 0 and not at 1."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refbench.errors import RefbenchError
from refbench.tasks import degradations, lettering
from refbench.tasks.sampler import QuadrupletSampler


def _sampler(assets: Path, seed: int = 0, **options: float) -> QuadrupletSampler:
    return QuadrupletSampler(assets, 64, "cpu", torch.Generator().manual_seed(seed), **options)  # type: ignore[arg-type]


def test_batch_has_promised_shapes_and_ranges(assets: Path) -> None:
    batch = _sampler(assets).batch(12, 1.0)
    assert set(batch) == {"draft", "reference", "target", "mask"}
    for name, picture in batch.items():
        assert picture.shape == (12, 1 if name == "mask" else 3, 64, 64)
        assert picture.dtype == torch.float32
        assert picture.min() >= 0
        assert picture.max() <= 1
        assert bool(torch.isfinite(picture).all())
    assert set(batch["mask"].unique().tolist()) == {0.0, 1.0}
    assert bool((batch["mask"].mean(dim=(1, 2, 3)) >= 0.01).all())


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_draft_is_target_outside_the_mask(assets: Path, level: float) -> None:
    batch = _sampler(assets, 1).batch(32, level)
    gap = (batch["draft"] - batch["target"]).abs()
    assert float((gap * (1 - batch["mask"])).max()) == 0
    inside = (gap * batch["mask"]).sum(dim=(1, 2, 3)) / (3 * batch["mask"].sum(dim=(1, 2, 3)))
    assert float((inside > 0.005).float().mean()) > 0.9


def test_reference_departs_with_misalignment(assets: Path) -> None:
    errors = []
    for level in (0.0, 0.3, 1.0):
        batch = _sampler(assets, 2).batch(48, level)
        errors.append(float((batch["reference"] - batch["target"]).abs().mean()))
    assert errors[0] < 1e-5
    assert errors[0] < errors[1] < errors[2]
    assert errors[2] > 0.1


def test_misalignment_is_per_sample(assets: Path) -> None:
    level = torch.tensor([0.0, 1.0]).repeat(8)
    batch = _sampler(assets, 3).batch(16, level)
    gap = (batch["reference"] - batch["target"]).abs().mean(dim=(1, 2, 3))
    assert float(gap[0::2].max()) < 1e-5
    assert float(gap[1::2].min()) > 0.005


def test_equal_seeds_give_equal_batches(assets: Path) -> None:
    first, again, other = _sampler(assets, 4).batch(8), _sampler(assets, 4).batch(8), _sampler(assets, 5).batch(8)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["target"], other["target"])


def test_new_degradation_leaves_old_batches_alone(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _sampler(assets, 8).batch(24, details=True)
    monkeypatch.setitem(degradations.DEGRADATIONS, "blank", lambda images, strength, generator: images * 0)
    after = _sampler(assets, 8).batch(24, details=True)
    assert all(torch.equal(before[name], after[name]) for name in before)
    monkeypatch.setitem(degradations.FROZEN, 2, ("blank",))
    assert float(_sampler(assets, 8, degradations=2).batch(24)["draft"].min()) < 0.01
    with pytest.raises(RefbenchError, match="version"):
        _sampler(assets, 8, degradations=3)


def test_every_degradation_is_in_frozen_version() -> None:
    """A batch depends on the version's order; what is in none is never trained on."""
    assert set().union(*degradations.FROZEN.values()) == set(degradations.DEGRADATIONS)
    assert degradations.FROZEN[1] == (
        "latent-x2", "latent-x4", "latent-x8", "smear", "melt", "drift", "erase", "jpeg", "regenerate", "hallucinate",
        "wash", "compress", "lose",
    )  # fmt: skip


def test_masks_obey_the_largest_share(assets: Path) -> None:
    batch = _sampler(assets, 6, reach=(0.22, 0.56), most=0.33).batch(64)  # type: ignore[arg-type]
    assert float(batch["mask"].mean(dim=(1, 2, 3)).max()) <= 0.35


def test_details_say_what_was_made(assets: Path) -> None:
    made = _sampler(assets, 7).batch(40, details=True)
    assert {"kind", "fault", "degradation", "strength", "mask_kind", "source"} <= set(made)
    assert all(len(made[name]) == 40 for name in made)
    assert set(made["kind"][20:].tolist()) == {3}
    assert set(made["kind"][:20].tolist()) <= {-1, 0, 1, 2}
    clean = (made["fault"] == 0) & (made["degradation"] < 0)
    assert not bool(clean.any())


def test_followed_window_stays_on_its_content(assets: Path) -> None:
    """The clips move 8 px a frame and the stored flow says so: the middle of the window must move as far."""
    clips = _sampler(assets)._clips
    zero = torch.zeros(1, dtype=torch.long)
    moved = clips.follow(zero, zero, zero + 2, torch.zeros(1, 2))
    assert moved[0, 0].item() == pytest.approx(-2 * 8 * 2 / 192, abs=1e-6)
    assert moved[0, 1].item() == 0
    back = clips.follow(zero, zero + 2, zero, moved)
    assert back[0, 0].item() == pytest.approx(0, abs=1e-6)


def test_a_folder_without_assets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="refbench tasks assets"):
        QuadrupletSampler(tmp_path, 64)


def test_garbling_changes_letters_and_keeps_layout() -> None:
    generator = torch.Generator().manual_seed(0)
    atlas = torch.rand(2, len(lettering.CHARACTERS), 32, 32, generator=generator)
    texts = lettering.random_texts(64, 2, generator, torch.device("cpu"))
    wrong, tiles, squeeze = lettering.garble(texts, atlas, torch.full((64,), 0.6), generator)
    there = texts.characters >= 0
    assert torch.equal(there, wrong.characters >= 0)
    changed = (wrong.characters != texts.characters)[there].float().mean()
    assert 0.5 < float(changed) < 0.75
    assert bool((wrong.characters[:, 0, 0] != texts.characters[:, 0, 0]).all())
    assert tiles.shape == (*texts.characters.shape, 32, 32)
    assert 0.69 <= float(squeeze.min()) <= 1 == float(squeeze.max())
    same_case = torch.div(wrong.characters[there].clamp(max=51), 26, rounding_mode="floor")
    assert torch.equal(same_case, torch.div(texts.characters[there].clamp(max=51), 26, rounding_mode="floor"))


def test_letters_stand_where_advances_put_them() -> None:
    """Two full tiles of advance 20 in one line: ink from the left pad to the right pad and nothing beyond."""
    atlas = torch.ones(1, len(lettering.CHARACTERS), 32, 32)
    advances = torch.full((1, len(lettering.CHARACTERS)), 20.0)
    characters = torch.full((1, lettering.LINES, lettering.COLUMNS), -1)
    characters[0, 0, :2] = 5
    cover, aspect = lettering.typeset(
        lettering.Texts(torch.zeros(1, dtype=torch.long), characters), atlas, advances, 56
    )
    width = 40 + 2 * 8
    assert aspect.item() == pytest.approx(width / (32 * 0.92 + 8))
    ink = torch.nonzero(cover[0, 0, 28] > 0.5).flatten()
    assert ink.min().item() == 8
    assert ink.max().item() == 47

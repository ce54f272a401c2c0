"""Sources: the catalogue, credits, the split by group, and unpacking of Qt resources."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from refbench.errors import RefbenchError
from refbench.tasks.fetching import unpack_rcc
from refbench.tasks.sources import Sources, catalogue, credit, group_of, recipe_assets, split_of
from refbench.tasks.training_assets import steady


def test_catalogue_licences_allow_passing_on() -> None:
    licences = {asset.licence for asset in catalogue().values()}
    assert licences <= {"MIT", "Public domain", "CC0-1.0", "CC-BY-4.0", "CC-BY-3.0", "CC-BY-2.0", "BSD-3-Clause"}
    assert all(asset.author and asset.sha256 and asset.width > 0 for asset in catalogue().values())


def test_variants_share_group_and_split() -> None:
    assert group_of("emoji:1f9d7-1f3fd") == group_of("emoji:1f9d7-1f3fb")
    assert group_of("logo:adonisjs-icon") == group_of("logo:adonisjs")
    by_group: dict[str, set[str]] = {}
    for asset in catalogue():
        by_group.setdefault(group_of(asset), set()).add(split_of(asset))
    assert all(len(splits) == 1 for splits in by_group.values())


def test_assets_are_found_at_any_depth() -> None:
    recipe = {"target": {"asset": "C012"}, "print": {"type": "text", "font": "lato"}, "wrong": {"asset": "emoji:1f40b"}}
    assert recipe_assets(recipe) == {"C012", "font:lato", "emoji:1f40b"}


def test_credits_name_each_licence_once() -> None:
    licence, author, source = credit(["C012", "C013", "logo:gopher"])
    assert licence == "MIT AND CC0-1.0"
    assert "trademark" in author
    assert source.count("comfyui-workflow-templates") == 2


def test_unknown_assets_and_missing_folders_refused(tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="catalogue"):
        group_of("C999")
    with pytest.raises(RefbenchError, match="refbench tasks fetch"):
        Sources(tmp_path)


def _rcc(name: str, content: bytes, packed: bool) -> bytes:
    """A Qt resource file of format 1 with one file in the root folder."""
    body = struct.pack(">I", len(content)) + zlib.compress(content) if packed else content
    payload = struct.pack(">I", len(body)) + body
    names = struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    tree = struct.pack(">IHII", 0, 2, 1, 1) + struct.pack(">IHHHI", 0, 1 if packed else 0, 0, 0, 0)
    head = 20
    offsets = (head + len(payload) + len(names), head, head + len(payload))
    return b"qres" + struct.pack(">IIII", 1, *offsets) + payload + names + tree


@pytest.mark.parametrize("packed", [True, False])
def test_qt_resources_unpack_to_their_bytes(tmp_path: Path, packed: bool) -> None:
    (tmp_path / "a.rcc").write_bytes(_rcc("photo.webp", b"some bytes" * 50, packed))
    assert unpack_rcc(tmp_path / "a.rcc", tmp_path / "out") == 1
    assert (tmp_path / "out" / "photo.webp").read_bytes() == b"some bytes" * 50


def test_resources_leaving_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "evil.rcc").write_bytes(_rcc("../evil", b"x", False))
    with pytest.raises(RefbenchError, match="unsafe"):
        unpack_rcc(tmp_path / "evil.rcc", tmp_path / "out")
    (tmp_path / "text.rcc").write_bytes(b"hello")
    with pytest.raises(RefbenchError, match="qres"):
        unpack_rcc(tmp_path / "text.rcc", tmp_path / "out")


def test_clip_is_cut_where_it_jumps() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 255, (64, 64, 3), np.uint8), np.full((64, 64, 3), 250, np.uint8)]
    clip = [np.roll(scenes[0], k, axis=1) for k in range(4)] + [scenes[1]] * 9
    assert steady(clip) == (4, 13)

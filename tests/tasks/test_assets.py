"""Preparing assets: the same file after a stop, told from the start, wrong input told first; fetching likewise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refbench.cli.main import main
from refbench.errors import RefbenchError
from refbench.tasks import fetching, training_assets
from refbench.tasks.prints import pattern_print
from refbench.tasks.sources import catalogue


class Drawn:
    """Sources made of drawn pictures; `stop` interrupts at that many of them."""

    stop = 10**9

    def __init__(self, root: str | Path) -> None:
        self.root, self.asked = Path(root), 0

    def _count(self) -> None:
        self.asked += 1
        if self.asked > Drawn.stop:
            raise KeyboardInterrupt

    def font(self, name: str) -> Path:
        import matplotlib

        return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"

    def emoji_names(self) -> list[str]:
        return ["1f93f", "1f40a"]

    def logo_names(self) -> list[str]:
        return ["wide", "square"]

    def emoji(self, name: str) -> Any:
        self._count()
        return pattern_print("dots", 3, 64)

    def logo(self, name: str, size: int) -> Any:
        self._count()
        return np.zeros((8, 80, 4), np.uint8) if name == "wide" else pattern_print("dots", 4, 64)

    def frames(self, asset: str, indices: Any = (0,)) -> list[Any]:
        self._count()
        wide = pattern_print("dots", 5, 400)[..., :3]
        return [np.ascontiguousarray(wide[:200, 5 * k : 5 * k + 200]) for k in range(len(list(indices)))]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> type[Drawn]:
    known = list(catalogue().values())
    few = [a for a in known if a.frames >= 12][:3] + [a for a in known if a.frames == 1][:3]
    monkeypatch.setattr(training_assets, "Sources", Drawn)
    monkeypatch.setattr(training_assets, "catalogue", lambda: {a.id: a for a in few})
    monkeypatch.setattr(training_assets, "check_resvg", lambda: None)
    monkeypatch.setattr(training_assets, "split_of", lambda asset: "train")
    monkeypatch.setattr(training_assets, "FONTS", {"one": ("", "", "train")})
    monkeypatch.setattr(Drawn, "stop", 10**9)
    return Drawn


def test_stopped_assets_end_as_same_file(drawn: type[Drawn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    whole = training_assets.prepare_training_assets("s", tmp_path / "a", progress=lambda *what: told.append(what))
    assert told[0] == ("fonts", 0, 1)
    assert {what for what, _, _ in told} == {"fonts", "prints", "clips", "surfaces"}
    monkeypatch.setattr(Drawn, "stop", 5)
    stops = 0
    while True:
        try:
            made = training_assets.prepare_training_assets("s", tmp_path / "b")
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 1
    assert made.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["README.md", "assets.npz"]


def test_assets_print_json(drawn: type[Drawn], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "assets", "--out", str(tmp_path), "--sources", "s", "--json"]) == 0
    done = capsys.readouterr()
    path = tmp_path / "assets.npz"
    assert json.loads(done.out) == {"assets": str(path), "split": "train", "bytes": path.stat().st_size}
    assert done.err.startswith("fonts: 0/1")


@pytest.mark.parametrize(("wrong", "told"), [({"budget_mb": 0}, "--budget-mb"), ({"budget_mb": 1e12}, "free disk")])
def test_wrong_input_is_told_first(drawn: type[Drawn], wrong: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match=told):
        training_assets.prepare_training_assets("s", tmp_path, **wrong)


def test_fetching_tells_what_is_missing_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(fetching, "_run", lambda *command: ran.append(command))
    monkeypatch.setattr("shutil.which", lambda name: None if name == "zstd" else name)
    with pytest.raises(RefbenchError, match="'zstd'"):
        fetching.fetch(tmp_path)
    assert ran == []


def test_fetched_is_told_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [tmp_path / package.place for package in fetching._packages()]
    for place in places:
        place.mkdir(parents=True)
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(fetching, "_whole", lambda place, unpack: place.mkdir())
    fetching.fetch(tmp_path, lambda *what: told.append(what))
    total = len(places) + 1
    assert told[0] == ("gcompris", total - 1, total)
    assert told[-1] == ("gcompris", total, total)


def test_a_damaged_download_is_deleted(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "x.whl"
    path.write_bytes(b"PK cut")
    with pytest.raises(RefbenchError, match="fetch again"), fetching._opened(path, zipfile.ZipFile):
        pass
    assert not path.exists()

"""Several passes: each on the output of the one before, a run a pass; what failed in one has no next."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import adapter_file, tiny

from refbench.adapters.contract import Account
from refbench.adapters.web.ledger import Ledger
from refbench.cli.main import main
from refbench.errors import RefbenchError
from refbench.images import load_image, save_png
from refbench.runs.api import evaluate, generate_only
from refbench.runs.folder import RESPONSES, RunFolder
from refbench.runs.passes import chain, left_to_spend
from refbench.runs.plan import RunOptions

DARKER = "return np.where(inputs.mask[..., None], inputs.draft // 2, inputs.draft)"
"""Halves the masked levels at each pass."""
SUITE = tiny(4)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def output(folder: Path, sample: str) -> np.ndarray:
    return load_image(RunFolder(folder).output(SUITE.sample(sample).meta.task, sample))


def records(folder: Path) -> dict[str, dict[str, object]]:
    return {row["id"]: row for row in map(json.loads, (folder / "records.jsonl").read_text().splitlines())}


def test_each_pass_refines_output_of_one_before(here: Path) -> None:
    last, failed = generate_only(adapter_file(here, DARKER), SUITE.folder, passes=3)
    assert failed == []
    assert {path.name for path in last.parent.iterdir()} == {"model", "model+pass-2", "model+pass-3"}
    assert last.name == "model+pass-3"
    for sample in SUITE:
        for number, name in enumerate(("model", "model+pass-2", "model+pass-3"), 1):
            wanted = np.where(sample.mask[..., None], sample.draft // 2**number, sample.draft)
            assert np.array_equal(output(last.parent / name, sample.id), wanted)
    arguments = json.loads((last / "manifest.json").read_text())["arguments"]
    assert (arguments["passes"], arguments["drafts"]) == (3, "model+pass-2")
    assert "passes" not in json.loads((last.parent / "model" / "manifest.json").read_text())["arguments"]


def test_table_shows_what_passes_do(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = adapter_file(here, DARKER)
    command = ["eval", "-m", str(model), "-s", str(SUITE.folder), "--limit", "2", "--out", "run", "--passes", "2"]
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [Path(one["run"]).name for one in data["passes"]] == ["run+pass-1", "run"]
    assert data["passes"][1]["mean"] == data["mean"]
    assert data["passes"][0]["pixel_fidelity"]["value"] > data["pixel_fidelity"]["value"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    (head,) = (number for number, line in enumerate(lines) if "each pass on the one before" in line)
    assert lines[head + 2].split() == ["score", "texture", "alignment", "consistency", "pixel"]
    for one, line in zip(data["passes"], (line for line in lines if line.strip().startswith("pass ")), strict=True):
        assert f"{one['mean']['value'] + 0.0:.1f}" in line
    assert max(len(line) for line in lines[head : head + 7]) <= 80


def test_finished_pass_is_kept(here: Path) -> None:
    model = adapter_file(here, DARKER)
    first, _ = generate_only(model, SUITE.folder)
    before = (first / "records.jsonl").read_bytes()
    second, _ = generate_only(model, SUITE.folder, passes=2)
    assert (first / "records.jsonl").read_bytes() == before
    with pytest.raises(RefbenchError, match="the same pass as asked for now"):
        generate_only(model, SUITE.folder, out=second)


def test_failed_sample_has_no_next_pass(here: Path) -> None:
    lost = SUITE.ids[1]
    model = adapter_file(here, f"assert os.path.exists({str(here / 'mended')!r}) or inputs.id != {lost!r}\n{DARKER}")
    last, failed = generate_only(model, SUITE.folder, passes=2)
    assert [(record.id, record.error) for record in failed] == [(lost, "The pass before has no output.")]
    (here / "mended").touch()
    generate_only(model, SUITE.folder, retry_failed=True)
    _, failed = generate_only(model, SUITE.folder, passes=2)  # another draft: asked for again without --retry-failed
    assert failed == []
    assert len((last / "records.jsonl").read_text().splitlines()) == len(SUITE) + 1
    sample = SUITE.sample(lost)
    assert np.array_equal(output(last, lost)[sample.mask], sample.draft[sample.mask] // 4)
    assert records(last)[lost]["extra"]["draft_sha256"] == records(last.parent / "model")[lost]["sha256"]  # type: ignore[index]


def test_output_that_edited_is_no_draft(here: Path) -> None:
    model = adapter_file(here, DARKER)
    first, _ = generate_only(model, SUITE.folder)
    path = next((first / "outputs").rglob("*.png"))
    save_png(path, 255 - load_image(path))
    with pytest.raises(RefbenchError, match=r"pass before as it was recorded.*has changed"):
        generate_only(model, SUITE.folder, passes=2)


def test_passes_without_a_meaning_are_refused(here: Path) -> None:
    save_png(here / "pngs" / f"{SUITE.ids[0]}.png", SUITE.sample(SUITE.ids[0]).draft)
    with pytest.raises(RefbenchError, match="folder of PNGs; leave --passes out"):
        evaluate(here / "pngs", SUITE.folder, passes=2)
    with pytest.raises(RefbenchError, match="Expected 1 pass or more, but 0 came"):
        evaluate("identity", SUITE.folder, passes=0)


def test_limit_of_cost_is_for_all_passes(here: Path) -> None:
    ledger = Ledger(Account(here / "first" / RESPONSES, 5.0))
    ledger.settle(ledger.reserve(1.0, "a-000", "key"), 0.75)
    assert left_to_spend(2.0, [RunFolder(here / "first"), RunFolder(here / "no-answers")]) == 1.25
    assert left_to_spend(0.5, [RunFolder(here / "first")]) == 0.0
    assert left_to_spend(None, [RunFolder(here / "first")]) is None
    assert left_to_spend(-1.0, []) == -1.0  # refused where the limit is checked


def test_places_of_passes_lie_side_by_side(here: Path) -> None:
    runs = chain(RunOptions("identity", "tiny", passes=3), SUITE, "a/run")
    assert [folder.path.name for _, folder in runs] == ["run+pass-1", "run+pass-2", "run"]
    assert [request.drafts for request, _ in runs] == [None, "run+pass-1", "run+pass-2"]
    assert len({folder.path.resolve().parent for _, folder in runs}) == 1

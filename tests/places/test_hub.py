"""Runs, entries and suites go to a stand-in of the hub and come back, by huggingface_hub's own client."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tiny import adapter_file, write_tiny

import refbench
from places.hub import TOKEN, Hub, serving
from refbench.errors import RefbenchError
from refbench.places.hub import write
from refbench.places.packing import pack

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = Path(__file__).parent / "examples"
ENTRY = ROOT / "leaderboard" / "entries" / "sharpen"
REPO = "someone/refbench-sharpen"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run and its suite; one of the samples failed, and the error names a folder."""
    folder = tmp_path_factory.mktemp("hub")
    body = "if inputs.id == 'logo-refine-001': raise RuntimeError('no file /home/someone/weights.bin')\n"
    model = adapter_file(folder, body + "return (inputs.draft * 0.5 + 60).astype(np.uint8)")
    suite = write_tiny(folder / "tiny", 4)
    refbench.evaluate(str(model), str(suite), out=folder / "run")
    return folder / "run", suite


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as found:
        yield found


def refbench_at(hub: Hub | None, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    """The command line as a user calls it, at the stand-in instead of the hub."""
    where = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": token} if hub else {}
    environment = {**os.environ, **where, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "refbench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_run_comes_back_to_the_bit(made: tuple[Path, Path], hub: Hub, tmp_path: Path) -> None:
    run, suite = made
    sent = refbench_at(hub, "push", str(run), "--repo", REPO, "--suite", str(suite), "--private", "--json")
    assert sent.returncode == 0, sent.stderr
    told = json.loads(sent.stdout)
    assert (told["kind"], told["repo"]) == ("run", REPO)
    assert told["url"].startswith(f"{hub.url}/datasets/{REPO}/commit/")
    assert hub.requests[0]["visibility"] == "private"
    files = hub.files(f"datasets/{REPO}")
    assert len(files) == told["files"] + 1  # and .gitattributes

    back = tmp_path / "back"
    came = refbench_at(hub, "pull", REPO, "--out", str(back))
    assert came.returncode == 0, came.stderr
    assert "It is a run" in came.stderr
    old, new = hashes(run), hashes(back)
    same = [name for name in new if name not in ("manifest.json", "records.jsonl")]
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    assert set(old) - set(new) <= {".lock"}
    ours, theirs = refbench.load_run(run, suite=suite), refbench.load_run(back, suite=suite)
    assert theirs.numbers == ours.numbers
    assert theirs.recoveries.equals(ours.recoveries)
    again = refbench_at(None, "measure", str(back), "--suite", str(suite), "--json")
    assert again.returncode == 1, again.stderr  # a sample failed
    assert "Nothing to do" in again.stderr


def test_nothing_of_this_machine_is_published(made: tuple[Path, Path]) -> None:
    run, suite = made
    for name, content in pack(run, repo=REPO, suite=suite).files.items():
        if name.endswith((".json", ".jsonl", ".md")):
            text = content if isinstance(content, bytes) else content.read_bytes()
            assert b"/home/someone" not in text, name
            assert str(run.parent).encode() not in text, name


def test_card_says_what_the_summary_says(made: tuple[Path, Path]) -> None:
    run, suite = made
    package = pack(run, repo=REPO, suite=suite)
    card = package.files["README.md"]
    assert isinstance(card, bytes)
    front, text = card.decode().split("---\n", 2)[1:]
    head = yaml.safe_load(front)
    assert {one["data_files"] for one in head["configs"]} <= set(package.files)
    numbers = refbench.load_run(run, suite=suite).numbers
    assert f"| texture fidelity | {numbers.axes['texture_fidelity'].value:.1f}" in text
    assert "4 samples of 2 sources, 1 failed" in text
    for task, row in numbers.tasks.items():
        assert f"| {task} | {row['mean'].value:.1f}" in text
    for name in package.files:
        if name.startswith("card/"):
            assert f"]({name})" in text
    assert any(name.startswith("card/") for name in package.files)


def test_entry_comes_back_whole(hub: Hub, tmp_path: Path) -> None:
    for _ in range(2):
        sent = refbench_at(hub, "push", str(ENTRY), "--repo", REPO)
        assert sent.returncode == 0, sent.stderr
    assert hub.sent == sum(name.endswith((".webp", ".parquet")) for name in hub.files(f"datasets/{REPO}"))
    came = refbench_at(hub, "pull", REPO, "--out", str(tmp_path / "entry"), "--json")
    assert json.loads(came.stdout)["kind"] == "entry"
    assert hashes(tmp_path / "entry") == hashes(ENTRY)


def test_suite_is_benchmark_and_comes_back(made: tuple[Path, Path], hub: Hub, tmp_path: Path) -> None:
    _, suite = made
    sent = refbench_at(hub, "push", str(suite), "--repo", "someone/tiny")
    assert sent.returncode == 0, sent.stderr
    head = yaml.safe_load(hub.files("datasets/someone/tiny")["eval.yaml"])
    assert set(head) == {"name", "description", "evaluation_framework", "tasks"}
    assert [set(task) for task in head["tasks"]] == [{"id", "config", "split"}] * 4
    came = refbench_at(hub, "pull", "someone/tiny", "--out", str(tmp_path / "tiny"))
    assert came.returncode == 0, came.stderr
    assert refbench.load_suite(tmp_path / "tiny").hash == refbench.load_suite(suite).hash


def test_results_of_model_go_into_pull_request(hub: Hub) -> None:
    from huggingface_hub import parse_eval_result_entries

    hub.repos["models/someone/sharpener"] = [{"README.md": b"# A model\n"}]
    options = ("--model", "someone/sharpener", "--benchmark", "someone/core", "--json")
    sent = refbench_at(hub, "push", str(ENTRY), "--repo", REPO, *options)
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["model_url"] == f"{hub.url}/models/someone/sharpener/discussions/1"
    assert hub.files("models/someone/sharpener") == {"README.md": b"# A model\n"}
    (change,) = hub.pulls["models/someone/sharpener"]
    found = parse_eval_result_entries(yaml.safe_load(change[".eval_results/refbench-core.yaml"]))
    claims = pack(ENTRY, repo=REPO).numbers
    assert claims is not None
    assert {one.task_id: one.value for one in found} == {
        "score": round(claims.mean.value or 0, 2),
        **{axis: round(cell.value or 0, 2) for axis, cell in claims.axes.items()},
    }
    assert {one.dataset_id for one in found} == {"someone/core"}
    assert {one.source_url for one in found} == {f"https://huggingface.co/datasets/{REPO}"}


@pytest.mark.parametrize("name", ["README.md", ".eval_results/refbench-core.yaml"])
def test_examples_are_what_is_committed_today(name: str, tmp_path: Path) -> None:
    """`refbench push leaderboard/entries/sharpen --repo ... --benchmark someone/refbench-core --write FOLDER`."""
    write(ENTRY, REPO, tmp_path / "made", benchmark="someone/refbench-core")
    kept = EXAMPLES / name.removeprefix(".")
    assert (tmp_path / "made" / name).read_text() == kept.read_text()


def test_example_of_eval_yaml_is_that_of_core() -> None:
    assert pack("core", repo=REPO).files["eval.yaml"] == (EXAMPLES / "eval.yaml").read_bytes()


def test_damaged_run_is_not_taken(made: tuple[Path, Path], hub: Hub, tmp_path: Path) -> None:
    run, suite = made
    refbench_at(hub, "push", str(run), "--repo", REPO, "--suite", str(suite))
    files = hub.files(f"datasets/{REPO}")
    first, second = [name for name in files if name.startswith("outputs/")][:2]
    files[first] = files[second]
    came = refbench_at(hub, "pull", REPO, "--out", str(tmp_path / "back"))
    assert came.returncode == 2
    assert "outputs that the records name" in " ".join(came.stderr.split())
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("push", str(ENTRY), "--repo", "sharpen"), "Expected an id of the hub, as in OWNER/NAME"),
        (("push", str(ROOT / "docs"), "--repo", REPO), "Expected a run, an entry or a suite"),
        (("push", str(ENTRY), "--repo", REPO, "--model", "a/b"), "Expected --model and --benchmark together"),
        (("pull", "nobody/nothing", "--out", "nowhere"), "404"),
        (("pull", REPO, "--out", str(ROOT)), "Expected a new folder"),
    ],
)
def test_wrong_input_said_in_one_sentence(hub: Hub, arguments: tuple[str, ...], said: str) -> None:
    found = refbench_at(hub, *arguments)
    assert found.returncode == 2
    assert said in " ".join(found.stderr.split())
    assert "Traceback" not in found.stderr


def test_wrong_token_and_no_network_said(hub: Hub) -> None:
    found = refbench_at(hub, "push", str(ENTRY), "--repo", REPO, token="hf_other")
    assert found.returncode == 2
    assert "401" in found.stderr
    assert "hf auth login" in " ".join(found.stderr.split())
    found = refbench_at(None, "push", str(ENTRY), "--repo", REPO)
    assert (found.returncode, "HF_HUB_OFFLINE" in found.stderr) == (2, True)


@pytest.mark.parametrize("command", [("push", str(ENTRY), "--repo", REPO), ("pull", REPO, "--out", "{}/pulled")])
def test_hub_that_does_not_answer_is_one_sentence(command: tuple[str, ...], tmp_path: Path) -> None:
    with socket.socket() as listener:  # bound, and deaf
        listener.bind(("127.0.0.1", 0))
        where = {"HF_ENDPOINT": f"http://127.0.0.1:{listener.getsockname()[1]}", "HF_HUB_OFFLINE": "0", "HF_TOKEN": "x"}
        found = subprocess.run(
            [sys.executable, "-m", "refbench", *(part.format(tmp_path) for part in command)],
            capture_output=True, text=True, env={**os.environ, **where, "HF_HOME": str(tmp_path)},
        )  # fmt: skip
    assert found.returncode == 2
    assert "Expected to reach the hub" in found.stderr, found.stderr


def test_dependent_suite_is_told() -> None:
    with pytest.raises(RefbenchError, match="'mini' takes its samples from 'core'"):
        pack(ROOT / "tasks" / "mini", repo="someone/mini")


def test_part_of_suite_is_no_result_of_model(made: tuple[Path, Path], tmp_path: Path) -> None:
    _, suite = made
    refbench.evaluate("identity", str(suite), out=tmp_path / "run", limit=2)
    with pytest.raises(RefbenchError, match="over all of 'tiny'"):
        write(tmp_path / "run", REPO, tmp_path / "made", suite=suite, benchmark="someone/tiny")


def test_board_of_space_is_whole_by_itself() -> None:
    front = (ROOT / "spaces" / "board" / "README.md").read_text(encoding="utf-8").split("---")[1]
    head = yaml.safe_load(front)
    assert (head["sdk"], head["app_file"]) == ("static", "index.html")
    assert sorted(path.name for path in (ROOT / "spaces" / "board").iterdir() if path.name != "index.html") == [
        "README.md"
    ]
    page = (ROOT / "leaderboard" / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert [link for link in links if not link.startswith(("https://", "data:", "#"))] == []

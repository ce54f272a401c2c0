"""Suites and run folders at addresses: what fsspec opens, with nothing asked of it but whole files and lists."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import fsspec
import pytest
from tiny import NOISE, adapter_file, manifest, write_tiny

from refbench.errors import RefbenchError
from refbench.results.run import load_run
from refbench.runs import folder as folders
from refbench.runs.api import evaluate, generate_only, score
from refbench.runs.folder import RunFolder
from refbench.runs.storage import Remote, is_address, joined
from refbench.runs.suites import open_suite, recorded
from refbench.schema import SampleRecord

from .plainfs import PlainFileSystem, register

register()


@pytest.fixture(autouse=True)
def few_metrics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from refbench.metrics import registry
    from refbench.registry import Registry

    keep = ("psnr", "ssim", "palette", "background_mse", "seam")
    monkeypatch.setattr(registry, "METRICS", Registry("metric", {name: registry.METRICS[name] for name in keep}))
    monkeypatch.setattr("refbench.runs.health.doctor_result", lambda cards, device: {})
    monkeypatch.setenv("REFBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_tiny(tmp_path / "tiny", 4)
    adapter_file(tmp_path, NOISE)
    return tmp_path


def record(sample: str) -> SampleRecord:
    return SampleRecord(id=sample, task="a", status="failed", error="none", seconds=0.1)


@pytest.mark.parametrize("scheme", ["plain", "file", "memory"])
def test_run_at_address_run_on_disk(place: Path, scheme: str) -> None:
    root = "memory://runs" if scheme == "memory" else f"{scheme}://{place}/remote"
    local = evaluate(place / "model.py", place / "tiny", out=place / "local")
    remote = evaluate(place / "model.py", place / "tiny", out=f"{root}/run")
    assert remote.folder == f"{root}/run"
    here, there = RunFolder(place / "local").storage, RunFolder(f"{root}/run").storage
    assert there.names() == here.names()
    for name in here.names() - {"manifest.json", "records.jsonl", "summary.json"}:
        assert there.read(name) == here.read(name), name
    assert remote.summary.numbers == local.summary.numbers
    assert not evaluate(place / "model.py", place / "tiny", out=f"{root}/run").fresh
    assert load_run(f"{root}/run").samples.equals(load_run(place / "local").samples)
    assert not score(f"{root}/run").fresh


def test_address_needs_whole_files_only(place: Path) -> None:
    PlainFileSystem.log.clear()
    generate_only(place / "model.py", place / "tiny", out=f"plain://{place}/remote/run")
    written = [path for mode, path in PlainFileSystem.log if mode == "wb"]
    assert len([path for path in written if path.endswith(".png")]) == 4
    outputs = {path.partition("/run/")[2] for path in written if path.endswith(".png")}
    assert RunFolder(f"plain://{place}/remote/run").storage.names() == outputs | {"manifest.json", "records.jsonl"}


def test_suite_at_address_is_copied_once(place: Path) -> None:
    fsspec.filesystem("memory").put(str(place / "tiny"), "/suites/tiny", recursive=True)
    found = open_suite("memory://suites/tiny")
    assert found.hash == open_suite(place / "tiny").hash
    before = (found.folder / "suite.json").parent.stat().st_ino
    assert open_suite("memory://suites/tiny/").folder.stat().st_ino == before
    run = generate_only(place / "model.py", "memory://suites/tiny", out=place / "run")[0]
    assert RunFolder(run).read_manifest().arguments["suite"] == "memory://suites/tiny"
    assert score(run).summary.numbers["samples"] == 4
    assert recorded("memory://suites/tiny/") == "memory://suites/tiny"


def test_torn_suite_is_one_sentence(place: Path) -> None:
    with pytest.raises(RefbenchError, match=r"Expected a suite folder at memory://nothing/here"):
        open_suite("memory://nothing/here")
    memory = fsspec.filesystem("memory")
    memory.put(str(place / "tiny"), "/torn/tiny", recursive=True)
    memory.pipe_file("/torn/tiny/logo-refine/data.parquet", b"half")
    with pytest.raises(RefbenchError, match=r"logo-refine/data\.parquet as suite\.json records it"):
        open_suite("memory://torn/tiny")


def test_unknown_scheme_is_one_sentence() -> None:
    with pytest.raises(RefbenchError, match=r"s3"):
        RunFolder("s3://bucket/run")
    with pytest.raises(RefbenchError, match=r"Protocol not known"):
        RunFolder("nowhere://bucket/run")


def test_records_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "FLUSH_LINES", 2)
    monkeypatch.setattr(folders, "FLUSH_S", 1e9)
    run = RunFolder(f"plain://{tmp_path}/run")
    with run.locked():
        run.write_manifest(manifest())
        for name in ("a-000", "a-001", "a-002"):
            run.append_record(record(name))
        parts = sorted((tmp_path / "run" / "records").iterdir())
        assert [len(part.read_bytes().splitlines()) for part in parts] == [2]
        assert list(run.read_records()) == ["a-000", "a-001", "a-002"]
        parts[0].write_bytes(parts[0].read_bytes() + b'{"id": "a-0')  # a file system that tears a file
        assert list(RunFolder(f"plain://{tmp_path}/run").read_records()) == ["a-000", "a-001"]
    assert list(run.read_records()) == ["a-000", "a-001", "a-002"]
    assert not RunFolder(run.place).storage.names("records")


def test_kill_between_two_writes_made_good(tmp_path: Path) -> None:
    storage = Remote(f"plain://{tmp_path}/run")
    storage.write("manifest.json", b"old")
    new, torn = b"new content", b"torn content"
    import hashlib

    (tmp_path / "run" / f".manifest.json.{hashlib.sha256(new).hexdigest()[:16]}").write_bytes(new)
    (tmp_path / "run" / "manifest.json").write_bytes(b"ne")
    (tmp_path / "run" / f".scores.parquet.{hashlib.sha256(torn).hexdigest()[:16]}").write_bytes(torn[:4])
    storage.recovered()
    assert storage.read("manifest.json") == new
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["manifest.json"]


def test_two_writers_do_not_meet_at_address(tmp_path: Path) -> None:
    run = RunFolder(f"plain://{tmp_path}/run")
    with run.locked(), pytest.raises(RefbenchError, match="Expected to be alone"), RunFolder(run.place).locked():
        pass
    note = {"host": socket.gethostname(), "pid": 2**22 + 1, "token": "x", "time": time.time()}
    run.storage.once("writer.json", json.dumps(note).encode())
    with run.locked():  # that process is gone
        pass
    run.storage.once("writer.json", json.dumps({**note, "host": "other"}).encode())
    with pytest.raises(RefbenchError, match="a refbench on other wrote there"), run.locked():
        pass
    run.storage.once("writer.json", json.dumps({**note, "host": "other", "time": time.time() - 61}).encode())
    with run.locked():
        pass


def test_other_files_at_address_are_no_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RefbenchError, match="other files are there"):
        RunFolder(f"plain://{tmp_path}").exists()
    with pytest.raises(RefbenchError, match="is an address; copy it here"):
        RunFolder("memory://run").path  # noqa: B018 - asking is what fails


def test_names_below_address_and_path() -> None:
    assert is_address("s3://bucket/run")
    assert not is_address("runs/core")
    assert joined("s3://bucket/runs/", "model") == "s3://bucket/runs/model"
    assert RunFolder("memory://runs/last").beside("last+pass-1").place == "memory://runs/last+pass-1"

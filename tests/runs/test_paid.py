"""Runs that cost money: stopped in time, resumed without paying twice, refusals counted apart, no key in any file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapters.image_service import KEY, Service, serving
from tiny import write_tiny

from refbench.adapters.web.ledger import spent
from refbench.cli.main import main
from refbench.errors import RefbenchError
from refbench.runs.api import generate_only
from refbench.runs.folder import RunFolder

MODEL = """
import dataclasses

from refbench.adapters.web.services import Seedream


class Small(Seedream):
    def __init__(self, **options):
        super().__init__(**options)
        self.options = dataclasses.replace(self.options, size=96)

    def size(self, size):
        return size
"""
"""The service at a size that is encoded in no time; the rest is the model itself."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("ARK_API_KEY", KEY)
    with serving("ark") as found:
        yield found


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "small.py").write_text(MODEL)
    return write_tiny(tmp_path / "tiny", 4)


def run(service: Service, suite: Path, **options: Any) -> tuple[Path, list[Any]]:
    place = options.pop("out", suite.parent / "run")
    given = {"base_url": service.url, "requests_per_minute": 0}
    return generate_only(suite.parent / "small.py:Small", suite, out=place, options=given, **options)


def test_run_stops_before_its_limit(service: Service, suite: Path) -> None:
    with pytest.raises(RefbenchError, match=r"\$0.0600 of --max-cost \$0.08 is spent"):
        run(service, suite, max_cost_usd=0.08)
    folder = RunFolder(suite.parent / "run")
    assert len(service.seen) == 2
    assert [record.status for record in folder.read_records().values()] == ["ok", "ok"]
    _, failed = run(service, suite, max_cost_usd=1.0)
    assert failed == []
    assert len(service.seen) == 4
    records = folder.read_records()
    assert sum(record.extra["price_usd"] for record in records.values()) == pytest.approx(0.12)
    assert spent(folder.path / "responses") == pytest.approx(0.12)


def test_workers_share_one_budget(service: Service, suite: Path) -> None:
    with pytest.raises(RefbenchError, match="--max-cost"):
        run(service, suite, max_cost_usd=0.095, workers=2)
    assert len(service.seen) == 3


def test_lost_record_costs_nothing_again(service: Service, suite: Path) -> None:
    path, _ = run(service, suite)
    before = {p.name: p.read_bytes() for p in path.rglob("*.png")}
    records = (path / "records.jsonl").read_bytes().splitlines(keepends=True)
    (path / "records.jsonl").write_bytes(b"".join(records[:1]))
    run(service, suite)
    assert len(service.seen) == 4
    assert {p.name: p.read_bytes() for p in path.rglob("*.png")} == before
    assert spent(path / "responses") == pytest.approx(0.12)


def test_killed_run_pays_nothing_twice(service: Service, suite: Path) -> None:
    code = (
        "import sys; from refbench.runs.api import generate_only\n"
        f"generate_only({str(suite.parent / 'small.py:Small')!r}, {str(suite)!r}, out={str(suite.parent / 'run')!r}, "
        f"options={{'base_url': {service.url!r}, 'requests_per_minute': 0}})"
    )
    service.faults.extend([None, None, "slow"])
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ}, start_new_session=True)
    folder = suite.parent / "run" / "responses"
    limit = time.monotonic() + 60
    while len(service.seen) < 3 and time.monotonic() < limit:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    had = len(list(folder.glob("*.json"))) - (folder / "pace.json").exists()
    assert had == 2
    service.faults.clear()
    run(service, suite)
    assert len(service.seen) - 3 == 4 - had
    # the request in flight may have been paid for, so the ledger still counts it; the records name what was received
    assert spent(folder) == pytest.approx(0.15)


def test_refusal_is_a_status(service: Service, suite: Path) -> None:
    service.faults.extend([None, "refuse", 400])
    path, failed = run(service, suite)
    assert [record.status for record in RunFolder(path).read_records().values()] == ["ok", "refused", "failed", "ok"]
    assert [record.extra["failure"] for record in failed] == ["refused", "error"]
    run(service, suite)
    assert len(service.seen) == 4
    _, failed = run(service, suite, retry_failed=True)
    assert failed == []
    assert len(service.seen) == 6


def test_wrong_key_stops_run_at_its_first_sample(
    service: Service, suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARK_API_KEY", "sk-wrong-88d2")
    with pytest.raises(RefbenchError, match="does not accept the key in ARK_API_KEY") as caught:
        run(service, suite)
    assert "sk-wrong" not in str(caught.value)
    assert len(service.times) == 1
    assert RunFolder(suite.parent / "run").read_records() == {}
    monkeypatch.setenv("ARK_API_KEY", KEY)
    run(service, suite)
    assert len(RunFolder(suite.parent / "run").read_records()) == 4


@pytest.mark.parametrize("key", [KEY, "sk-wrong-99e3"])
def test_key_is_in_no_file_and_no_output(
    service: Service, suite: Path, key: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARK_API_KEY", key)
    service.faults.extend([None, "refuse", 400, "malformed", 500])  # the server repeats the key in its errors
    here = suite.parent
    options = ["-o", f"base_url={service.url}", "-o", "requests_per_minute=0"]
    command = ["eval", "-m", str(here / "small.py:Small"), "-s", str(suite), "--out", str(here / "run"), *options]
    code = main([*command, "--max-cost", "5"])
    assert code == (1 if key == KEY else 2)
    said = capfd.readouterr()
    files = [path for path in (here / "run").rglob("*") if path.is_file()]
    assert (here / "run" / "manifest.json") in files
    assert len(files) > (10 if key == KEY else 1)
    for text in (said.out, said.err, *(path.read_bytes().decode(errors="replace") for path in files)):
        assert key not in text
    if key == KEY:
        assert "2 failed (1 of them refused)" in " ".join(said.out.split())
        summary = json.loads((here / "run" / "summary.json").read_bytes())
        assert (summary["numbers"]["failed"], summary["refused"]) == (2, 1)
        # two good answers, one of them after one that could not be read and may have cost as much
        assert summary["cost_usd"] == pytest.approx(0.09)
        assert "$0.09" in said.out
    cache = Path(os.environ["REFBENCH_CACHE"])
    assert all(key.encode() not in path.read_bytes() for path in cache.rglob("*") if path.is_file())


def test_priced_model_needs_an_account(tmp_path: Path, suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARK_API_KEY", KEY)
    body = MODEL.replace("class Small(Seedream):", "class Small(Seedream):\n    use_account = None\n")
    (tmp_path / "careless.py").write_text(body)
    with pytest.raises(RefbenchError, match="no account"):
        generate_only(tmp_path / "careless.py:Small", suite, out=tmp_path / "run", max_cost_usd=1.0)


def test_records_of_before_are_still_read(tmp_path: Path) -> None:
    line = {"id": "a", "task": "t", "status": "failed", "error": "e", "seconds": 1.0, "extra": {"failure": "refused"}}
    (tmp_path / "records.jsonl").write_text(json.dumps(line) + "\n")
    assert RunFolder(tmp_path).read_records()["a"].status == "failed"

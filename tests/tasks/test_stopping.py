"""Long verbs in processes of their own: stopped by a signal they keep what is finished, say how to go on, and do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def stopped(arguments: list[str], ready: Path, number: signal.Signals, *, group: bool) -> tuple[int, str]:
    """Run the command, send it (or its process group, as Ctrl-C does) a signal once `ready` matches a file."""
    command = [sys.executable, "-m", "refbench", *arguments]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    while not list(ready.parent.glob(ready.name)) and process.poll() is None:
        time.sleep(0.05)
    (os.killpg if group else os.kill)(process.pid, number)
    return process.wait(timeout=120), process.stderr.read() if process.stderr else ""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_stopped_generation_goes_on(
    number: signal.Signals,
    group: bool,
    assets: Path,
    tmp_path: Path,
) -> None:
    arguments = ["tasks", "generate", "--n", "640", "--size", "64", "--workers", "2", "--assets", str(assets)]
    code, err = stopped(
        [*arguments, "--out", str(tmp_path / "one")], tmp_path / "one/data/shard-*", number, group=group
    )
    assert code == 130
    assert err.splitlines()[0] == "shards: 0/640"
    assert f"To go on: refbench tasks generate --n 640 --size 64 --workers 2 --assets {assets}" in err
    assert "Traceback" not in err
    left = {path.name for path in (tmp_path / "one/data").iterdir()}
    assert 0 < len(left) < 10
    for folder in ("one", "two"):
        subprocess.run(
            [sys.executable, "-m", "refbench", *arguments, "--out", str(tmp_path / folder)],
            check=True,
            capture_output=True,
        )
    shards = [[path.read_bytes() for path in sorted((tmp_path / f / "data").iterdir())] for f in ("one", "two")]
    assert shards[0] == shards[1]

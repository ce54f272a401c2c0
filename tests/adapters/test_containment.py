"""Every fault of an adapter costs the sample it happened on, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from refbench.adapters.load import open_contained
from refbench.adapters.sandbox import can_confine
from refbench.errors import RefbenchError
from refbench.schema import Inputs, Refinement

Maker = Callable[..., Inputs]

WORKER_FAULTS = {
    "size": ("invalid", "56 x 37 px"),
    "nan": ("invalid", "NaN"),
    "dtype": ("invalid", "dtype is int64"),
    "range": ("invalid", "in [0, 1]"),
    "nothing": ("invalid", "returned nothing"),
    "path": ("invalid", "returned str"),
    "raises": ("error", "ValueError: the weights are [31mmissing (faulty.py, line"),
    "memory": ("error", "smaller --batch-size"),
    "refuses": ("refused", "The safety filter declined."),
    "exits": ("error", "SystemExit: goodbye"),
    "late": ("timeout", "within 1 s"),
    "dies": ("died", "exited with code 3"),
    "killed": ("died", "SIGKILL"),
    "garbage": ("garbage", "agreed form"),
}
SCRIPT_FAULTS = {
    "size": ("invalid", "64 x 30 px"),
    "nothing": ("invalid", "there is none"),
    "text": ("invalid", "none of these"),
    "link": ("invalid", "there is none"),
    "raises": ("error", "ValueError: bad [31mweights"),
    "refuses": ("refused", "declined"),
    "late": ("timeout", "it said last: step 1 of 1000"),
    "dies": ("died", "code 3, saying: Segmentation fault"),
}


def _check(done: list[Refinement], names: list[str], faults: dict[str, tuple[str, str]], good: np.ndarray) -> None:
    assert [r.id for r in done] == names
    for refinement in done:
        kind = refinement.id.split("-")[0]
        if kind in faults:
            failure, words = faults[kind]
            assert refinement.image is None
            assert refinement.failure == failure, refinement.error
            assert words in (refinement.error or "")
            assert "\n" not in (refinement.error or "")
        else:
            assert refinement.error is None
            assert refinement.image is not None
            np.testing.assert_array_equal(refinement.image, good)


def test_each_fault_of_class_costs_only_its_sample(faulty: Path, sample: Maker) -> None:
    names = [*WORKER_FAULTS, "noisy"]
    names = [x for n in names for x in (n, f"ok-after-{n}")]
    with open_contained(faulty, timeout_s=1) as contained:
        assert contained.isolation == "worker"
        done = contained.refine_batch([sample(n) for n in names])
    _check(done, names, WORKER_FAULTS, 255 - sample("x").draft)


def test_each_fault_of_script_costs_only_its_sample(faulty_script: Path, sample: Maker) -> None:
    names = [x for n in [*SCRIPT_FAULTS, "noisy"] for x in (n, f"ok-after-{n}")]
    with open_contained(faulty_script, timeout_s=3) as contained:
        assert contained.isolation == "process"
        done = contained.refine_batch([sample(n) for n in names])
    _check(done, names, SCRIPT_FAULTS, sample("x").draft)
    assert (done[-1].price_usd, done[-1].facts) == (0.25, {})  # nested facts do not fit a record


@pytest.mark.parametrize("fault", ["raises", "dies", "late", "few", "nan"])
def test_others_of_batch_go_one_by_one(faulty: Path, sample: Maker, fault: str) -> None:
    names = ["ok-1", fault, "ok-2"]
    with open_contained(faulty, timeout_s=1, batch_size=3, options={"together": True}) as contained:
        done = contained.refine_batch([sample(n) for n in names])
    _check(done, names, WORKER_FAULTS, 255 - sample("x").draft)


def test_facts_kept_where_they_are_plain(faulty: Path, sample: Maker) -> None:
    with open_contained(faulty) as contained:
        first, second = contained.refine_batch([sample("counts-1"), sample("counts-2")])
    assert (first.facts, first.price_usd, first.seed) == ({"calls": 1}, 0.5, 3)
    assert second.facts["calls"] == 2  # the same process


@pytest.mark.parametrize("kind", ["faulty", "faulty_script"])
def test_child_knows_no_cache_no_folder(
    kind: str, sample: Maker, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFBENCH_CACHE", "/somewhere")
    with open_contained(request.getfixturevalue(kind)) as contained:
        (done,) = contained.refine_batch([sample("environment")])
    assert done.facts["cache"] == "none"
    folder = Path(str(done.facts["folder"]))
    assert folder != Path.cwd()
    assert not folder.exists()  # private, and removed at the end


def test_adapter_that_looks_for_answers_caught(faulty: Path, sample: Maker, tmp_path: Path) -> None:
    (tmp_path / "targets").mkdir()
    secret = tmp_path / "targets" / "secret.png"
    secret.write_bytes(b"x")
    with open_contained(faulty, hide=[tmp_path / "targets"]) as contained:
        spy, honest = contained.refine_batch([sample("spies", str(secret)), sample("ok")])
        assert spy.image is None
        assert spy.failure == "forbidden"
        assert "secret.png" in (spy.error or "")
        assert honest.image is not None
    with open_contained(faulty) as contained:
        assert contained.refine_batch([sample("spies", str(secret))])[0].image is not None


SPYING_SCRIPT = """# /// script
# dependencies = []
# ///
import json, os, shutil, sys, socket
for line in sys.stdin:
    r = json.loads(line)
    if r["type"] == "hello":
        print(json.dumps({"type": "ready", "card": {"name": "spy", "summary": "Looks."}}))
    elif r["type"] == "refine":
        shutil.copy(r["draft"], r["output"])
        os.system(f"umount {r['prompt']} 2>/dev/null")
        found = os.listdir(r["prompt"])
        try:
            socket.create_connection(("1.1.1.1", 53), 2); net = True
        except OSError as e:
            net = str(e)
        print(json.dumps({"type": "result", "id": r["id"], "ok": True, "facts": {"found": len(found), "net": net}}))
    else:
        break
"""


@pytest.mark.skipif(not can_confine(), reason="this system has no user namespaces")
def test_script_finds_folders_and_network_closed(tmp_path: Path, sample: Maker) -> None:
    script = tmp_path / "spy.py"
    script.write_text(SPYING_SCRIPT)
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "secret.png").write_bytes(b"x")
    with open_contained(script, hide=[tmp_path / "targets"], network=False) as contained:
        (done,) = contained.refine_batch([sample("s", str(tmp_path / "targets"))])
    assert done.error is None
    assert done.facts["found"] == 0
    assert "unreachable" in str(done.facts["net"])


def test_a_script_may_refuse_to_start(faulty_script: Path) -> None:
    with pytest.raises(RefbenchError, match="no GPU was found"), open_contained(faulty_script, options={"refuse": 1}):
        pass


def test_a_dead_child_fails_the_rest(tmp_path: Path, sample: Maker) -> None:
    path = tmp_path / "once.py"
    mark = tmp_path / "mark"
    path.write_text(
        "from pathlib import Path\nimport os\nfrom refbench.schema import AdapterCard\n"
        "class Once:\n    card = AdapterCard(name='once', summary='Starts once.')\n"
        f"    def __init__(self):\n        p = Path({str(mark)!r})\n"
        "        p.write_text(p.read_text() + 'x' if p.exists() else 'x')\n"
        "        if len(p.read_text()) > 1: raise OSError('the GPU has fallen off the bus')\n"
        "    def refine(self, inputs): os._exit(1)\n"
    )
    with open_contained(path) as contained:
        done = contained.refine_batch([sample(f"s-{n}") for n in range(8)])
    assert [r.failure for r in done] == ["died"] + ["start"] * 7
    assert "fallen off the bus" in (done[1].error or "")
    assert len(mark.read_text()) == 4  # the first start and three more


def test_a_slow_start_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "slow.py"
    path.write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(RefbenchError, match=r"longer than 0\.5 s"), open_contained(path, start_timeout_s=0.5):
        pass


PARENT = """
import sys, numpy as np
from refbench.adapters.load import open_contained
from refbench.schema import Inputs
d = np.zeros((8, 8, 3), np.uint8)
try:
    with open_contained({spec!r}) as c:
        pid = (c._child)._process.pid
        print(pid, flush=True)
        c.refine_batch([Inputs("late", d, d, d[..., 0] == 0, "")])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def _gone(pid: int, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat")
            if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_child_outlives_its_parent(faulty: Path, number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(spec=str(faulty))], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.3)
    parent.send_signal(number)
    output = parent.stdout.read()
    parent.wait(timeout=20)
    parent.stdout.close()
    assert _gone(child, 5)
    if number == signal.SIGINT:
        assert output.strip() == "interrupted"


def test_script_with_dependencies_run_by_uv(
    tmp_path: Path, faulty_script: Path, sample: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\nfor last; do :; done\nexec {sys.executable} "$last"\n')
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(uv.parent), prepend=os.pathsep)
    script = tmp_path / "needs.py"
    script.write_text(faulty_script.read_text().replace("dependencies = []", 'dependencies = ["numpy==2.4.6"]'))
    with open_contained(script) as contained:
        assert contained.refine_batch([sample("ok")])[0].image is not None
    assert (tmp_path / "called").read_text().split() == ["run", "--quiet", "--no-project", "--script", str(script)]


def test_script_without_uv_says_what_helps(
    tmp_path: Path, faulty_script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refbench.adapters.process.find_uv", lambda: None)
    script = tmp_path / "needs.py"
    script.write_text(faulty_script.read_text().replace("dependencies = []", 'dependencies = ["torch"]'))
    with pytest.raises(RefbenchError, match="pip install uv"), open_contained(script):
        pass


def test_in_process_contains_exceptions_and_wrong_answers(faulty: Path, sample: Maker) -> None:
    names = ["ok-1", "raises", "nan", "ok-2"]
    with open_contained(faulty, in_process=True) as contained:
        assert contained.isolation == "in-process"
        done = contained.refine_batch([sample(n) for n in names])
    _check(done, names, WORKER_FAULTS, 255 - sample("x").draft)


@pytest.mark.parametrize("wrong", [{"timeout_s": 0}, {"batch_size": 0}])
def test_senseless_limits_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RefbenchError, match="above 0 s"), open_contained("identity", **wrong):  # type: ignore[arg-type]
        pass

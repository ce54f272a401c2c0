"""Wherever the work is done, by however many and whoever dies, a run holds the same bits."""

from __future__ import annotations

import os
import pickle
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny import NOISE, adapter_file, write_tiny

from refbench.errors import RefbenchError
from refbench.runs.api import evaluate, generate_only
from refbench.runs.executors import executor_of, ray
from refbench.runs.executors.contract import Hello, Job, Outcome, Placement, placed
from refbench.runs.executors.local import LocalProcesses
from refbench.runs.executors.slurm import DONE, ROWS, Shard, Slurm
from refbench.runs.folder import RunFolder

from .raycluster import cluster_of

PER_SAMPLE = "open(os.path.join(ASKED, inputs.id), 'a').write('x')\n"
"""A line of a model that leaves a mark for each time that a sample was asked for."""


class Squares:
    """A setup whose workers square numbers; some numbers fail, kill their process, or say where they are."""

    device, identity = "cpu", "squares"

    def __init__(self, in_thread: bool, marks: Path | None = None, broken: bool = False) -> None:
        self.in_thread, self.marks, self.broken = in_thread, marks, broken

    def __call__(self, number: int) -> Squares:
        if self.broken:
            raise RefbenchError("Expected weights, but there are none.")
        return self

    def hello(self) -> Hello:
        return Hello({"card": "squares"})

    def do(self, content: Any) -> Any:
        if content == "raise":
            raise RuntimeError("no square")
        if self.marks is not None:
            with (self.marks / str(content)).open("a") as handle:
                handle.write("x")
            if content == 7 and (self.marks / "7").stat().st_size == 1:
                os._exit(1)
            if content == 13:
                os._exit(1)
        return content**2

    def close(self) -> None:
        pass


def jobs(*contents: object) -> list[Job]:
    return [Job(f"{number:03d}", content) for number, content in enumerate(contents)]


def run(executor: Any, setup: Squares, todo: list[Job]) -> dict[object, Outcome]:
    with executor.pool(setup, todo, lambda text: None) as pool:
        assert pool.hello().facts["card"] == "squares"
        found = list(pool.outcomes())
    assert len(found) == len(todo), "each job comes back once"
    return {outcome.job.content: outcome for outcome in found}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("executors")
    (folder / "asked").mkdir()
    body = PER_SAMPLE.replace("ASKED", repr(str(folder / "asked"))) + "time.sleep(0.02)\n" + NOISE
    return adapter_file(folder, body), write_tiny(folder / "tiny", 12)


@pytest.fixture(scope="module")
def whole(model: tuple[Path, Path]) -> dict[str, bytes]:
    folder, failed = generate_only(*model, out=model[0].parent / "whole")
    assert not failed
    return outputs(folder)


def outputs(folder: Path | str) -> dict[str, bytes]:
    storage = RunFolder(folder).storage
    return {name: storage.read(name) or b"" for name in storage.names("outputs")}


class TestLocal:
    @pytest.mark.parametrize("in_thread", [True, False])
    @pytest.mark.parametrize("workers", [1, 3])
    def test_each_job_comes_back_once(self, in_thread: bool, workers: int) -> None:
        found = run(LocalProcesses(workers), Squares(in_thread), jobs(2, 3, "raise", 5))
        assert [found[n].rows for n in (2, 3, 5)] == [4, 9, 25]
        assert "no square" in str(found["raise"].error)

    def test_a_setup_that_fails_is_raised(self) -> None:
        with (
            pytest.raises(RefbenchError, match="Expected weights"),
            LocalProcesses(2).pool(Squares(True, broken=True), jobs(1, 2), print) as pool,
        ):
            pool.hello()

    def test_dead_process_leaves_the_others(self, tmp_path: Path) -> None:
        found = run(LocalProcesses(2), Squares(False, tmp_path), jobs(13, 2, 7, 3))
        assert "fewer --workers" in str(found[13].error)
        assert [found[n].rows for n in (2, 7, 3)] == [4, 49, 9]
        assert (tmp_path / "13").stat().st_size >= 3

    def test_any_number_of_workers_gives_same_outputs(
        self, model: tuple[Path, Path], whole: dict[str, bytes], tmp_path: Path
    ) -> None:
        for workers, batch_size in ((3, 1), (2, 4)):
            folder, _ = generate_only(*model, out=tmp_path / f"{workers}", workers=workers, batch_size=batch_size)
            assert outputs(folder) == whole


class TestPlacement:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"executor": "rey"}, "Unknown executor 'rey'"),
            ({"workers": 0}, "at least one worker"),
            ({"gpus_per_worker": -1}, "0 GPUs a worker or more"),
            ({"gpus_per_worker": 2}, "at most one GPU a worker with --executor local"),
            ({"address": "auto"}, "--address with --executor ray"),
            ({"options": {"cpus": 2}}, "no --executor-option with --executor local"),
        ],
    )
    def test_what_does_not_fit_is_one_sentence(self, given: dict[str, Any], words: str) -> None:
        with pytest.raises(RefbenchError, match=words):
            Placement(**given)

    def test_device_elsewhere_follows_gpus_asked_for(self) -> None:
        assert placed("auto", Placement("ray")) == "cpu"
        assert placed("auto", Placement("ray", gpus_per_worker=0.5)) == "cuda"
        assert Placement("slurm").gpus("cuda") == 1.0
        with pytest.raises(RefbenchError, match="leave one out"):
            placed("cpu", Placement("ray", gpus_per_worker=1))
        with pytest.raises(RefbenchError, match="auto, cpu or cuda"):
            placed("cuda:1", Placement("ray"))

    def test_parts_of_gpus_want_gpu_here(self) -> None:
        with pytest.raises(
            RefbenchError, match=r"a CUDA device with --gpus-per-worker 0\.5, but the work is done on cpu"
        ):
            placed("cpu", Placement(gpus_per_worker=0.5))

    def test_parts_of_gpus_share_them_in_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("refbench.runs.executors.contract.count", lambda: 2)
        monkeypatch.setattr("refbench.devices.count", lambda: 2)
        assert Placement(workers=4, gpus_per_worker=0.5).devices("cuda") == ("cuda:0", "cuda:0", "cuda:1", "cuda:1")
        assert Placement(workers=3).devices("cuda") == ("cuda:0", "cuda:1", "cuda:0")
        assert Placement("ray", workers=3).devices("cuda") == ("cuda",)

    @pytest.mark.parametrize(
        ("executor", "option", "value"),
        [("ray", "cpus", "abc"), ("ray", "cpus", 0), ("ray", "cpus", 1.5), ("ray", "memory_gb", "much"),
         ("ray", "memory_gb", -1), ("slurm", "time", "1:00"), ("slurm", "memory_gb", float("inf"))],
    )  # fmt: skip
    def test_options_that_are_numbers_are_checked(self, executor: Any, option: str, value: object) -> None:
        with pytest.raises(RefbenchError, match=f"number above 0 for --executor-option {option}, but '{value}' came"):
            Placement(executor, options={option: value})

    def test_ray_takes_its_own_options_alone(self) -> None:
        with pytest.raises(RefbenchError, match=r"cpus and memory_gb with --executor ray, but partition came"):
            executor_of(Placement("ray", options={"partition": "long"}))


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    """Workers in processes of their own find the package and the setups of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        for part in (Path(__file__).parents[1], Path(__file__).parents[2]):
            patch.setenv("PYTHONPATH", str(part), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def cluster(importable: None) -> Iterator[Any]:
    """Two nodes of a Ray cluster on this machine, of one processor each; this process is its driver."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    found, _ = cluster_of(1, 1)
    ray.init(address=found.address, log_to_driver=False, logging_level="ERROR")
    yield found
    ray.shutdown()
    found.shutdown()


def test_job_beside_one_that_kills_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.ActorPool, "_start", lambda self: None)
    pool = ray.ActorPool(Squares(True), (), Placement("ray", 1), 0.0, print)
    quick, kills = jobs(5, 13)
    gone: Any = "first"
    pool._ready[gone] = [quick, kills]  # the answer of the first may be lost with the worker that the second kills
    for job in (quick, kills):
        assert pool._lost(gone, job, OSError()) is None
    given: list[str] = []
    pool._ready[Remote(given)] = []
    pool._hand_out()
    assert given == [kills.key]  # each has a worker to itself from then on
    for tried in range(1, ray.TRIES + 1):
        alone: Any = f"alone {tried}"
        pool._ready[alone] = [kills]
        outcome = pool._lost(alone, kills, OSError())
        assert (outcome is None) == (tried < ray.TRIES)
    assert outcome is not None
    assert "workers died with this one" in str(outcome.error)
    assert pool._tries[quick.key] == 0


class Remote:
    """Stands for an actor that keeps the keys of the jobs it is given."""

    def __init__(self, given: list[str]) -> None:
        self.do, self.given = self, given

    def remote(self, job: Job) -> str:
        self.given.append(job.key)
        return job.key


@pytest.mark.timeout(600)
class TestRay:
    def test_jobs_whose_worker_dies_go_to_another(self, cluster: Any, tmp_path: Path) -> None:
        found = run(executor_of(Placement("ray", 2)), Squares(True, tmp_path), jobs(2, 7, "raise", 13, 5))
        assert [found[n].rows for n in (2, 7, 5)] == [4, 49, 25]
        assert "no square" in str(found["raise"].error)
        assert "3 workers died with this one" in str(found[13].error)
        assert (tmp_path / "13").stat().st_size >= 3

    def test_a_setup_that_fails_is_raised(self, cluster: Any) -> None:
        with (
            pytest.raises(RefbenchError, match="Expected weights"),
            executor_of(Placement("ray", 1)).pool(Squares(True, broken=True), jobs(1), print) as pool,
        ):
            pool.hello()

    def test_run_on_cluster_holds_same_bits(
        self, cluster: Any, model: tuple[Path, Path], whole: dict[str, bytes], tmp_path: Path
    ) -> None:
        folder, failed = generate_only(*model, out=tmp_path / "run", executor="ray", workers=2)
        assert not failed
        assert outputs(folder) == whole
        record = next(iter(RunFolder(folder).read_records().values()))
        assert record.status == "ok"

    def test_another_model_on_machine_is_refused(self, cluster: Any, tmp_path: Path) -> None:
        from refbench.adapters.load import resolve
        from refbench.runs.engine import OpenModel

        path = adapter_file(tmp_path, NOISE)
        opener = OpenModel(resolve(path), "0" * 12, ("cpu",), 1, 60.0, {}, 1, None)
        with pytest.raises(RefbenchError, match="the same on every machine"):
            opener(0)

    def test_what_costs_money_stays_here(self, tmp_path: Path) -> None:
        from refbench.runs.engine import _refuse_price
        from refbench.runs.plan import RunOptions
        from refbench.schema import AdapterCard

        card = AdapterCard(name="x", summary="s", price_per_image_usd=0.1)
        options = RunOptions("identity", executor="ray")
        with pytest.raises(RefbenchError, match="keep its account in a folder of this machine"):
            _refuse_price(options, RunFolder(tmp_path), card, True, None)
        with pytest.raises(RefbenchError, match="memory://run is an address"):
            _refuse_price(RunOptions("identity"), RunFolder("memory://run"), card, True, None)


class TestSlurm:
    def options(self, place: Path) -> dict[str, Any]:
        return {"cluster": "local", "folder": str(place / "slurm")}

    def test_run_by_tasks_holds_same_bits(
        self, model: tuple[Path, Path], whole: dict[str, bytes], tmp_path: Path
    ) -> None:
        folder, failed = generate_only(
            *model, out=tmp_path / "run", executor="slurm", workers=2, executor_options=self.options(tmp_path)
        )
        assert not failed
        assert outputs(folder) == whole
        assert [path.name for path in (tmp_path / "slurm").iterdir()] == ["logs"]

    def test_requeued_task_does_the_rest(self, tmp_path: Path) -> None:
        spool, marks = tmp_path / "spool", tmp_path / "marks"
        spool.mkdir()
        marks.mkdir()
        todo = jobs(2, 3, 5, "raise")
        shard = Shard(Squares(True, marks), todo, spool, 1)
        (spool / (todo[0].key + DONE)).touch()
        (spool / (todo[1].key + ROWS)).write_bytes(pickle.dumps((9, None)))
        assert shard() == 2
        assert sorted(path.name for path in marks.iterdir()) == ["5"]
        assert pickle.loads((spool / (todo[2].key + ROWS)).read_bytes()) == (25, None)
        assert "no square" in str(pickle.loads((spool / (todo[3].key + ROWS)).read_bytes())[1])
        again = shard.checkpoint()
        assert again.function is shard
        assert shard() == 0

    def test_dying_tasks_are_given_up(self, tmp_path: Path) -> None:
        marks = tmp_path / "marks"
        marks.mkdir()
        placement = Placement("slurm", 2, options=self.options(tmp_path))
        found = run(executor_of(placement), Squares(True, marks), jobs(2, 7, 3))
        assert [found[n].rows for n in (2, 7, 3)] == [4, 49, 9]
        assert (marks / "7").stat().st_size == 2
        assert (marks / "2").stat().st_size == 1

    def test_a_setup_that_fails_is_raised(self, tmp_path: Path) -> None:
        placement = Placement("slurm", 1, options=self.options(tmp_path))
        with (
            pytest.raises(RefbenchError, match="Expected weights"),
            executor_of(placement).pool(Squares(True, broken=True), jobs(1), print) as pool,
        ):
            pool.hello()

    def test_without_slurm_it_is_one_sentence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(RefbenchError, match="Expected to send jobs to Slurm from here"):
            Slurm(Placement("slurm")).submitter(tmp_path, 0)

    def test_sbatch_script_says_what_asked_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A stand-in of sbatch takes the script that submitit wrote."""
        for name, body in (("srun", "exit 0"), ("sbatch", "cp $1 SCRIPT; echo Submitted batch job 4711")):
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{body}\n".replace("SCRIPT", str(tmp_path / "script.sh")))
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        given = {"partition": "gpu", "time": 90, "cpus": 4, "memory_gb": 32, "reservation": "night", "qos": "low"}
        placement = Placement("slurm", 8, 1.0, options=given)
        submitter = Slurm(placement).submitter(tmp_path / "logs", 1.0)
        sent = submitter.submit_array([Shard(Squares(True), jobs(n), tmp_path, 1) for n in range(8)])
        assert sent[3].job_id == "4711_3"
        lines = (tmp_path / "script.sh").read_text().splitlines()
        wanted = {
            "array=0-7%8", "partition=gpu", "time=90", "cpus-per-task=4", "mem=32GB", "reservation=night", "qos=low",
            "gpus-per-node=1", "job-name=refbench", "signal=USR2@90", "nodes=1",
        }  # fmt: skip
        assert wanted <= {line.removeprefix("#SBATCH --") for line in lines}, "\n".join(lines)
        assert any(line.startswith("srun ") and "submitit.core._submit" in line for line in lines)


DRIVER = """
import sys
from refbench.runs.api import generate_only
if __name__ == "__main__":
    generate_only(sys.argv[1], sys.argv[2], out=sys.argv[3], executor="slurm", workers=2,
                  executor_options={"cluster": "local", "folder": sys.argv[4]})
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_slurm_driver_goes_on(model: tuple[Path, Path], whole: dict[str, bytes], tmp_path: Path) -> None:
    asked = model[0].parent / "asked"
    for path in asked.iterdir():
        path.unlink()
    arguments = [sys.executable, "-c", DRIVER, *map(str, (*model, tmp_path / "run", tmp_path / "slurm"))]
    first = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, start_new_session=True)
    record = tmp_path / "run" / "records.jsonl"
    until = time.monotonic() + 200
    while time.monotonic() < until and first.poll() is None and not record.exists():
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert subprocess.run(arguments, timeout=300).returncode == 0
    assert outputs(tmp_path / "run") == whole
    times = {path.name: path.stat().st_size for path in asked.iterdir()}
    assert max(times.values()) <= 2


def test_seeds_are_runs_and_one_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from refbench.metrics import registry
    from refbench.registry import Registry

    keep = ("psnr", "ssim", "palette", "background_mse", "seam")
    monkeypatch.setattr(registry, "METRICS", Registry("metric", {name: registry.METRICS[name] for name in keep}))
    monkeypatch.setattr("refbench.runs.health.doctor_result", lambda cards, device: {})
    monkeypatch.setenv("REFBENCH_CACHE", str(tmp_path / "cache"))
    suite, file = write_tiny(tmp_path / "tiny", 12), adapter_file(tmp_path, NOISE)
    found = evaluate(file, suite, out=tmp_path / "run", seeds=2)
    assert [one.folder.name for one in found.seeds] == ["run", "run+seed-1"]  # type: ignore[union-attr]
    assert outputs(tmp_path / "run") != outputs(tmp_path / "run+seed-1")
    means = [one.summary.numbers["pixel_fidelity"]["value"] for one in found.seeds]
    both = found.summary.numbers["pixel_fidelity"]
    assert both["value"] == pytest.approx(sum(means) / 2)
    assert (tmp_path / "run" / "seeds.json").is_file()
    assert [one["samples"] for one in found.to_json()["seeds"]] == [12, 12]
    assert not evaluate(file, suite, out=tmp_path / "run", seeds=2).fresh
    with pytest.raises(RefbenchError, match="--seeds or --passes"):
        evaluate(file, suite, seeds=2, passes=2)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ray_driver_whose_last_node_dies_ends(importable: None, tmp_path: Path) -> None:
    suite, asleep = (
        write_tiny(tmp_path / "tiny", 4),
        adapter_file(tmp_path, "time.sleep(60)\nreturn inputs.draft", "slow"),
    )
    out = tmp_path / "run"
    arguments = ["generate", "--model", str(asleep), "--suite", str(suite), "--executor", "ray", "--out", str(out)]
    driver = subprocess.Popen([sys.executable, "-m", "refbench", *arguments], stderr=subprocess.PIPE, text=True)
    raylets: list[psutil.Process] = []
    while driver.poll() is None and not raylets:
        time.sleep(0.5)
        started = psutil.Process(driver.pid).children()
        raylets = [one for one in started if one.name() == "raylet"] if (out / "manifest.json").exists() else []
    for raylet in raylets:
        raylet.kill()
    _, said = driver.communicate(timeout=200)
    assert (driver.returncode, len(raylets)) == (2, 1)
    assert "its last node is gone; start the same command again" in said

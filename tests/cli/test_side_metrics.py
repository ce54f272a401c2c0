"""What stands beside the score: learned metrics, FID and KID, other papers' columns, a judge. Driven by the command."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refbench.metrics.learned import suitewide
from refbench.metrics.learned.base import random_weights
from refbench.runs.protocols import PROTOCOLS

from .conftest import Cli

FAST = ["--limit", "4"]


@pytest.fixture
def run(cli: Cli, suite: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of four samples by a quick model, measured by two metrics (the rest is tested elsewhere)."""
    from refbench.metrics import registry
    from refbench.registry import Registry

    keep = ("squeeze_pooled", "ssim", "mse", "keypoint_gain", "background_mse", "background_ssim")
    names = [name for name in registry.METRICS if name in keep or registry.is_learned(name)]
    small = Registry("metric", {name: registry.METRICS[name] for name in names})
    monkeypatch.setattr(registry, "METRICS", small)
    done = cli("eval", "--model", "sharpen", "--suite", suite, "--out", here / "run", *FAST, "--json")
    assert done.code == 0, done.err
    return here / "run"


class TestLearned:
    def test_without_weights_table_says_what_is_missing(self, cli: Cli, run: Path) -> None:
        done = cli("measure", run, "--metrics", "lpips_vgg,fid")
        assert done.code == 0
        assert "lpips_vgg: needs the weights vgg16: run `refbench weights fetch vgg16`" in done.out
        assert "fid: needs the weights inception-fid" in done.out
        manifest = json.loads((run / "manifest.json").read_text())
        assert set(manifest["unavailable"]) == {"lpips_vgg", "fid"}

    def test_they_do_not_move_the_score(self, cli: Cli, run: Path) -> None:
        pytest.importorskip("lpips")
        before = json.loads((run / "summary.json").read_text())["numbers"]["mean"]
        with random_weights(1):
            done = cli("measure", run, "--metrics", "lpips_squeeze")
            assert done.code == 0, done.err
            assert "Learned metrics, beside the score" in done.out
            again = cli("measure", run)
            assert "Nothing to do" in again.err
        after = json.loads((run / "summary.json").read_text())["numbers"]
        assert after["mean"] == before
        assert after["metrics"]["lpips_squeeze"]["raw_mean"] > 0
        assert "lpips_squeeze" in after["unscored"]

    def test_fid_and_kid_are_numbers_of_run(self, cli: Cli, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[int] = []

        def mean_colours(images: list[Any], device: str, batch: int = 16) -> np.ndarray[Any, Any]:
            asked.append(len(images))
            return np.stack([image.reshape(-1, 3).mean(axis=0) / 255 for image in images]).astype(np.float32)

        monkeypatch.setattr(suitewide, "features", mean_colours)
        monkeypatch.setattr(suitewide.SuiteMetric, "modules", ())
        with random_weights(1):
            done = cli("measure", run, "--metrics", "fid,kid", "--json")
            assert done.code == 0, done.err
            rows = {row["name"]: row for row in json.loads(done.out)["suite_level"]}
            assert set(rows) == {"fid", "kid"}
            assert rows["fid"]["samples"] == 4
            assert rows["fid"]["value"] > 0
            asked.clear()
            again = json.loads(cli("measure", run, "--json").out)
            assert asked == []
            assert again["suite_level"] == list(rows.values())
        assert json.loads((run / "suite_scores.json").read_text())["scores"] == list(rows.values())


class TestStatistics:
    """The closed forms equal both libraries on the same features, also with fewer samples than dimensions."""

    @pytest.mark.parametrize(("count", "dimensions"), [(60, 8), (10, 24)])
    def test_frechet_and_kernel_distance(self, count: int, dimensions: int) -> None:
        import torch
        from torchmetrics.image.kid import KernelInceptionDistance

        generator = np.random.default_rng(0)
        a = generator.normal(size=(count, dimensions))
        b = generator.normal(size=(count + 5, dimensions)) * 1.3 + 0.2
        fid = pytest.importorskip("cleanfid.fid")
        expected = fid.frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
        # clean-fid takes the root of a singular matrix where samples are few; that costs it some digits.
        assert suitewide.frechet(a, b) == pytest.approx(expected, rel=1e-3 if count < dimensions else 1e-7)

        class Same(torch.nn.Module):
            num_features = dimensions

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x

        from torchmetrics.image.fid import FrechetInceptionDistance, _compute_fid

        one, two = torch.from_numpy(a), torch.from_numpy(b)
        theirs = _compute_fid(one.mean(0), one.T.cov(), two.mean(0), two.T.cov())
        assert suitewide.frechet(a, b) == pytest.approx(float(theirs), rel=1e-6)
        assert FrechetInceptionDistance is not None
        kid = KernelInceptionDistance(feature=Same(), subsets=1, subset_size=count)
        kid.update(one.float(), real=True)
        kid.update(two[:count].float(), real=False)
        assert suitewide.kernel(a, b[:count]) == pytest.approx(float(kid.compute()[0]), rel=1e-4)

    def test_set_is_at_no_distance_from_itself(self) -> None:
        a = np.random.default_rng(1).normal(size=(12, 30))
        assert suitewide.frechet(a, a) == pytest.approx(0.0, abs=1e-9)

    def test_resizing_is_clean_fids(self) -> None:
        resize = pytest.importorskip("cleanfid.resize")
        image = np.random.default_rng(2).integers(0, 256, (91, 130, 3), dtype=np.uint8)
        assert np.array_equal(suitewide.clean(image), resize.build_resizer("clean")(image))


class TestProtocols:
    def test_columns_are_the_papers(self) -> None:
        titles = [column.title for column in PROTOCOLS["refineeval"].columns]
        assert titles == ["MSE", "LPIPS", "VGG", "DINO", "CLIP", "SSIM", "MSE bg", "LPIPS bg", "SSIM bg"]
        assert all(len(row) == 9 for row in PROTOCOLS["refineeval"].published.values())
        assert [c.title for c in PROTOCOLS["fidelitybench"].columns][:2] == ["AKI", "KGain"]
        assert PROTOCOLS["hifi-inpaint"].columns[-1].title == "SSIM-HF"

    def test_refineeval_measures_box_and_rest(self, cli: Cli, run: Path, suite: Path) -> None:
        from skimage.metrics import structural_similarity

        from refbench.images import load_image
        from refbench.tasks.suite import load_suite

        done = cli("protocol", "refineeval", run, "--json")
        assert done.code == 0, done.err
        (row,) = json.loads(done.out)
        squared, structure, rest = [], [], []
        for sample in load_suite(str(suite)).select(limit=4).ids:
            truth = load_suite(str(suite)).truth(sample)
            output = load_image(run / "outputs" / sample.rsplit("-", 1)[0] / f"{sample}.png")
            # The tiny suite's mask is [24:72, 32:80], 48 px a side: grown to 64 px.
            box = np.s_[16:80, 24:88]
            a, b = output[box] / 255.0, truth.target[box] / 255.0
            squared.append(np.mean((a - b) ** 2))
            structure.append(
                structural_similarity(
                    a, b, channel_axis=2, data_range=1.0, gaussian_weights=True, use_sample_covariance=False
                )
            )
            outside = np.ones(truth.target.shape[:2], bool)
            outside[box] = False
            rest.append(np.mean(((output - truth.draft.astype(float)) / 255)[outside] ** 2))
        assert row["values"]["MSE"] == pytest.approx(np.mean(squared), rel=1e-6)
        assert row["values"]["SSIM"] == pytest.approx(np.mean(structure), abs=5e-3)  # skimage crops 5 px, so do we
        assert row["values"]["MSE bg"] == pytest.approx(np.mean(rest), rel=1e-6)
        assert row["values"]["LPIPS"] is None
        assert "refbench weights fetch alexnet" in row["unavailable"]["lpips_alex"]

    def test_fidelitybench_counts_gains(self, cli: Cli, run: Path) -> None:
        import pyarrow.parquet as pq

        scores = pq.read_table(run / "scores.parquet").to_pandas()
        gains = scores[scores["metric"] == "keypoint_gain"]["value"]
        (row,) = (json.loads(cli("measure", run, "--protocol", "fidelitybench", "--json").out)["protocol"],)
        assert row["values"]["AKI"] == pytest.approx(gains.mean())
        assert row["values"]["KGain"] == pytest.approx((gains > 0).mean())

    def test_table_prints_runs_beside_paper(self, cli: Cli, run: Path) -> None:
        done = cli("protocol", "refineeval", run, "--published")
        assert "sharpen" in done.out
        assert "RefineAnything (published, on its own" in " ".join(done.out.split())
        assert "unavailable: vgg_distance" in done.out
        assert "did you mean refineeval" in cli("protocol", "refineval", run).sentence
        assert (run / "protocol-refineeval.json").is_file()


class Judging(ThreadingHTTPServer):
    """Speaks chat/completions; `faults` are taken one a request."""

    daemon_threads = True

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.shift = 0
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class Answers(BaseHTTPRequestHandler):
    server: Judging

    def log_message(self, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.keys.append(self.headers.get("Authorization"))
        fault = self.server.faults.pop(0) if self.server.faults else ""
        ratings = {"detail": 2 + self.server.shift, "faithfulness": 3, "naturalness": 4}
        text = "Here you are:\n" + json.dumps({"A": ratings, "B": {**ratings, "detail": 5}})
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if fault == "refused":
            message = {"role": "assistant", "content": None, "refusal": "I cannot look at people."}
        if fault == "malformed":
            message["content"] = '{"A": {"detail": 9}, "B": "fine"}'
        status = int(fault) if fault.isdigit() else 200
        data = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
        if fault == "401":
            data = f"wrong key {self.headers.get('Authorization')}".encode()
        self.send_response(status)
        if fault == "429":
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(data) + (50 if fault == "cut" else 0)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Judging]:
    pytest.importorskip("httpx")
    import refbench.runs.judging as judging

    monkeypatch.setenv("REFBENCH_JUDGE_KEY", "sk-secret-123")
    monkeypatch.setenv("REFBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(judging.time, "sleep", lambda _: None)
    made = Judging()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


class TestJudge:
    def judged(self, cli: Cli, run: Path, server: Judging, *more: object) -> Any:
        return cli("measure", run, "--judge", server.url, "--judge-model", "eye-1", *more)

    def test_ratings_are_reported_apart_and_marked(self, cli: Cli, run: Path, server: Judging) -> None:
        before = (run / "summary.json").read_bytes()
        done = self.judged(cli, run, server, "--judge-votes", "2")
        assert done.code == 0, done.err
        assert "not reproducible, no score" in " ".join(done.out.split())
        assert (run / "summary.json").read_bytes() == before
        found = json.loads((run / "judge.json").read_text())
        assert found["reproducible"] is False
        assert found["rated"] == 4
        assert len(found["drift"]["pairs"]) == 4
        votes = [vote for sample in found["samples"] for vote in sample["votes"]]
        assert len(votes) == 8
        assert {tuple(vote["shown"]) for vote in votes} == {("draft", "output"), ("output", "draft")}, (
            "both orders come"
        )
        # The server always gives B five points of detail: the order must be undone when ratings are named.
        for vote in votes:
            assert vote[vote["shown"][1]]["detail"] == 5
            assert vote[vote["shown"][0]]["detail"] == 2
        body = server.bodies[0]
        assert body["model"] == "eye-1"
        assert "naturalness" in body["messages"][0]["content"]
        kinds = [part["type"] for part in body["messages"][1]["content"]]
        assert kinds == ["text", "image_url"] * 3

    def test_only_drift_pairs_are_asked_twice(self, cli: Cli, run: Path, server: Judging) -> None:
        self.judged(cli, run, server)
        assert len(server.bodies) == 4 + 4 * 3
        server.bodies.clear()
        server.shift = 1
        done = self.judged(cli, run, server, "--json")
        assert len(server.bodies) == 4, "the fixed pairs alone are judged anew"
        drift = json.loads(done.out)["judge"]["drift"]
        assert drift["first_time"] is False
        assert drift["largest_change"] == 1
        assert 0 < drift["mean_change"] < 1

    @pytest.mark.parametrize("fault", ["429", "500", "cut", "malformed"])
    def test_faults_that_pass_are_waited_out(self, fault: str, cli: Cli, run: Path, server: Judging) -> None:
        server.faults = [fault, fault]
        done = self.judged(cli, run, server, "--judge-votes", "1", "--json")
        assert json.loads(done.out)["judge"]["rated"] == 4
        assert len(server.bodies) == 2 + 4 + 4

    def test_refusal_told_and_counted_not_invented(self, cli: Cli, run: Path, server: Judging) -> None:
        server.faults = [""] * 4 + ["refused"]
        done = self.judged(cli, run, server, "--judge-votes", "1")
        found = json.loads((run / "judge.json").read_text())
        assert found["rated"] == 3
        assert "I cannot look at people" in next(iter(found["unrated"].values()))
        assert "not rated" in done.out

    def test_key_is_sent_and_written_nowhere(
        self, cli: Cli, run: Path, server: Judging, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        done = self.judged(cli, run, server)
        assert set(server.keys) == {"Bearer sk-secret-123"}
        server.faults = ["401"]
        refused = self.judged(cli, run, server)
        assert refused.code == 2
        assert "401 (wrong key Bearer ***)" in refused.sentence
        written = [path for path in tmp_path.rglob("*") if path.is_file() and b"sk-secret" in path.read_bytes()]
        assert written == []
        assert all("sk-secret" not in text for text in (done.out, done.err, refused.out, refused.err))

    def test_wrong_options_are_told_before_asking(self, cli: Cli, run: Path, server: Judging) -> None:
        assert "--judge-model together" in cli("measure", run, "--judge", server.url).sentence
        bad = cli("measure", run, "--judge", "http://user:pass@host/v1", "--judge-model", "m")
        assert "pass" not in bad.sentence
        assert server.bodies == []

    def test_it_votes_as_one_more_rater(self, cli: Cli, run: Path, suite: Path, server: Judging) -> None:
        pytest.importorskip("uvicorn")
        assert cli("generate", "--model", "identity", "--suite", suite, "--out", "other", *FAST).code == 0
        server.faults = ["refused"]
        arguments = ("--judge", server.url, "--judge-model", "m", "--pairs", 3, "--votes", "votes.jsonl")
        done = cli("arena", run, "other", *arguments)
        assert done.code == 0, done.err
        assert "model:m: 3 votes in votes.jsonl, 1 refused" in done.out
        assert len(server.bodies) == 4
        votes = [json.loads(line) for line in Path("votes.jsonl").read_text().splitlines()]
        assert {vote["rater"] for vote in votes} == {"model:m"}
        again = cli("arena", run, "other", *arguments)
        assert again.code == 0
        assert len(server.bodies) == 4

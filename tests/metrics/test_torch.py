"""Metrics as torchmetrics: equal to a measured run, batch by batch, process by process."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import adapter_file, tiny, write_tiny
from torchmetrics import MetricCollection

import refbench
import refbench.metrics.torch as room
from refbench.errors import RefbenchError
from refbench.images import Image, decode_image
from refbench.metrics.learned.base import random_weights
from refbench.metrics.registry import METRICS, default_metrics, is_learned
from refbench.metrics.view import View
from refbench.results.run import RunResult
from refbench.schema import AXES, Sample, Truth


def batch(pictures: list[Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def arguments(rows: list[tuple[Sample, Truth, Image]]) -> tuple[tuple[torch.Tensor, ...], dict[str, object]]:
    truths = [truth for _, truth, _ in rows]
    parts = [[out for *_, out in rows], [t.target for t in truths], [t.reference for t in truths]]
    tensors = [batch(part) for part in (*parts, [t.draft for t in truths])]
    mask = torch.from_numpy(np.stack([t.mask for t in truths]))[:, None].float()
    more = {name: [getattr(t, name) for t in truths] for name in ("reference_box", "text", "category")}
    return (*tensors[:3], mask, tensors[3]), more


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("torch")
    model = adapter_file(folder, "out = (inputs.draft * 0.5 + 60).astype(np.uint8)\nreturn out")
    suite = write_tiny(folder / "tiny", 4)
    refbench.evaluate(str(model), str(suite), out=folder / "run")
    return refbench.load_run(folder / "run", suite=suite)


@pytest.fixture(scope="module")
def rows(run: RunResult) -> list[tuple[Sample, Truth, Image]]:
    outputs = {meta.id: decode_image(run.output(meta).read_bytes()) for meta in run.suite.metas}
    return [(run.suite.sample(name), run.suite.truth(name), outputs[name]) for name in run.suite.ids]


def fed(metric: object, rows: list[tuple[Sample, Truth, Image]], step: int = 1) -> object:
    for at in range(0, len(rows), step):
        tensors, more = arguments(rows[at : at + step])
        metric.update(*tensors, **more)  # type: ignore[attr-defined]
    return metric


def test_score_equals_the_measured_run(run: RunResult, rows: list[tuple[Sample, Truth, Image]]) -> None:
    found = fed(room.RefBench(), rows).compute()  # type: ignore[attr-defined]
    assert float(found["score"]) == pytest.approx(run.numbers.mean.value, abs=1e-6)
    for axis in (*AXES, "pixel_fidelity"):
        assert float(found[axis]) == pytest.approx(run.numbers.cell(axis).value, abs=1e-6)


def test_batches_of_any_size_add_up(rows: list[tuple[Sample, Truth, Image]]) -> None:
    # tiny samples are of one size, so that they fit into one tensor
    one, four = (fed(room.LocalConsistency(), rows, step).compute() for step in (1, 4))  # type: ignore[attr-defined]
    assert float(one) == pytest.approx(float(four), abs=1e-12)


def test_each_metric_equals_refbench_measure(run: RunResult, rows: list[tuple[Sample, Truth, Image]]) -> None:
    names = [name for name in default_metrics() if name not in ("ocr_cer", "face_id")]
    made = {name: getattr(room, METRICS[name].rpartition(":")[2]) for name in names}
    means = fed(MetricCollection({name: one() for name, one in made.items()}), rows, 2)
    points = fed(MetricCollection({name: one(recovery=True) for name, one in made.items()}), rows, 2)
    means, points = means.compute(), points.compute()  # type: ignore[attr-defined]
    for name in names:
        values = run.scores[run.scores["metric"] == name]["value"]
        assert float(means[name]) == pytest.approx(values.mean(), abs=1e-6, nan_ok=True), name
        told = run.numbers.metrics[name].value if name in run.numbers.metrics else None
        assert float(points[name]) == pytest.approx(float("nan") if told is None else told, abs=1e-6, nan_ok=True), name


@pytest.mark.parametrize("category", ["text", "face"])
def test_one_category_counts_as_in_run(tmp_path: Path, category: str) -> None:
    """`ocr_cer` reads the sample's own words and `face_id` its reference box; neither is measured elsewhere."""
    suite = refbench.load_suite("mini")
    tasks = [next(meta.task for meta in suite.metas if meta.category == one) for one in (category, "pattern")]
    refbench.evaluate("sharpen", "mini", out=tmp_path / "run", tasks=tasks, limit=3)
    run = refbench.load_run(tmp_path / "run")
    name = {"text": "ocr_cer", "face": "face_id"}[category]
    metric = getattr(room, METRICS[name].rpartition(":")[2])(recovery=True)
    samples = list(run.records)
    for meta in (meta for meta in suite.metas if meta.id in samples):
        out = decode_image(run.output(meta).read_bytes())
        fed(metric, [(suite.sample(meta.id), suite.truth(meta.id), out)])
    assert float(metric.compute()) == pytest.approx(run.numbers.metrics[name].value, abs=1e-6)


def test_lacking_value_costs_as_in_run(
    rows: list[tuple[Sample, Truth, Image]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The truth has the number and the output lacks it: the sample takes the worse of draft and trivial answer."""
    seam = METRICS.load("seam")
    given = seam.values
    lost = [rows[0][2]]

    def values(self: object, views: list[View]) -> list[float | None]:
        found = zip(given(self, views), views, strict=True)
        return [None if np.array_equal(view.output, lost[0]) else value for value, view in found]

    whole = fed(room.Seam(recovery=True), rows, 4).compute()  # type: ignore[attr-defined]
    monkeypatch.setattr(seam, "values", values)
    one, four = (fed(room.Seam(recovery=True), rows, step).compute() for step in (1, 4))  # type: ignore[attr-defined]
    assert float(one) == pytest.approx(float(four), abs=1e-9)
    assert float(four) < float(whole)
    assert np.isnan(float(fed(room.Seam(), rows[:1]).compute()))  # type: ignore[attr-defined]


PROCESS = """
import sys, torch, torch.distributed as dist
sys.path[:0] = [{tests!r}, {metrics!r}]
from test_torch import arguments
from tiny import tiny
import numpy as np
from torchmetrics import MetricCollection
from refbench.metrics.torch import LocalConsistency, PSNR, BackgroundSSIM
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
suite = tiny(6)
metrics = MetricCollection([LocalConsistency(), PSNR(), BackgroundSSIM(recovery=True)])
mine = list(suite.ids)[:4] if rank == 0 else list(suite.ids)[4:]
for name in mine:
    truth = suite.truth(name)
    out = np.clip(truth.draft.astype(int) + 9 * (1 + list(suite.ids).index(name)), 0, 255).astype(np.uint8)
    tensors, more = arguments([(None, truth, out)])
    metrics.update(*tensors, **more)
print({{key: float(value) for key, value in metrics.compute().items()}})
"""


def test_two_processes_give_number_of_one(tmp_path: Path) -> None:
    here = Path(__file__).parent
    code = PROCESS.format(tests=str(here.parent), metrics=str(here))
    command = [sys.executable, "-c", code]
    started = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    told = [eval(process.communicate(timeout=240)[0].splitlines()[-1]) for process in started]
    assert [process.returncode for process in started] == [0, 0]
    suite = tiny(6)
    alone = MetricCollection([room.LocalConsistency(), room.PSNR(), room.BackgroundSSIM(recovery=True)])
    for at, name in enumerate(suite.ids):
        truth = suite.truth(name)
        out = np.clip(truth.draft.astype(int) + 9 * (1 + at), 0, 255).astype(np.uint8)
        tensors, more = arguments([(suite.sample(name), truth, out)])
        alone.update(*tensors, **more)
    expected = {key: float(value) for key, value in alone.compute().items()}
    assert set(expected) == {"LocalConsistency", "PSNR", "BackgroundSSIM"}
    for numbers in told:
        assert numbers == pytest.approx(expected, abs=1e-9)


def test_collection_keeps_equal_values_apart(rows: list[tuple[Sample, Truth, Image]]) -> None:
    """MetricCollection merges metrics whose states are alike; of the first answer, the truth, both are 1."""
    answers = [(*rows[0][:2], rows[0][1].target), rows[1]]
    both = fed(MetricCollection([room.BackgroundSSIM(), room.BackgroundExact()]), answers).compute()  # type: ignore[attr-defined]
    for made in (room.BackgroundSSIM, room.BackgroundExact):
        assert float(both[made.__name__]) == float(fed(made(), answers).compute())  # type: ignore[attr-defined]
    assert both["BackgroundSSIM"] != both["BackgroundExact"]


def test_forward_gives_batch_and_keeps_sum(rows: list[tuple[Sample, Truth, Image]]) -> None:
    metric, last = room.PSNR(), room.PSNR()
    for row in rows[:2]:
        tensors, more = arguments([row])
        of_batch = metric(*tensors, **more)
    assert float(of_batch) == float(fed(last, rows[1:2]).compute())  # type: ignore[attr-defined]
    assert float(metric.compute()) == pytest.approx(float(fed(room.PSNR(), rows[:2]).compute()))  # type: ignore[attr-defined]
    metric.reset()
    assert float(metric.psnr_count) == 0


def test_second_epoch_measures_outputs_alone(
    rows: list[tuple[Sample, Truth, Image]], monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = fed(room.LocalConsistency(), rows)
    first = metric.compute()  # type: ignore[attr-defined]
    metric.reset()  # type: ignore[attr-defined]
    measured: list[int] = []
    monkeypatch.setattr(room, "measure_answers", lambda truths, *_: measured.append(len(truths)) or [])
    assert fed(metric, rows).compute() == first  # type: ignore[attr-defined]
    assert set(measured) == {0}


def test_metrics_pickle_with_their_sums(rows: list[tuple[Sample, Truth, Image]]) -> None:
    metric = fed(room.TextureFidelity(), rows[:1])
    again = pickle.loads(pickle.dumps(metric))
    assert again.compute() == metric.compute()  # type: ignore[attr-defined]


@pytest.fixture
def weights() -> Iterator[None]:
    with random_weights(0):
        for kept in (room._metric, room._measurer, room._features):
            kept.cache_clear()
        yield
    for kept in (room._metric, room._measurer, room._features):
        kept.cache_clear()


@pytest.mark.usefixtures("weights")
def test_set_has_one_distance_however_batched(rows: list[tuple[Sample, Truth, Image]]) -> None:
    from refbench.metrics.learned.suitewide import features, frechet

    two = rows[:2]
    views = [View(truth, out) for _, truth, out in two]
    mine, theirs = features([v.image for v in views], "cpu"), features([v.known.target for v in views], "cpu")
    assert float(fed(room.FID(), two).compute()) == pytest.approx(frechet(mine, theirs), rel=1e-6)  # type: ignore[attr-defined]
    assert np.isnan(float(fed(room.FID(), two[:1]).compute()))  # type: ignore[attr-defined]


def test_every_metric_of_registry_has_class() -> None:
    assert len(room.__all__) == 5 + len(METRICS)
    for name in METRICS:
        made = getattr(room, METRICS[name].rpartition(":")[2])
        assert made.names == (name,)
        assert name in made.__doc__
        if not is_learned(name):
            assert made().higher_is_better == made.higher_is_better
    with pytest.raises(AttributeError, match="SSIMM"):
        _ = room.SSIMM


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"output": torch.rand(1, 64, 64, 3)}, r"output as a tensor \(B, 3, H, W\)"),
        ({"output": torch.rand(1, 3, 64, 64) * 2 - 1}, r"output in \[0, 1\]"),
        ({"output": torch.full((1, 3, 64, 64), torch.nan)}, r"output in \[0, 1\]"),
        ({"output": torch.zeros(1, 3, 64, 64, dtype=torch.uint8)}, "output as floats"),
        ({"output": torch.rand(1, 3, 32, 64)}, "the target"),
        ({"mask": torch.zeros(1, 1, 64, 64)}, "mask"),
        ({"mask": None}, "mask in update"),
        ({"draft": None}, "draft in update"),
        ({"reference_box": [1, 2, 3, 4]}, "reference_box"),
        ({"reference_box": ["box."]}, "reference_box"),
        ({"text": [3]}, "words or None"),
        ({"reference": torch.rand(2, 3, 64, 64)}, "one reference for each target"),
    ],
)
def test_wrong_batches_refused_in_one_sentence(change: dict[str, object], said: str) -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 20:40, 20:40] = 1
    right: dict[str, object] = {name: torch.rand(1, 3, 64, 64) for name in ("output", "target", "reference", "draft")}
    with pytest.raises(RefbenchError, match=said):
        room.LocalConsistency().update(**{**right, "mask": mask, **change})

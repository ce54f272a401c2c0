"""Measuring costs what is missing, never more; and the tables do not tell how often it was stopped."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny import manifest, tiny

from refbench.errors import RefbenchError
from refbench.images import Image, save_png
from refbench.metrics.contract import card_hash
from refbench.metrics.measurer import Measurer
from refbench.runs import measure as stage
from refbench.runs.answers import AnswerStore, needed
from refbench.runs.api import measure, metric_state
from refbench.runs.executors.contract import Placement
from refbench.runs.folder import RunFolder
from refbench.runs.generate import pixels_sha256
from refbench.runs.progress import Silent
from refbench.schema import MetricCard, Refinement, SampleRecord, Score, Truth

from .test_generate import Noise, answered

SUITE = tiny(10)  # chunks of 8 and 2
METRICS = ("psnr", "mse", "background_mse", "seam")
Calls = list[tuple[tuple[str, ...], str]]


@pytest.fixture(scope="module")
def cards() -> dict[str, MetricCard]:
    found, unavailable = metric_state(METRICS)
    assert not unavailable
    return found


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """(metrics, sample) of everything that is measured."""
    seen: Calls = []
    real = Measurer.measure

    def measure(self: Measurer, truths: Sequence[Truth], outputs: Sequence[Image]) -> list[list[Score]]:
        seen.extend((tuple(self.cards), truth.id) for truth in truths)
        return real(self, truths, outputs)

    monkeypatch.setattr(Measurer, "measure", measure)
    return seen


class Half(Noise):
    """Half way from the draft to the opposite colour."""

    def one(self, inputs):  # type: ignore[no-untyped-def]
        if inputs.id in self.fail:
            return super().one(inputs)
        out = inputs.draft.copy()
        out[inputs.mask] = 255 - out[inputs.mask]
        return Refinement(inputs.id, out, 0.1)


def generated(path: Path, adapter: Noise | None = None) -> RunFolder:
    run = RunFolder(path)
    run.write_manifest(manifest(samples=SUITE.ids, suite_hash=SUITE.hash))
    answered(run, SUITE, (adapter or Half()).open)
    return run


def go(run: RunFolder, cards: dict[str, MetricCard], cache: Path | None, **options: object) -> bool:
    options = {"progress": Silent(), **options}
    return stage.measure(run, run.read_manifest(), SUITE, cards, cache=cache, **options)  # type: ignore[arg-type]


def test_scores_are_what_the_metrics_give(tmp_path: Path, cards: dict[str, MetricCard]) -> None:
    run = generated(tmp_path / "run", Half(fail=SUITE.ids[3:4]))
    assert go(run, cards, tmp_path / "cache")
    frame = pq.read_table(run.scores).to_pandas()
    assert list(dict.fromkeys(frame["sample"])) == [s for s in SUITE.ids if s != SUITE.ids[3]]
    sample = SUITE.ids[7]
    truth = SUITE.truth(sample)
    out = truth.draft.copy()  # type: ignore[union-attr]
    out[truth.mask] = 255 - out[truth.mask]
    error = (out.astype(float) - truth.target)[truth.mask] / 255
    row = frame[(frame["sample"] == sample) & (frame["metric"] == "mse")].iloc[0]
    assert row["value"] == pytest.approx(float((error**2).mean()), abs=1e-9)  # float64 sums in another order
    assert row["card"] == card_hash(cards["mse"])
    assert row["task"] == sample[:-4]
    assert list(dict.fromkeys(frame["metric"])) == list(METRICS)


def test_a_measured_run_is_left_alone(tmp_path: Path, cards: dict[str, MetricCard], calls: Calls) -> None:
    run = generated(tmp_path / "run")
    go(run, cards, tmp_path / "cache")
    before = run.scores.stat().st_mtime_ns
    calls.clear()
    assert not go(run, cards, tmp_path / "cache")
    assert calls == []
    assert run.scores.stat().st_mtime_ns == before


def test_new_metric_costs_its_own_measuring_only(tmp_path: Path, cards: dict[str, MetricCard], calls: Calls) -> None:
    whole, grown = generated(tmp_path / "whole"), generated(tmp_path / "grown")
    go(whole, cards, tmp_path / "cache")
    go(grown, {name: cards[name] for name in ("psnr", "seam")}, tmp_path / "cache")
    calls.clear()
    go(grown, cards, tmp_path / "cache")
    assert {metrics for metrics, _ in calls} == {("mse", "background_mse")}
    assert grown.scores.read_bytes() == whole.scores.read_bytes()
    assert grown.answers.read_bytes() == whole.answers.read_bytes()


def test_changed_card_costs_that_metric_only(
    tmp_path: Path, cards: dict[str, MetricCard], calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = generated(tmp_path / "run")
    go(run, cards, tmp_path / "cache")
    import refbench.metrics.pixel.error as module

    real = module.MSE.card
    monkeypatch.setattr(module.MSE, "card", lambda self: real(self).model_copy(update={"note": "defined anew"}))
    calls.clear()
    changed = metric_state(METRICS)[0]
    go(run, changed, tmp_path / "cache")
    assert {metrics for metrics, _ in calls} == {("mse",)}
    frame = pq.read_table(run.scores).to_pandas()
    assert set(frame[frame["metric"] == "mse"]["card"]) == {card_hash(changed["mse"])}
    assert len(frame) == len(SUITE) * len(METRICS)


def test_output_made_again_costs_that_sample_only(tmp_path: Path, cards: dict[str, MetricCard], calls: Calls) -> None:
    run = generated(tmp_path / "run")
    go(run, cards, tmp_path / "cache")
    sample = SUITE.sample(SUITE.ids[5])
    image = np.full_like(sample.draft, 77)
    save_png(run.output(sample.meta.task, sample.id), image)
    run.append_record(
        SampleRecord(id=sample.id, task=sample.meta.task, status="ok", seconds=0.1, sha256=pixels_sha256(image))
    )
    calls.clear()
    go(run, cards, tmp_path / "cache")
    assert calls == [(METRICS, sample.id)]


def test_output_that_edited_refused_by_name(tmp_path: Path, cards: dict[str, MetricCard]) -> None:
    run = generated(tmp_path / "run")
    path = run.output(SUITE.ids[2][:-4], SUITE.ids[2])
    save_png(path, SUITE.target(SUITE.ids[2]))
    with pytest.raises(RefbenchError, match=rf"{path.name} to be the picture that was recorded"):
        go(run, cards, None)


def test_half_generated_run_is_refused(tmp_path: Path, cards: dict[str, MetricCard]) -> None:
    run = generated(tmp_path / "run")
    lines = (run.path / "records.jsonl").read_bytes().splitlines(keepends=True)
    (run.path / "records.jsonl").write_bytes(b"".join(lines[:-3]))
    with pytest.raises(RefbenchError, match="3 are not generated yet"):
        go(run, cards, None)


@pytest.mark.parametrize("stop", [1, 3, 5, 8])
def test_stopped_at_any_measurement_tables_end_same(
    tmp_path: Path, cards: dict[str, MetricCard], monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    whole, torn = generated(tmp_path / "whole"), generated(tmp_path / "torn")
    go(whole, cards, None)
    real, count = Measurer.measure, 0

    def measure(self: Measurer, truths: Sequence[Truth], outputs: Sequence[Image]) -> list[list[Score]]:
        nonlocal count
        count += 1
        if count == stop:
            raise KeyboardInterrupt
        return real(self, truths, outputs)

    monkeypatch.setattr(Measurer, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        go(torn, cards, tmp_path / "cache")
    go(torn, cards, tmp_path / "cache")
    assert torn.scores.read_bytes() == whole.scores.read_bytes()
    assert torn.answers.read_bytes() == whole.answers.read_bytes()
    assert not (torn.path / ".parts").exists()


def test_second_model_measures_no_answer_again(tmp_path: Path, cards: dict[str, MetricCard], calls: Calls) -> None:
    first, second = generated(tmp_path / "first"), generated(tmp_path / "second", Noise())
    go(first, cards, tmp_path / "cache")
    answers = len(calls) - len(SUITE)
    assert answers == 4 * len(SUITE), "draft, paste, stretch and target of each sample"
    calls.clear()
    go(second, cards, tmp_path / "cache")
    assert calls == [(METRICS, sample) for sample in SUITE.ids]
    assert second.answers.read_bytes() == first.answers.read_bytes()


def test_worker_processes_give_the_same_tables(tmp_path: Path, cards: dict[str, MetricCard]) -> None:
    one, two = generated(tmp_path / "one"), generated(tmp_path / "two")
    go(one, cards, None)
    go(two, cards, tmp_path / "cache", placement=Placement(workers=2))
    assert two.scores.read_bytes() == one.scores.read_bytes()
    assert two.answers.read_bytes() == one.answers.read_bytes()


class TestAnswers:
    def test_pictures_that_metrics_ask_for(self, cards: dict[str, MetricCard]) -> None:
        hashes = {name: card_hash(card) for name, card in cards.items()}
        found = {(need.answer, need.metric) for need in needed(cards, hashes)}
        both = {(answer, name) for answer in ("draft", "target") for name in METRICS}
        assert found == both | {("paste", "seam"), ("stretch", "background_mse")}

    def test_broken_cache_made_again_and_told(self, tmp_path: Path, cards: dict[str, MetricCard]) -> None:
        (tmp_path / "answers.sqlite").write_bytes(b"not a database" * 100)
        store = AnswerStore(tmp_path)
        assert "made again" in str(store.note)
        hashes = {name: card_hash(card) for name, card in cards.items()}
        assert set(store.missing("h", ["a"], needed(cards, hashes))) == {"a"}
        store.close()
        assert AnswerStore(tmp_path).note is None

    def test_unwritable_cache_is_kept_in_memory(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        store = AnswerStore(tmp_path / "file")
        assert "keeps it in memory" in str(store.note)
        assert set(store.missing("h", ["a"], needed({}, {}))) == set()

    @pytest.mark.parametrize("failing", ["put", "rows", "missing"])
    def test_cache_that_fails_later_costs_only_time(
        self, tmp_path: Path, cards: dict[str, MetricCard], monkeypatch: pytest.MonkeyPatch, failing: str
    ) -> None:
        go(generated(tmp_path / "right"), cards, tmp_path / "fine")
        whole, calls = getattr(AnswerStore, failing), 0

        def full(self: AnswerStore, *arguments: object) -> object:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise sqlite3.OperationalError("database or disk is full")
            return whole(self, *arguments)

        monkeypatch.setattr(AnswerStore, failing, full)
        notes: list[str] = []
        monkeypatch.setattr(Silent, "note", lambda self, text: notes.append(text))
        go(generated(tmp_path / "run"), cards, tmp_path / "cache")
        assert (tmp_path / "run/answers.parquet").read_bytes() == (tmp_path / "right/answers.parquet").read_bytes()
        assert [note for note in notes if "disk is full" in note]

    def test_another_suite_or_card_measured_anew(self, tmp_path: Path, cards: dict[str, MetricCard]) -> None:
        run = generated(tmp_path / "run")
        go(run, cards, tmp_path / "cache")
        hashes = {name: card_hash(card) for name, card in cards.items()}
        store = AnswerStore(tmp_path / "cache")
        needs = needed(cards, hashes)
        assert store.missing(SUITE.hash, SUITE.ids, needs) == {}
        assert set(store.missing("0" * 64, SUITE.ids, needs)) == set(SUITE.ids)
        assert set(store.missing(SUITE.hash, SUITE.ids, needed(cards, {**hashes, "mse": "x"}))) == set(SUITE.ids)


def test_memory_holds_one_chunk(tmp_path: Path, cards: dict[str, MetricCard], monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded truths that are alive at once never exceed a chunk, however many samples there are."""
    import gc
    import weakref

    monkeypatch.setattr(stage, "CHUNK", 3)
    run = generated(tmp_path / "run")
    alive: set[int] = set()
    real: Callable[..., Truth] = type(SUITE).truth
    most = 0

    def truth(self: object, sample: str) -> Truth:
        nonlocal most
        found = real(self, sample)
        gc.collect()
        alive.add(id(found.target))
        weakref.finalize(found.target, alive.discard, id(found.target))
        most = max(most, len(alive))
        return found

    monkeypatch.setattr(type(SUITE), "truth", truth)
    go(run, cards, None)
    assert most <= stage.CHUNK + 1  # the suite itself keeps the last one it decoded


def test_answer_with_facts_is_no_image() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(RefbenchError, match="as output, but got a tuple"):
        measure((image, {"pose": "box"}), image)  # type: ignore[arg-type]

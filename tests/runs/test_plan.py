"""What a run is to do follows from the request alone, and another request is told apart."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import NOISE, adapter_file, manifest, tiny

from refbench.adapters.load import check_card, resolve
from refbench.errors import RefbenchError
from refbench.runs.folder import RunFolder
from refbench.runs.plan import RunOptions, batches, content_of, default_folder, model_slug, seed_for
from refbench.runs.resume import changed, refuse_other_run


class TestSeeds:
    def test_sample_has_its_own_seed_whatever_order(self) -> None:
        assert seed_for(0, "text-refine-007") == seed_for(0, "text-refine-007")
        assert seed_for(0, "text-refine-007") != seed_for(0, "text-refine-008")
        assert seed_for(0, "text-refine-007") != seed_for(1, "text-refine-007")

    def test_they_are_fixed_for_all_time(self) -> None:
        # Published outputs depend on these: first 4 bytes of SHA-256("refbench seed 0 text-refine-000"), shifted by 1.
        assert seed_for(0, "text-refine-000") == 0x1D6A759D

    @given(st.integers(0, 10**6), st.text(max_size=20))
    def test_they_fit_every_generator(self, seed: int, sample: str) -> None:
        assert 0 <= seed_for(seed, sample) < 2**31

    def test_they_are_spread_evenly(self) -> None:
        seeds = np.array([seed_for(0, f"s-{n:04d}") for n in range(2000)])
        assert len(set(seeds.tolist())) == 2000
        # Mean of 2,000 uniform numbers: standard error is range / sqrt(12 * 2000) = 0.65 % of the range.
        assert abs(seeds.mean() / 2**31 - 0.5) < 4 * 0.0065


@given(st.lists(st.integers(), max_size=30), st.integers(1, 7))
def test_batches_are_cut_at_fixed_places(ids: list[int], size: int) -> None:
    names = [str(n) for n in ids]
    cut = list(batches(names, size))
    assert [name for batch in cut for name in batch] == names
    assert all(len(batch) == size for batch in cut[:-1])


class TestFolders:
    @pytest.mark.parametrize(
        ("request_", "name"),
        [
            (RunOptions("identity", "tiny"), "identity"),
            (RunOptions("identity", "tiny", limit=4), "identity+limit-4"),
            (RunOptions("identity", "tiny", tasks=("logo-refine",)), "identity+logo-refine"),
            (RunOptions("identity", "tiny", seed=3), "identity+seed-3"),
            (RunOptions("identity", "tiny", device="cuda:1"), "identity+cuda-1"),
            (RunOptions("identity", "tiny", options={"steps": 8}), "identity+steps-8"),
        ],
    )
    def test_another_request_has_another_place(self, request_: RunOptions, name: str) -> None:
        assert default_folder(request_, tiny()) == Path("runs/tiny") / name

    def test_paths_become_plain_names(self, tmp_path: Path) -> None:
        file = adapter_file(tmp_path, NOISE, "my_model")
        assert model_slug(resolve(file)) == "my_model"
        assert model_slug(resolve(f"{file}:Model")) == "my_model-Model"
        (tmp_path / "run x" / "outputs").mkdir(parents=True)
        (tmp_path / "run x" / "outputs" / "a.png").write_bytes(b"")
        assert model_slug(resolve(tmp_path / "run x" / "outputs")) == "run-x"


class TestOtherRuns:
    def ours(self, request: RunOptions, **changes: object) -> None:
        suite = tiny()
        refuse_other_run(
            manifest(**{"samples": suite.ids, "suite_hash": suite.hash, "arguments": request.arguments, **changes}),
            request,
            suite,
            Path("here"),
        )

    def test_the_same_request_goes_on(self) -> None:
        same = RunOptions("identity", "tiny")
        self.ours(same)
        with pytest.raises(RefbenchError):
            self.ours(same, model="sharpen")

    def test_batch_size_and_workers_may_change(self) -> None:
        request = RunOptions("identity", "tiny")
        suite = tiny()
        old = manifest(
            samples=suite.ids, suite_hash=suite.hash, arguments={**request.arguments, "batch_size": 4, "workers": 2}
        )
        assert old.arguments != request.arguments
        refuse_other_run(old, request, suite, Path("here"))

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"suite_hash": "6" * 64}, "at here, but that run is of 'tiny' with hash 666666666666"),
            ({"model": "sharpen"}, "same model .* sharpen .* identity"),
            ({"seed": 1}, "same seed .* 1 .* 0"),
            ({"device": "cuda"}, "same device"),
        ],
    )
    def test_another_one_refused_with_both_values(self, changes: dict[str, object], words: str) -> None:
        with pytest.raises(RefbenchError, match=words):
            self.ours(RunOptions("identity", "tiny"), **changes)

    @pytest.mark.parametrize(
        "other", [RunOptions("identity", "tiny", limit=3), RunOptions("identity", "tiny", options={"a": 1})]
    )
    def test_other_arguments_are_refused(self, other: RunOptions) -> None:
        suite = tiny()
        old = manifest(samples=suite.ids, suite_hash=suite.hash, arguments=other.arguments)
        with pytest.raises(RefbenchError, match=r"same (limit|adapter options)"):
            refuse_other_run(old, RunOptions("identity", "tiny"), suite, Path("here"))

    def test_model_file_that_changed_is_refused(self, tmp_path: Path) -> None:
        file = adapter_file(tmp_path, NOISE)
        request = RunOptions(str(file), "tiny")
        suite = tiny()
        old = manifest(samples=suite.ids, suite_hash=suite.hash, model=str(file), arguments=request.arguments)
        refuse_other_run(old, request, suite, Path("here"))
        file.write_text(file.read_text() + "\n# better\n")
        assert not changed(old, request)
        assert changed(old, RunOptions(str(file), "tiny"))

    def test_folder_of_images_that_changed_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"1")
        before = content_of(resolve(tmp_path))
        (tmp_path / "a.png").write_bytes(b"12")
        assert content_of(resolve(tmp_path)) != before


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": -1}, {"seed": -1}])
def test_numbers_that_mean_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(RefbenchError, match="Expected"):
        RunOptions("identity", "tiny", **wrong)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, -float("inf")], {"a": float("nan")}, object()])
def test_options_that_json_has_not_refused(value: object) -> None:
    with pytest.raises(RefbenchError, match="finite numbers"):
        RunOptions("identity", "tiny", options={"a": value})


@pytest.mark.parametrize("field", ["model", "suite", "device", "options"])
def test_names_that_are_not_utf8_refused(field: str) -> None:
    given: dict[str, object] = {"model": "identity", "suite": "tiny"}
    bad = os.fsdecode(b"bad\xff")
    with pytest.raises(RefbenchError, match=r"UTF-8|Unknown model"):
        RunOptions(**{**given, field: {"a": bad} if field == "options" else bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
@pytest.mark.parametrize("field", ["arguments", "hardware"])
def test_manifest_with_no_finite_number_refused(tmp_path: Path, field: str, number: str) -> None:
    text = manifest(**{field: {"a": {"b": [1, 0]}}}).model_dump_json().replace("[1,0]", f"[1,{number}]")
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RefbenchError, match=rf"{field}.*finite number at 'a.b.1'"):
        RunFolder(tmp_path).read_manifest()


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -0.01])
def test_card_has_price_or_none(tmp_path: Path, price: float) -> None:
    card = {"name": "x", "summary": "s", "price_per_image_usd": price}
    with pytest.raises(RefbenchError, match="price_per_image_usd"):
        check_card(card, "x")


def test_weights_that_an_option_names_are_of_the_model_s_content(tmp_path: Path) -> None:
    model = resolve("omnirefiner")
    weights = tmp_path / "own" / "stage1.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"\0" * 3_000_000)
    asked = {"checkpoint": str(weights.parent)}
    assert content_of(model) is content_of(model, {"checkpoint": "a/hub-id"}) is None
    before = content_of(model, asked)
    assert before == content_of(model, asked)
    (weights.parent / "notes.txt").write_text("read by nobody")
    assert content_of(model, asked) == before
    weights.write_bytes(b"\0" * 2_999_999 + b"\1")
    assert content_of(model, asked) != before
    assert content_of(resolve("omnirefiner-sft"), asked) != content_of(model, asked)

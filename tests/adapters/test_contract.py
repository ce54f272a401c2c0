from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refbench.adapters.contract import (
    Adapter,
    FailedError,
    RefusedError,
    StopError,
    answered,
    failed,
    normalise_output,
    told,
)
from refbench.adapters.identity import Identity
from refbench.adapters.registry import MODELS
from refbench.errors import RefbenchError
from refbench.plaintext import one_line
from refbench.schema import AdapterCard, Inputs, SampleRecord

images = hnp.arrays(np.uint8, st.tuples(st.integers(4, 9), st.integers(4, 9), st.just(3)))


def _inputs(image: np.ndarray[Any, Any]) -> Inputs:
    return Inputs("s", image, image, np.ones(image.shape[:2], bool), "")


@settings(deadline=None)  # the first example imports torch
@given(images)
def test_every_form_of_image_is_accepted(image: np.ndarray[Any, Any]) -> None:
    import torch
    from PIL import Image

    inputs = _inputs(image)
    tensor = torch.from_numpy(image.copy())
    for form in (
        image,
        Image.fromarray(image),
        Image.fromarray(image).convert("RGBA"),
        (image / 255),
        (image / 255).astype(np.float32),
        image[None],
        tensor,
        tensor.permute(2, 0, 1),
        (tensor / 255).permute(2, 0, 1)[None],
        image[::1, ::1][:, :, ::-1][:, :, ::-1],
    ):
        out = normalise_output(form, inputs)
        assert out.dtype == np.uint8
        assert out.flags.c_contiguous
        np.testing.assert_array_equal(out, image)


def test_half_precision_is_within_its_rounding() -> None:
    import torch

    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    out = normalise_output((torch.from_numpy(image) / 255).bfloat16(), _inputs(image))
    assert np.abs(out.astype(int) - image).max() <= 1  # bfloat16 has 8 bits of significand


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda d: None, "returned nothing"),
        (lambda d: "picture.png", "returned str"),
        (lambda d: d[:-2], "6 x 4 px"),
        (lambda d: d[..., 0], "shape is (6, 6)"),
        (lambda d: np.dstack([d, d[..., :1]]), "three channels"),
        (lambda d: d.astype(np.int64), "dtype is int64"),
        (lambda d: d.astype(np.float32), "in [0, 1]"),
        (lambda d: 1 - d / 255 * 2, "span [-0.5686"),
        (lambda d: np.full(d.shape, np.nan), "108 of 108 are NaN"),
        (lambda d: np.full(d.shape, np.inf), "infinite"),
        (lambda d: np.full(d.shape, "a"), "dtype is <U1"),
    ],
)
def test_wrong_answer_told_in_one_sentence(answer: Callable[[Any], Any], words: str) -> None:
    image = np.full((6, 6, 3), 200, np.uint8)
    with pytest.raises(RefbenchError) as error:
        normalise_output(answer(image), _inputs(image))
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_price_and_failure_stay_typed() -> None:
    price, facts = told({"price_usd": np.float32(0.25), "pose": "boxes", "nested": {}, "calls": np.int64(3)})
    assert (price, facts) == (0.25, {"pose": "boxes", "calls": 3})
    assert told({"price_usd": "much"}) == (None, {})
    error = FailedError("No.", {"price_usd": 0.5, "attempts": 2})
    assert (error.price_usd, error.facts) == (0.5, {"attempts": 2})
    inputs = _inputs(np.zeros((4, 4, 3), np.uint8))
    refinement = failed(inputs, 1.5, "refused", "It declined.", error.price_usd, error.facts)
    assert refinement.recorded == {"attempts": 2, "price_usd": 0.5, "failure": "refused"}
    record = SampleRecord(id="s", task="t", status="refused", seconds=1.5, extra=refinement.recorded)
    assert SampleRecord.model_validate_json(record.model_dump_json()).price_usd == 0.5
    assert SampleRecord(id="s", task="t", status="ok", seconds=1, extra={"price_usd": None}).price_usd is None
    with pytest.raises(RefusedError, match="declined") as caught:
        answered(refinement)
    assert (caught.value.price_usd, caught.value.facts) == (0.5, {"attempts": 2})
    with pytest.raises(StopError, match="Spent"):
        answered(failed(inputs, 0, "stop", "Spent."))


@given(st.text(max_size=500))
def test_foreign_text_is_printable_and_short(text: str) -> None:
    line = one_line(text, 80)
    assert len(line) <= 80
    assert line.isprintable()


def test_builtin_models_are_adapters_with_complete_cards() -> None:
    assert isinstance(Identity(), Adapter)
    for name in ("identity", "reference-paste", "sharpen", "warp-blend", "texture-transfer"):
        card = MODELS.load(name).card
        assert isinstance(card, AdapterCard)
        assert card.name == name
        assert card.licence == "Apache-2.0"
        assert card.deterministic

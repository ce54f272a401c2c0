"""`openai-images` against a local server that speaks each dialect of ``/images/edits``."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refbench.adapters.contract import Account, FailedError, RefusedError, StopError
from refbench.adapters.load import load_card, open_contained
from refbench.adapters.ready import readiness
from refbench.adapters.web import calling
from refbench.adapters.web.openai_images import DIALECTS, OpenAIImages
from refbench.errors import RefbenchError
from refbench.schema import Inputs

from .edits_server import Server, serving
from .image_service import opened, png

KEY = "sk-own-3b1f"
VARIABLE = OpenAIImages.variable
Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "BACK_OFF_S", 0.01)
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def inputs() -> Inputs:
    """A draft whose colours tell its places, at the size it is sent in, and a reference of one colour."""
    y, x = np.mgrid[:96, :128].astype(float)
    draft = np.stack([x * 1.9, y * 2.5, x + y], axis=2).astype(np.uint8)
    mask = np.zeros((96, 128), bool)
    mask[32:64, 48:96] = True
    return Inputs("s-001", draft, np.full((64, 64, 3), (20, 200, 90), np.uint8), mask, "Restore the label", None, 3)


def made(server: Server, folder: Path | None = None, **options: Any) -> OpenAIImages:
    found = OpenAIImages(
        base_url=server.url, model="served", size=112, requests_per_minute=0, **{"dialect": server.dialect, **options}
    )
    if folder is not None:
        found.use_account(Account(folder))
    found.setup()
    return found


def put_right(image: Array, inputs: Inputs) -> bool:
    """Whether the answer is the draft inverted inside the mask and nowhere else, but for the mask's edge."""
    wanted = np.where(inputs.mask[..., None], 255 - inputs.draft.astype(int), inputs.draft)
    far = np.zeros_like(inputs.mask)
    far[36:60, 54:90] = True
    far[:26], far[70:], far[:, :40], far[:, 104:] = True, True, True, True
    return bool(np.abs(image.astype(int) - wanted)[far].max() <= 8)


def mask_sent(server: Server) -> Array:
    return server.seen[0].of("mask_image" if server.dialect == "vllm-omni" else "mask")[0]


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_pictures_arrive_in_each_dialect(dialect: str, inputs: Inputs) -> None:
    with serving(dialect, DIALECTS[dialect].mask) as server:
        image, facts = made(server).refine(inputs)
    (seen,) = server.seen
    assert put_right(image, inputs)
    assert (seen.fields["model"], seen.key, facts["price_usd"]) == ("served", None, 0.0)
    draft, *others = seen.of("image")
    assert np.abs(draft.astype(int) - inputs.draft).max() <= 3
    reference = seen.of("reference_image") if dialect == "vllm-omni" else others[:1]
    assert (reference[0] == (20, 200, 90)).all()
    names = {
        "openai": ["image[]", "image[]", "mask"], "litellm": ["image[]", "image[]", "mask"],
        "vllm-omni": ["image", "reference_image", "mask_image"], "sglang": ["image", "image", "image"],
    }  # fmt: skip
    assert [name for name, _ in seen.files] == names[dialect]
    assert (seen.fields.get("seed"), seen.fields.get("response_format")) == (
        ("3", "b64_json") if dialect in ("vllm-omni", "sglang") else (None, None)
    )
    assert seen.fields["prompt"] == "Restore the label" or "second image is a reference" in seen.fields["prompt"]


@pytest.mark.parametrize("form", ["alpha", "white", "black"])
@pytest.mark.parametrize("dialect", ["openai", "litellm", "vllm-omni"])
def test_polarity_of_mask_is_option(dialect: str, form: str, inputs: Inputs) -> None:
    with serving(dialect, form) as server:
        image, _ = made(server, mask=form).refine(inputs)
    assert put_right(image, inputs)
    sent = mask_sent(server)
    inside, outside = sent[48, 70], sent[5, 5]
    if form == "alpha":
        assert (inside[3], outside[3]) == (0, 255)
    else:
        assert (inside.tolist(), outside.tolist()) == (
            ([255] * 3, [0] * 3) if form == "white" else ([0] * 3, [255] * 3)
        )


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_mask_may_be_picture_or_stay_away(dialect: str, inputs: Inputs) -> None:
    with serving(dialect, "picture") as server:
        image, _ = made(server, mask="picture", pictures="several").refine(inputs)
        assert put_right(image, inputs)
        assert len(server.seen[0].of("image")) == 3
        assert "third image is a mask of it: white is the region" in server.seen[0].fields["prompt"]
    with serving(dialect, "none") as server:
        image, _ = made(server, mask="none").refine(inputs)
        assert np.abs(image.astype(int) - inputs.draft).max() <= 6
        assert not server.seen[0].of("mask")
        assert not server.seen[0].of("mask_image")


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_one_picture_is_a_canvas(dialect: str, inputs: Inputs) -> None:
    form = DIALECTS[dialect].mask
    with serving(dialect, form) as server:
        image, facts = made(server, pictures="one").refine(inputs)
    assert image.shape == inputs.draft.shape
    assert put_right(image, inputs)
    canvas = server.seen[0].of("image")[0]
    assert (canvas[:, -20:] == (20, 200, 90)).all()
    assert facts["answer_size"] == f"{canvas.shape[1]}x{canvas.shape[0]}"
    assert len(server.seen[0].of("image")) == (2 if form == "picture" else 1)
    assert "The left part of the picture is a draft" in server.seen[0].fields["prompt"]


@pytest.mark.parametrize("link", ["relative", "absolute", "data"])
@pytest.mark.parametrize("dialect", ["openai", "litellm", "sglang"])
def test_answer_by_url_fetched_and_kept(
    dialect: str, link: str, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    with serving(dialect, DIALECTS[dialect].mask, key=KEY, link=link) as server:
        for _ in range(2):
            image, facts = made(server, tmp_path / "responses", answer="url", price_usd=0.02).refine(inputs)
            assert put_right(image, inputs)
        assert (facts["kept_before"], facts["price_usd"]) == (True, 0.02)
    assert (len(server.seen), server.seen[0].key) == (1, KEY)
    assert server.fetched == ([] if link == "data" else [KEY])
    kept = (tmp_path / "responses" / f"{facts['response']}.body").read_text()
    assert base64.b64encode(server.picture).decode() in kept
    assert KEY not in "".join(path.read_text() for path in (tmp_path / "responses").glob("*.json*"))


@pytest.mark.parametrize(
    ("link", "words"), [("gone", "came with HTTP 404, 2 times"), ("elsewhere", "an address that is not https")]
)
def test_picture_that_cannot_be_fetched_fails_its_sample(
    link: str, words: str, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    with serving("sglang", "picture", link=link) as server:
        with pytest.raises(FailedError, match=words) as caught:
            made(server, answer="url", price_usd=0.02, attempts=2).refine(inputs)
        assert caught.value.price_usd == pytest.approx(0.04)  # each answer was made, and may have cost
        assert (len(server.seen), len(server.fetched)) == (2, 2 if link == "gone" else 0)


def test_faults_are_told_in_servers_words(inputs: Inputs) -> None:
    with serving("vllm-omni", "white") as server:
        with pytest.raises(FailedError, match=r"HTTP 400: Model mismatch: request specifies 'other'"):
            OpenAIImages(base_url=server.url, model="other", dialect="vllm-omni", size=112).refine(inputs)
        with pytest.raises(FailedError, match="Only response_format 'b64_json' is supported"):
            made(server, answer="url").refine(inputs)
        server.error = 500, {"detail": "Image edit failed: out of memory"}
        made(server).refine(inputs)  # tried again
        with pytest.raises(StopError, match="HTTP 404"):
            OpenAIImages(base_url=server.url.removesuffix("/v1"), dialect="vllm-omni", size=112).refine(inputs)
    with serving("litellm", "alpha") as server:
        server.error = 400, {"error": {"message": "Blocked.", "type": "None", "code": "content_policy_violation"}}
        with pytest.raises(RefusedError, match="content_policy_violation"):
            made(server).refine(inputs)
    with serving("sglang", "picture", key=KEY) as server, pytest.raises(StopError, match=f"the key in {VARIABLE}"):
        made(server).refine(inputs)


def test_further_fields_and_instruction_are_sent(inputs: Inputs) -> None:
    with serving("sglang", "picture") as server:
        made(server, fields="num_inference_steps=8, true_cfg_scale=4", instruction="Do it: {prompt}!").refine(inputs)
    sent = server.seen[0].fields
    assert (sent["num_inference_steps"], sent["true_cfg_scale"]) == ("8", "4")
    assert sent["prompt"] == "Do it: Restore the label!"


def test_it_sends_what_official_client_sends(inputs: Inputs) -> None:
    openai = pytest.importorskip("openai")
    with serving("openai", "alpha") as server:
        made(server, instruction="{prompt}").refine(inputs)
        ours = server.seen.pop()
        files = [(f"{n}.png", io.BytesIO(png(picture)), "image/png") for n, (_, picture) in enumerate(ours.files)]
        answer = openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0).images.edit(
            model="served", image=files[:2], mask=files[2], prompt="Restore the label", size=ours.fields["size"], n=1
        )
    theirs = server.seen.pop()
    assert theirs.fields == ours.fields
    assert [name for name, _ in theirs.files] == [name for name, _ in ours.files]
    assert all((a == b).all() for (_, a), (_, b) in zip(theirs.files, ours.files, strict=True))
    assert opened(base64.b64decode(answer.data[0].b64_json)).shape == ours.files[0][1].shape


def test_it_runs_behind_wall_within_its_budget(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    with serving("vllm-omni", "white", key=KEY) as server:
        options = {"base_url": server.url, "model": "served", "dialect": "vllm-omni", "size": 112, "price_usd": 0.02}
        account = Account(tmp_path / "responses", 0.03)
        with open_contained("openai-images", options=options, account=account) as adapter:
            assert (adapter.pays, adapter.card.price_per_image_usd) == (True, 0.02)
            first, second = adapter.refine_batch([inputs, Inputs("t", *_moved(inputs), "Restore", None, 4)])
    assert (first.price_usd, first.failure) == (0.02, None)
    assert first.image is not None
    assert put_right(first.image, inputs)
    assert (second.image, second.failure) == (None, "stop")
    assert "--max-cost" in str(second.error)


def _moved(inputs: Inputs) -> tuple[Array, Array, Array]:
    return inputs.draft[::-1].copy(), inputs.reference, inputs.mask[::-1].copy()


def test_plain_http_never_carries_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    served = OpenAIImages(base_url="http://node7:8000/v1", model="Qwen/Qwen-Image-Edit-2511", paste_back=True).card
    assert served.name == "openai-images+Qwen-Image-Edit-2511+paste-back"
    assert served.summary.endswith("; outside the mask the draft.")
    monkeypatch.setenv(VARIABLE, KEY)
    with pytest.raises(RefbenchError, match="https URL as base_url"):
        OpenAIImages(base_url="http://node7:8000/v1", model="m", price_usd=0)
    with pytest.raises(RefbenchError, match="what one answer costs"):
        OpenAIImages(base_url="https://node7:8000/v1", model="m")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "none was given; -o base_url="),
        ({"dialect": "vllm"}, "dialect to be one of openai, litellm, vllm-omni, sglang"),
        ({"mask": "grey"}, "mask to be one of alpha, white, black, picture, none"),
        ({"pictures": "two"}, "pictures to be one of several, reference, one"),
        ({"fields": "steps"}, "name=value,name=value, but 'steps' came"),
        ({"size": 4}, "size to be a whole number of at least 16"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RefbenchError, match=words):
        OpenAIImages(**({"base_url": "http://localhost:1/v1"} if options else {}), **options)


def test_its_card_names_no_model_and_no_price() -> None:
    card = load_card("openai-images")
    assert (card.needs_network, card.deterministic, card.price_per_image_usd) == (True, False, None)
    assert "no endpoint" in str(readiness("openai-images"))

"""The web services against a local server that speaks their documented formats, faults included."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refbench.adapters import editing
from refbench.adapters.contract import Account, FailedError, RefusedError, StopError
from refbench.adapters.web import calling
from refbench.adapters.web import service as module
from refbench.adapters.web.ledger import Ledger, content_key, spent
from refbench.adapters.web.openai_images import GPTImage
from refbench.adapters.web.service import WebEditor
from refbench.adapters.web.services import GeminiImage, Seedream
from refbench.errors import RefbenchError, UnavailableError
from refbench.schema import Inputs

from .image_service import KEY, Service, serving

KINDS: dict[str, type[WebEditor]] = {"gemini": GeminiImage, "openai": GPTImage, "ark": Seedream}
SMALLER = 8
PRICES = {"gemini": 0.0779, "openai": 0.07218, "ark": 0.03}
"""Of the server's answers by the prices of a million tokens: gemini (1000 x 0.50 + 1290 x 60) / 1e6, openai
(100 x 5 + 5000 x 8 + 1056 x 30) / 1e6, ark a fixed price an image."""


@pytest.fixture(params=list(KINDS))
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(calling, "BACK_OFF_S", 0.01)
    whole = KINDS[request.param].size
    prepared = editing.prepare
    monkeypatch.setattr(
        module, "prepare", lambda inputs, options: prepared(inputs, dataclasses.replace(options, size=1024 // SMALLER))
    )
    monkeypatch.setattr(  # the service's own sizes take seconds to encode; one test has them
        KINDS[request.param], "size", lambda self, size: tuple(side // SMALLER for side in whole(self, size))
    )
    with serving(request.param) as found:
        found.smaller = SMALLER
        monkeypatch.setenv(KINDS[found.kind].variable, KEY)
        yield found


@pytest.fixture
def inputs() -> Inputs:
    """Smooth pictures, so that going to another size and back changes little."""
    y, x = np.mgrid[:48, :72].astype(float)
    draft = np.stack([x * 3, y * 4, x + y], axis=2).astype(np.uint8)
    mask = np.zeros((48, 72), bool)
    mask[16:32, 24:48] = True
    reference = np.ascontiguousarray(draft[::-1, :60])
    return Inputs("s-001", draft, reference, mask, "Restore the label from the reference", (5, 6, 20, 15), 3)


def editor(service: Service, folder: Path | None = None, **options: Any) -> WebEditor:
    limit = options.pop("max_cost_usd", None)
    made = KINDS[service.kind](base_url=service.url, requests_per_minute=0, **options)
    if folder is not None:
        made.use_account(Account(folder, limit, options.pop("again", False)))
    made.setup()
    return made


def price(kind: str) -> Any:
    return pytest.approx(PRICES[kind], abs=1e-6)


def inverted_inside(image: np.ndarray[Any, Any], inputs: Inputs) -> bool:
    """Whether the answer of the server has come back in place: inverted in the middle of the mask, and not around."""
    inner = np.zeros_like(inputs.mask)
    inner[20:28, 28:44] = True
    difference = np.abs(image.astype(int) - np.where(inner[..., None], 255 - inputs.draft.astype(int), inputs.draft))
    outer = ~inputs.mask
    outer[13:35, 21:51] = False
    return bool(difference[inner].max() <= 6 and difference[outer].max() <= 6)


def test_pictures_arrive_in_their_slots(service: Service, inputs: Inputs) -> None:
    image, facts = editor(service).refine(inputs)
    (seen,) = service.seen
    assert len(seen.pictures) == 3
    # the draft gets redder to the right and greener downwards; the reference, upside down, less green downwards
    draft, reference = seen.pictures[0].astype(int), seen.pictures[1].astype(int)
    assert draft[-4, :, 1].mean() > draft[4, :, 1].mean() + 100
    assert reference[-4, :, 1].mean() < reference[4, :, 1].mean() - 100
    assert inputs.prompt in seen.text
    assert image.shape == inputs.draft.shape
    assert inverted_inside(image, inputs)
    assert facts["price_usd"] == price(service.kind)


@pytest.mark.parametrize(
    ("kind", "shape", "size"),
    [
        ("gemini", (300, 400), (864, 1184)),
        ("gemini", (500, 330), (1248, 832)),
        ("openai", (300, 400), (1024, 1536)),
        ("openai", (350, 350), (1024, 1024)),
        ("ark", (300, 400), (880, 1184)),
    ],
)
def test_draft_has_the_services_size(
    kind: str, shape: tuple[int, int], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KINDS[kind].variable, KEY)
    mask = np.zeros(shape, bool)
    mask[100:200, 100:200] = True
    draft = np.full((*shape, 3), 90, np.uint8)
    with serving(kind) as service:
        image, facts = editor(service).refine(Inputs("s", draft, draft, mask, "Restore it", None, 0))
    assert service.seen[0].pictures[0].shape[:2] == size
    assert service.seen[0].pictures[2].shape[:2] == size
    assert facts["answer_size"] == f"{size[1]}x{size[0]}"
    assert image[150, 150].tolist() == [165] * 3


def test_answer_comes_back_to_drafts_size(service: Service, inputs: Inputs) -> None:
    service.size = (600, 900)
    image, facts = editor(service).refine(inputs)
    assert facts["answer_size"] == "900x600"
    assert inverted_inside(image, inputs)


def test_paste_back_and_focus(service: Service, inputs: Inputs) -> None:
    made = editor(service, focus=True, paste_back=True)
    image, _ = made.refine(inputs)
    assert np.array_equal(image[~inputs.mask], inputs.draft[~inputs.mask])
    assert not np.array_equal(image, inputs.draft)
    height, width = service.seen[0].pictures[0].shape[:2]
    assert height == width
    assert made.card.name.endswith("+focus+paste-back")


@pytest.mark.parametrize(
    "faults",
    [[(429, {"Retry-After": "0"}, None)], [500], [503, 500], ["cut"], ["malformed"], ["no picture"], [500, "cut", 429]],
    ids=str,
)
def test_faults_that_pass_are_tried_again(service: Service, inputs: Inputs, faults: list[Any], tmp_path: Path) -> None:
    service.faults.extend(faults)
    image, facts = editor(service, tmp_path / "responses").refine(inputs)
    assert inverted_inside(image, inputs)
    assert facts["attempts"] == len(faults) + 1
    # an answer that was lost or could not be read may have cost money: it counts with its highest price
    lost = sum(fault in ("cut", "malformed", "no picture") for fault in faults)
    most = editor(service).price.most
    assert most >= PRICES[service.kind]
    assert facts["price_usd"] == pytest.approx(lost * most + PRICES[service.kind], abs=0.0004)
    assert spent(tmp_path / "responses") == pytest.approx(facts["price_usd"], abs=1e-5)


def test_slow_service_left_and_asked_again(service: Service, inputs: Inputs) -> None:
    service.faults.append("slow")
    image, facts = editor(service, timeout_s=0.8).refine(inputs)
    assert inverted_inside(image, inputs)
    assert facts["attempts"] == 2


def test_lasting_fault_fails_the_sample(service: Service, inputs: Inputs) -> None:
    service.faults.extend(["malformed"] * 3)
    with pytest.raises(FailedError, match="its answer is no JSON object, 3 times") as caught:
        editor(service, attempts=3).refine(inputs)
    assert caught.value.facts["attempts"] == 3
    service.faults.append(400)
    with pytest.raises(FailedError, match="does not take the request"):
        editor(service).refine(inputs)


def test_sample_keeps_to_its_time(service: Service, inputs: Inputs) -> None:
    service.faults.extend([500] * 4)
    made = editor(service, timeout_s=600)
    with pytest.raises(FailedError) as caught:
        made.refine(inputs)
    assert caught.value.facts["attempts"] == 1  # a second one could end too late


def test_the_price_follows_quality_and_fidelity() -> None:
    """By hand: (600 x 5 + 9,520 x 8 + 1,767 x 30) / 1e6, and of gpt-image-1.5 1,056 x 32 for the answer."""
    assert GPTImage().card.price_per_image_usd == GPTImage.card.price_per_image_usd == 0.132
    assert GPTImage(model="gpt-image-1.5").card.price_per_image_usd == 0.113
    assert GPTImage(quality="high").price.most > GPTImage().price.most
    older = {"model": "gpt-image-1.5"}
    assert GPTImage(**older).price.most > GPTImage(**older, input_fidelity="low").price.most
    for made in (GPTImage, GeminiImage):
        assert made.prices[made.default_model].per_image == made.card.price_per_image_usd
        assert all(price.per_image <= price.most for price in made.prices.values())
    assert GPTImage(price_usd=0.5, quality="low").card.price_per_image_usd == 0.5


def test_retry_after_is_honoured(service: Service, inputs: Inputs) -> None:
    service.faults.append((429, {"Retry-After": "0.6"}, None))
    editor(service).refine(inputs)
    assert service.times[1] - service.times[0] >= 0.6


def test_long_wait_stops_the_run(service: Service, inputs: Inputs) -> None:
    service.faults.append((429, {"Retry-After": "3600"}, None))
    with pytest.raises(StopError, match="asks to wait 3600 s"):
        editor(service).refine(inputs)
    service.faults.extend([429] * 2)
    with pytest.raises(StopError, match="requests_per_minute"):
        editor(service, attempts=2).refine(inputs)


def test_back_off_grows_with_seeded_jitter(service: Service, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(calling, "BACK_OFF_S", 1.0)
    monkeypatch.setattr(calling.time, "sleep", lambda seconds: waits.append(seconds) if seconds else None)
    for _ in range(2):
        service.faults.extend([500] * 4)
        editor(service).refine(inputs)
    first, second = waits[:4], waits[4:]
    assert first == second
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(first))


def test_refusal_is_told_apart_and_kept(service: Service, inputs: Inputs, tmp_path: Path) -> None:
    service.faults.append("refuse")
    for _ in range(2):
        with pytest.raises(RefusedError, match="it refused") as caught:
            editor(service, tmp_path / "responses").refine(inputs)
        assert caught.value.price_usd is not None
        assert caught.value.price_usd < 0.001
    assert len(service.seen) == 1
    again = editor(service, tmp_path / "responses")
    again.use_account(Account(tmp_path / "responses", None, True))
    again.setup()
    image, _ = again.refine(inputs)
    assert inverted_inside(image, inputs)


def test_answer_is_paid_for_once(service: Service, inputs: Inputs, tmp_path: Path) -> None:
    first, told = editor(service, tmp_path / "responses").refine(inputs)
    second, facts = editor(service, tmp_path / "responses").refine(inputs)
    assert np.array_equal(first, second)
    assert len(service.seen) == 1
    assert facts["kept_before"] is True
    assert facts["price_usd"] == told["price_usd"]
    other = Inputs(inputs.id, inputs.draft, inputs.reference, ~inputs.mask, inputs.prompt, None, 0)
    editor(service, tmp_path / "responses").refine(other)
    assert len(service.seen) == 2


def test_raw_answer_is_kept_even_broken(service: Service, inputs: Inputs, tmp_path: Path) -> None:
    service.faults.append("malformed")
    _, facts = editor(service, tmp_path / "responses").refine(inputs)
    kept = tmp_path / "responses" / f"{facts['response']}.body"
    assert json.loads(kept.read_bytes())
    assert (tmp_path / "responses" / f"{facts['response']}.fault-1.body").stat().st_size > 100


def test_wrong_key_stops_unshown(service: Service, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KINDS[service.kind].variable, "sk-wrong-77c1")
    with pytest.raises(StopError, match="does not accept the key in") as caught:
        editor(service).refine(inputs)
    assert "sk-wrong" not in str(caught.value)
    assert len(service.times) == 1


@pytest.mark.parametrize("status", [402, 403, 404, 307])
def test_what_no_sample_can_pass_stops_run(service: Service, inputs: Inputs, status: int) -> None:
    service.faults.append((status, {"Location": "http://127.0.0.1:1/"}, None))
    with pytest.raises(StopError) as caught:
        editor(service).refine(inputs)
    assert KEY not in str(caught.value)
    assert len(service.times) == 1


def test_service_that_cannot_be_reached_stops_run(monkeypatch: pytest.MonkeyPatch, inputs: Inputs) -> None:
    monkeypatch.setattr(calling, "BACK_OFF_S", 0.01)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    made = GeminiImage(base_url="http://127.0.0.1:9", attempts=2, requests_per_minute=0)
    with pytest.raises(StopError, match="cannot be reached"):
        made.refine(inputs)


def test_budget_is_checked_before_request(service: Service, inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(StopError, match="--max-cost"):
        editor(service, tmp_path / "responses", max_cost_usd=0.01).refine(inputs)
    assert service.times == []


@pytest.mark.parametrize("model", ["gpt-image-2", "gpt-image-2.5-flare", "gpt-image-1.5", "gpt-image-1-mini"])
def test_fidelity_sent_to_model_that_takes_it(model: str, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving("openai") as service:
        editor(service, model=model).refine(inputs)
    assert service.seen[0].options["model"] == model
    assert service.seen[0].options.get("input_fidelity") == ("high" if model == "gpt-image-1.5" else None)


@pytest.mark.parametrize("model", [*Seedream.prices, "seedream-5-0-pro-260628"])
def test_seedream_gets_only_fields_of_its_version(model: str, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARK_API_KEY", KEY)
    known = {} if model in Seedream.prices else {"price_usd": 0.12}
    with serving("ark") as service:
        editor(service, model=model, **known).refine(inputs)
    sent = service.seen[0].options
    newer = "5-5" in model or "pro" in model
    assert ("stream" in sent, "sequential_image_generation" in sent) == ((False, False) if newer else (True, True))
    width, height = map(int, sent["size"].split("x"))
    assert width * height <= 2048 * 2048 or not newer


def test_a_spent_quota_stops_the_run(monkeypatch: pytest.MonkeyPatch, inputs: Inputs) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving("openai") as service:
        error = {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}
        service.faults.append((429, {}, error))
        with pytest.raises(StopError, match="no money left"):
            editor(service).refine(inputs)


def test_gemini_says_in_body_how_long_to_wait(monkeypatch: pytest.MonkeyPatch, inputs: Inputs) -> None:
    monkeypatch.setattr(calling, "BACK_OFF_S", 0.01)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    with serving("gemini") as service:
        detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.5s"}
        error = {"error": {"code": 429, "message": "Slow", "status": "RESOURCE_EXHAUSTED", "details": [detail]}}
        service.faults.append((429, {}, error))
        editor(service).refine(inputs)
        assert service.times[1] - service.times[0] >= 0.5
        error["error"]["details"] = [{"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]}]
        service.faults.append((429, {}, error))
        with pytest.raises(StopError, match="tomorrow"):
            editor(service).refine(inputs)


def test_a_blocked_prompt_is_a_refusal(monkeypatch: pytest.MonkeyPatch, inputs: Inputs) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    with serving("gemini") as service:
        service.faults.append((200, {}, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}))
        with pytest.raises(RefusedError, match="PROHIBITED_CONTENT"):
            editor(service).refine(inputs)


def test_pace_kept_by_all_processes_of_run(tmp_path: Path) -> None:
    account = Account(tmp_path / "responses")
    waits = [Ledger(account).wait_for_slot(60) for _ in range(3)]
    assert waits[0] == 0
    assert waits[1] == pytest.approx(1, abs=0.2)
    assert waits[2] == pytest.approx(2, abs=0.2)
    assert Ledger(None).wait_for_slot(0) == 0


def test_request_whose_end_nobody_saw_stays_counted(tmp_path: Path) -> None:
    ledger = Ledger(Account(tmp_path, 0.10))
    ledger.reserve(0.04, "a", "k")  # killed here
    ledger.settle(ledger.reserve(0.04, "b", "k"), 0.01)
    assert spent(tmp_path) == pytest.approx(0.05)
    ledger.settle(ledger.reserve(0.05, "c", "k"), 0.05)
    with pytest.raises(StopError, match="sample 'd'"):
        ledger.reserve(0.001, "d", "k")
    with (tmp_path / "ledger.jsonl").open("ab") as handle:
        handle.write(b'{"name": "cut')
    assert spent(tmp_path) == pytest.approx(0.10)


def test_content_of_request_decides_its_key(inputs: Inputs) -> None:
    def key(**changes: Any) -> str:
        pictures = {"draft": inputs.draft, "mask": inputs.mask, **changes}
        return content_key({"model": "a", "text": "b"}, pictures)

    changed = inputs.draft.copy()
    changed[0, 0, 0] ^= 1
    assert key() == key(draft=inputs.draft.copy())
    assert len({key(), key(draft=changed), key(mask=~inputs.mask)}) == 3


@pytest.mark.parametrize("text", ["", "  ", "a b", "key\nInjected: header", "schlüssel"])
def test_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", text)
    with pytest.raises((RefbenchError, UnavailableError), match="GEMINI_API_KEY") as caught:
        GeminiImage().setup()
    assert not text.strip() or text.strip() not in str(caught.value)
    if not text.strip():
        assert "GEMINI_API_KEY" in (GeminiImage.ready() or "") or text == "  "


@pytest.mark.parametrize(
    "url",
    ["http://example.org/v1", "https://user:pass@example.org", "https://example.org/?key=1", "ftp://x", "example.org"],
)
def test_base_url_showing_keys_is_refused(url: str) -> None:
    with pytest.raises(RefbenchError, match="base_url") as caught:
        GeminiImage(base_url=url)
    assert "pass@" not in str(caught.value)


def test_model_without_known_price_needs_one(inputs: Inputs) -> None:
    with pytest.raises(RefbenchError, match="price_usd"):
        GeminiImage(model="gemini-9-image")
    made = GeminiImage(model="gemini-9-image", price_usd=0.2)
    assert made.card.name == "gemini-image+gemini-9-image"
    assert made.card.price_per_image_usd == 0.2


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: GPTImage(quality="best"), "quality"),  # type: ignore[arg-type]
        (lambda: Seedream(size="8K"), "1K, 2K, 3K or 4K"),
        (lambda: Seedream(size="4K", model="seedream-5-0-260128"), "at most 3K, but 4K came"),
        (lambda: Seedream(size="3K", model="seedream-5-5-261028"), "at most 2K, but 3K came"),
        (lambda: GeminiImage(attempts=0), "attempt"),
    ],
)
def test_wrong_options_are_told(make: Callable[[], WebEditor], match: str) -> None:
    with pytest.raises(RefbenchError, match=match):
        make()

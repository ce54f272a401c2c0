"""Contestants `gemini-image`, `gpt-image` and `seedream-4`, each by its documented HTTP interface.

Formats and prices as documented by the services (ai.google.dev/api/generate-content, ai.google.dev/pricing;
platform.openai.com/docs/api-reference/images/createEdit and pricing; docs.byteplus.com/ModelArk/1541523 and 1299023).
What could be tried here is a local server that speaks these formats; no service was called.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from refbench.adapters.editing import Work, working_size
from refbench.adapters.web.calling import Call, Reading
from refbench.adapters.web.service import Price, WebEditor, bytes_of, mask_base64, picture_base64
from refbench.errors import RefbenchError
from refbench.images import encode_png
from refbench.schema import AdapterCard


def _card(name: str, summary: str, paper: str, price: float) -> AdapterCard:
    return AdapterCard(
        name=name, summary=summary, licence="commercial interface, the service's terms", open_weights=False,
        paper=paper, price_per_image_usd=price, needs_network=True, deterministic=False, requires=("httpx", "cv2"),
    )  # fmt: skip


class GeminiImage(WebEditor):
    """Gemini image generation ("Nano Banana"): draft, reference and mask as three pictures in one prompt.

    Options beyond those of :class:`~refbench.adapters.web.service.WebEditor`: none.
    """

    card = _card(
        "gemini-image",
        "Google's Gemini image model (Nano Banana) by its HTTP interface; mask as a third picture.",
        "https://ai.google.dev/gemini-api/docs/image-generation",
        0.039,
    )
    service = "the Gemini API"
    variable = "GEMINI_API_KEY"
    url = "https://generativelanguage.googleapis.com/v1beta"
    default_model = "gemini-2.5-flash-image"
    prices: ClassVar[Mapping[str, Price]] = {
        "gemini-2.5-flash-image": Price(0.039, 0.045, text_in=0.30, image_in=0.30, out=30.0),
        "gemini-3-pro-image-preview": Price(0.134, 0.16, text_in=2.0, image_in=2.0, out=120.0),
    }
    ratios: ClassVar[Mapping[str, tuple[int, int]]] = {
        "1:1": (1024, 1024),
        "2:3": (1248, 832),
        "3:2": (832, 1248),
        "3:4": (1184, 864),
        "4:3": (864, 1184),
        "4:5": (1152, 896),
        "5:4": (896, 1152),
        "9:16": (1344, 768),
        "16:9": (768, 1344),
        "21:9": (672, 1536),
    }
    """Aspect ratio -> (height, width) of the answers at 1K."""
    refusals: ClassVar[frozenset[str]] = frozenset(
        {
            *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
            *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
        }
    )

    def headers(self, key: str) -> Mapping[str, str]:
        """The key in a header: in the URL it would stand in logs."""
        return {"x-goog-api-key": key}

    def _ratio(self, size: tuple[int, int]) -> str:
        shape = np.log(size[1] / size[0])
        return min(
            self.ratios, key=lambda name: abs(float(np.log(self.ratios[name][1] / self.ratios[name][0])) - shape)
        )

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The answers' size at the nearest aspect ratio, so that nothing is shifted on the way back."""
        return self.ratios[self._ratio(size)]

    def call(self, work: Work, text: str) -> Call:
        """``models/<model>:generateContent`` with the text and three pictures."""
        pictures = (picture_base64(work.draft), picture_base64(work.reference), mask_base64(work))
        parts: list[dict[str, Any]] = [{"text": text}]
        parts += [{"inlineData": {"mimeType": "image/png", "data": data}} for data in pictures]
        return Call(
            f"/models/{self.model}:generateContent",
            json={
                "contents": [{"role": "user", "parts": parts}],
                "generationConfig": {
                    "responseModalities": ["IMAGE"],
                    "imageConfig": {"aspectRatio": self._ratio(work.size)},
                },
            },
        )

    def read_answer(self, content: dict[str, Any]) -> Reading:
        """The last picture of the first candidate; a blocked prompt or a finish reason of safety is a refusal."""
        price = self._price(content.get("usageMetadata") or {})
        blocked = (content.get("promptFeedback") or {}).get("blockReason")
        if blocked:
            return Reading("refused", f"the prompt was blocked ({blocked})", price_usd=price)
        candidates = content.get("candidates") or []
        if not candidates:
            return Reading("retry", "its answer has no candidates")
        parts = (candidates[0].get("content") or {}).get("parts") or []
        pictures = [part["inlineData"] for part in parts if "inlineData" in part and not part.get("thought")]
        reason = str(candidates[0].get("finishReason") or "")
        if pictures:
            usage = content.get("usageMetadata")
            return Reading(
                "image", image=bytes_of(pictures[-1]["data"]), price_usd=price if usage else self.price.per_image
            )
        if reason in self.refusals:
            said = candidates[0].get("finishMessage")
            return Reading("refused", f"it ended with {reason}{f': {said}' if said else ''}", price_usd=price)
        return Reading("retry", f"its answer has no picture (finish reason {reason or 'none'})")

    def _price(self, usage: dict[str, Any]) -> float:
        if not self.price.out:
            return self.price.per_image if usage else 0.0
        out = usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0)
        return round(float(usage.get("promptTokenCount", 0) * self.price.image_in + out * self.price.out) / 1e6, 6)

    def read_error(self, status: int, error: dict[str, Any]) -> Reading:
        """As all services; a wrong key is told by HTTP 400 with a reason, patience by a RetryInfo."""
        details = [detail for detail in error.get("details") or () if isinstance(detail, dict)]
        if any(detail.get("reason") == "API_KEY_INVALID" for detail in details) or (
            status == 400 and "API key not valid" in str(error.get("message"))
        ):
            return Reading("stop", f"it does not accept the key in {self.variable} (HTTP {status}); set a valid one")
        if status == 400 and error.get("status") == "FAILED_PRECONDITION":
            return Reading("stop", f"the account behind {self.variable} may not do this ({error.get('message')})")
        reading = super().read_error(status, error)
        for detail in details:
            if status == 429 and "PerDay" in str(detail.get("violations")):
                return Reading("stop", "the day's quota is spent (HTTP 429); run the same command again tomorrow")
            delay = str(detail.get("retryDelay", ""))
            if reading.kind == "retry" and delay.endswith("s") and delay[:-1].replace(".", "", 1).isdigit():
                reading = Reading("retry", reading.why, wait_s=float(delay[:-1]), paid=reading.paid)
        return reading


class GPTImage(WebEditor):
    """OpenAI's image model by ``images/edits``: draft and reference as pictures, the mask as alpha.

    Args:
        quality: "low", "medium" or "high".
        input_fidelity: "high" keeps the draft's details better and costs more input, or "low".
        options: those of :class:`~refbench.adapters.web.service.WebEditor`.
    """

    card = _card(
        "gpt-image",
        "OpenAI's image model by its images/edits interface, with the mask as alpha.",
        "https://platform.openai.com/docs/api-reference/images/createEdit",
        0.113,
    )
    service = "the OpenAI API"
    variable = "OPENAI_API_KEY"
    url = "https://api.openai.com/v1"
    default_model = "gpt-image-1.5"
    prices: ClassVar[Mapping[str, Price]] = {
        "gpt-image-1.5": Price(0.113, 0.167, text_in=5.0, image_in=8.0, out=32.0),
        "gpt-image-1": Price(0.14, 0.208, text_in=5.0, image_in=10.0, out=40.0),
        "gpt-image-1-mini": Price(0.013, 0.017, text_in=2.0, image_in=2.5, out=8.0),
    }
    """At medium quality and high fidelity (which mini has not); the options change them."""
    out_tokens: ClassVar[Mapping[str, tuple[int, int]]] = {
        "low": (272, 408),
        "medium": (1056, 1584),
        "high": (4160, 6240),
    }
    """Of a square answer, and of the longest."""
    in_tokens: ClassVar[Mapping[str, tuple[int, int]]] = {"low": (1200, 1400), "high": (9520, 14200)}
    """Of draft and reference: squares, and at most."""
    mask_words = "The transparent part of the mask is the region."

    def __init__(
        self,
        *,
        quality: Literal["low", "medium", "high"] = "medium",
        input_fidelity: Literal["low", "high"] = "high",
        **options: Any,
    ) -> None:
        if quality not in ("low", "medium", "high") or input_fidelity not in ("low", "high"):
            raise RefbenchError(
                f"Expected the quality low, medium or high and the input_fidelity low or high, but '{quality}' and "
                f"'{input_fidelity}' came."
            )
        super().__init__(**options)
        self.quality, self.input_fidelity = quality, input_fidelity
        if self.price.out:
            fidelity = "low" if self.model.endswith("-mini") else input_fidelity
            about, most = (
                (600 * self.price.text_in + taken * self.price.image_in + given * self.price.out) / 1e6
                for taken, given in zip(self.in_tokens[fidelity], self.out_tokens[quality], strict=True)
            )
            self.price = dataclasses.replace(self.price, per_image=round(about, 3), most=round(most, 3))
            self.card = self.card.model_copy(update={"price_per_image_usd": self.price.per_image})

    def headers(self, key: str) -> Mapping[str, str]:
        """A bearer token."""
        return {"Authorization": f"Bearer {key}"}

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The nearest of the three sizes; the draft is stretched to it and the answer back."""
        shape = size[1] / size[0]
        return (1024, 1024) if 0.82 < shape < 1.22 else (1024, 1536) if shape > 1 else (1536, 1024)

    def parameters(self, work: Work) -> dict[str, Any]:
        """Model, quality and fidelity."""
        found = {"model": self.model, "quality": self.quality}
        return found if self.model.endswith("-mini") else {**found, "input_fidelity": self.input_fidelity}

    def call(self, work: Work, text: str) -> Call:
        """A multipart form: the draft first, as the mask belongs to the first picture."""
        height, width = work.size
        alpha = np.dstack([work.draft, np.where(work.mask, 0, 255).astype(np.uint8)])
        parts = (("image[]", "draft", work.draft), ("image[]", "reference", work.reference), ("mask", "mask", alpha))
        return Call(
            "/images/edits",
            fields={
                **self.parameters(work),
                "prompt": text,
                "size": f"{width}x{height}",
                "n": "1",
                "output_format": "png",
            },
            files=tuple((name, (f"{file}.png", _png(picture), "image/png")) for name, file, picture in parts),
        )

    def read_answer(self, content: dict[str, Any]) -> Reading:
        """The one picture of ``data``, priced by its ``usage``."""
        return Reading(
            "image", image=bytes_of(content["data"][0]["b64_json"]), price_usd=self._price(content.get("usage"))
        )

    def _price(self, usage: dict[str, Any] | None) -> float:
        if not usage or not self.price.out:
            return self.price.per_image
        details = usage.get("input_tokens_details") or {}
        text = details.get("text_tokens", 0)
        pictures = details.get("image_tokens", usage.get("input_tokens", 0) - text)
        usd = (
            text * self.price.text_in + pictures * self.price.image_in + usage.get("output_tokens", 0) * self.price.out
        )
        return round(float(usd) / 1e6, 6)

    def read_error(self, status: int, error: dict[str, Any]) -> Reading:
        """As all services; moderation is a refusal, and a spent quota comes as HTTP 429 too."""
        code, said = str(error.get("code")), str(error.get("message"))
        if code in ("moderation_blocked", "content_policy_violation") or "safety system" in said:
            return Reading("refused", f"{code} ({said.rstrip('.')})")
        if code in ("insufficient_quota", "billing_hard_limit_reached"):
            return Reading("stop", f"the account behind {self.variable} has no money left ({code})")
        return super().read_error(status, error)


def _png(picture: np.ndarray[Any, Any]) -> bytes:
    """PNG of (H, W, 3) or (H, W, 4) uint8."""
    if picture.shape[2] == 3:
        return encode_png(picture)
    import io

    from PIL import Image as PILImage

    buffer = io.BytesIO()
    PILImage.fromarray(picture, "RGBA").save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


class Seedream(WebEditor):
    """ByteDance's Seedream 4.0 by ModelArk: draft, reference and mask as three pictures of one request.

    Args:
        size: "1K", "2K" (as the service) or "4K": about how large the answer is, at the draft's shape.
        options: those of :class:`~refbench.adapters.web.service.WebEditor`.
    """

    card = _card(
        "seedream-4",
        "ByteDance's Seedream 4.0 by its HTTP interface (ModelArk); mask as a third picture.",
        "https://arxiv.org/abs/2509.20427",
        0.03,
    )
    service = "ModelArk"
    variable = "ARK_API_KEY"
    url = "https://ark.ap-southeast.bytepluses.com/api/v3"
    default_model = "seedream-4-0-250828"
    prices: ClassVar[Mapping[str, Price]] = {
        "seedream-4-0-250828": Price(0.03, 0.03),
        "doubao-seedream-4-0-250828": Price(0.03, 0.03),
    }
    sides: ClassVar[Mapping[str, int]] = {"1K": 1024, "2K": 2048, "4K": 4096}

    def __init__(self, *, size: str = "2K", **options: Any) -> None:
        if size not in self.sides:
            raise RefbenchError(f"Expected the size 1K, 2K or 4K, but '{size}' came.")
        super().__init__(**options)
        self.side = self.sides[size]

    def headers(self, key: str) -> Mapping[str, str]:
        """A bearer token."""
        return {"Authorization": f"Bearer {key}"}

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """About 1024 x 1024 px at the draft's own shape: what is sent."""
        return working_size(size[0], size[1], 1024, 16)

    def parameters(self, work: Work) -> dict[str, Any]:
        """Model and size; width times height stays between the service's limits of 1 and 16.8 MP."""
        height, width = working_size(work.size[0], work.size[1], self.side, 16)
        while width * height > 4096 * 4096:
            height, width = height - 16, width - 16
        while width * height < 1024 * 1024:
            height, width = height + 16, width + 16
        return {"model": self.model, "size": f"{width}x{height}"}

    def call(self, work: Work, text: str) -> Call:
        """``images/generations`` with three pictures and one asked for."""
        pictures = (picture_base64(work.draft), picture_base64(work.reference), mask_base64(work))
        return Call(
            "/images/generations",
            json={
                **self.parameters(work),
                "prompt": text,
                "image": [f"data:image/png;base64,{data}" for data in pictures],
                "sequential_image_generation": "disabled",
                "response_format": "b64_json",
                "stream": False,
                "watermark": False,
            },
        )

    def read_answer(self, content: dict[str, Any]) -> Reading:
        """The one picture of ``data``; an error in its place is read as one of the request."""
        first = content["data"][0] if content.get("data") else content
        if isinstance(first.get("error"), dict):
            return self.read_error(400, first["error"])
        return Reading("image", image=bytes_of(first["b64_json"]), price_usd=self.price.per_image)

    def read_error(self, status: int, error: dict[str, Any]) -> Reading:
        """As all services; sensitive content and copyright are refusals, an overdue account stops the run."""
        code = str(error.get("code"))
        if "SensitiveContentDetected" in code or "RiskDetection" in code or "PolicyViolation" in code:
            return Reading("refused", f"{code} ({str(error.get('message')).rstrip('.')})")
        if code in ("QuotaExceeded", "AccountOverdueError", "SetLimitExceeded", "InferenceLimitExceeded"):
            return Reading("stop", f"the account behind {self.variable} may not go on ({code})")
        if code in ("ModelNotOpen", "InvalidEndpointOrModel.NotFound"):
            return Reading("stop", f"the model '{self.model}' is not open for this account ({code})")
        return super().read_error(status, error)

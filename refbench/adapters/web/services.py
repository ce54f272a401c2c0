"""Models `gemini-image` and `seedream-4`, each by its documented HTTP interface.

Formats as documented by the services (ai.google.dev/api/generate-content; docs.byteplus.com/ModelArk/1541523), prices
as documented by them or, for the newest models, as resellers repeat them (docs/running-models.md says which). What
could be tried here is a local server that speaks these formats; no service was called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refbench.adapters.editing import Work, working_size
from refbench.adapters.web.calling import Call, Reading
from refbench.adapters.web.service import Price, WebEditor, bytes_of, commercial, mask_base64, picture_base64
from refbench.errors import RefbenchError


class GeminiImage(WebEditor):
    """Gemini image generation ("Nano Banana"): draft, reference and mask as three pictures in one prompt.

    Options beyond those of :class:`~refbench.adapters.web.service.WebEditor`: none.
    """

    card = commercial(
        "gemini-image",
        "Google's Gemini image model (Nano Banana) by its HTTP interface; mask as a third picture.",
        "https://ai.google.dev/gemini-api/docs/image-generation",
        0.067,
    )
    service = "the Gemini API"
    variable = "GEMINI_API_KEY"
    url = "https://generativelanguage.googleapis.com/v1beta"
    default_model = "gemini-3.1-flash-image"
    prices: ClassVar[Mapping[str, Price]] = {
        "gemini-3.1-flash-image": Price(0.067, 0.08, text_in=0.50, image_in=0.50, out=60.0),
        "gemini-3.1-flash-lite-image": Price(0.034, 0.04, text_in=0.25, image_in=0.25, out=30.0),
        "gemini-3-pro-image": Price(0.134, 0.16, text_in=2.0, image_in=2.0, out=120.0),
        "gemini-2.5-flash-image": Price(0.039, 0.045, text_in=0.30, image_in=0.30, out=30.0),
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
    """Aspect ratio -> (height, width) of the answers of gemini-2.5-flash-image; the others' were not found, and an
    answer of another size is brought back to the draft."""
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


class Seedream(WebEditor):
    """ByteDance's Seedream by ModelArk: draft, reference and mask as three pictures of one request.

    Args:
        size: "1K", "2K" (as the service), "3K" or "4K": about how large the answer is, at the draft's shape.
        options: those of :class:`~refbench.adapters.web.service.WebEditor`.
    """

    card = commercial(
        "seedream-4",
        "ByteDance's Seedream by its HTTP interface (ModelArk), 4.0 where no other is named; mask as a third picture.",
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
        "seedream-4-5-251128": Price(0.04, 0.04),
        "seedream-5-0-260128": Price(0.035, 0.035),
        "seedream-5-5-261028": Price(0.059, 0.059),
    }
    """5.5 with $0.008 for each of three pictures. Those of 5.0 Pro (seedream-5-0-pro-260628) were not found."""
    sides: ClassVar[Mapping[str, int]] = {"1K": 1024, "2K": 2048, "3K": 3072, "4K": 4096}
    sequential: ClassVar[tuple[str, ...]] = ("4-0", "4-5", "5-0-260128")
    """In the names of the models that know several pictures and streams; the others refuse the fields that say no."""
    largest: ClassVar[Mapping[str, int]] = {"4-0": 4096, "4-5": 4096, "5-0-260128": 3072}
    """Side in px of the largest square of a model; 2048 of any other."""

    def __init__(self, *, size: str = "2K", **options: Any) -> None:
        if size not in self.sides:
            raise RefbenchError(f"Expected the size 1K, 2K, 3K or 4K, but '{size}' came.")
        super().__init__(**options)
        self.side, most = self.sides[size], self._of(self.largest, 2048)
        if self.side > most:
            raise RefbenchError(
                f"Expected a size that {self.model} has, at most {most // 1024}K, but {size} came; -o size=2K."
            )

    def _of(self, table: Mapping[str, int], other: int) -> int:
        return next((value for name, value in table.items() if name in self.model), other)

    def headers(self, key: str) -> Mapping[str, str]:
        """A bearer token."""
        return {"Authorization": f"Bearer {key}"}

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """About 1024 x 1024 px at the draft's own shape: what is sent."""
        return working_size(size[0], size[1], 1024, 16)

    def parameters(self, work: Work) -> dict[str, Any]:
        """Model and size; width times height stays between 1 MP and what the model can."""
        height, width = working_size(work.size[0], work.size[1], self.side, 16)
        while width * height > self._of(self.largest, 2048) ** 2:
            height, width = height - 16, width - 16
        while width * height < 1024 * 1024:
            height, width = height + 16, width + 16
        return {"model": self.model, "size": f"{width}x{height}"}

    @property
    def _sequential(self) -> bool:
        return any(name in self.model for name in self.sequential)

    def call(self, work: Work, text: str) -> Call:
        """``images/generations`` with three pictures and one asked for."""
        pictures = (picture_base64(work.draft), picture_base64(work.reference), mask_base64(work))
        return Call(
            "/images/generations",
            json={
                **self.parameters(work),
                "prompt": text,
                "image": [f"data:image/png;base64,{data}" for data in pictures],
                "response_format": "b64_json",
                "watermark": False,
                **({"sequential_image_generation": "disabled", "stream": False} if self._sequential else {}),
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

"""A local server that speaks the documented formats of three image services, with faults on demand.

It checks what it is sent as strictly as the services' documents describe it, and answers with the draft's colours
inverted under the mask, so that a test sees whether draft and mask came in the right places.
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import io
import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image as PILImage

KEY = "sk-test-4f1c9a7e2b8d4c6f"


@dataclass
class Seen:
    """One request, taken apart."""

    path: str
    text: str
    pictures: list[np.ndarray[Any, Any]]
    """In the order sent; (H, W, 3) or (H, W, 4)."""
    options: dict[str, Any] = field(default_factory=dict)


def png(picture: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def opened(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(PILImage.open(io.BytesIO(data)))


class Service:
    """What the server does next: `faults` are taken one a request; with none left it answers well."""

    def __init__(self, kind: str, key: str = KEY) -> None:
        self.kind, self.key = kind, key
        self.faults: deque[Any] = deque()
        self.seen: list[Seen] = []
        self.times: list[float] = []
        self.size: tuple[int, int] | None = None
        """(height, width) of the answers; None for the size of what was sent."""
        self.url = ""
        self.smaller = 1
        """The tests' pictures are so many times smaller than the service's."""

    # ---- requests

    def authorised(self, headers: Any) -> bool:
        if self.kind == "gemini":
            return bool(headers.get("x-goog-api-key") == self.key)
        return bool(headers.get("Authorization") == f"Bearer {self.key}")

    def parse(self, path: str, headers: Any, body: bytes) -> Seen:
        if self.kind == "openai":
            assert path == "/images/edits"
            head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
            form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
            fields, files = {}, []
            for part in form.iter_parts():
                name = part.get_param("name", header="content-disposition")
                data = part.get_payload(decode=True)
                if part.get_filename():
                    assert part.get_content_type() == "image/png"
                    files.append((name, opened(data)))
                else:
                    fields[name] = data.decode()
            assert [name for name, _ in files] == ["image[]", "image[]", "mask"]
            assert files[0][1].shape[:2] == files[2][1].shape[:2]
            assert files[2][1].shape[2] == 4
            height, width = files[0][1].shape[:2]
            assert fields["size"] == f"{width}x{height}"
            assert f"{width * self.smaller}x{height * self.smaller}" in ("1024x1024", "1536x1024", "1024x1536")
            return Seen(path, fields["prompt"], [picture for _, picture in files], fields)
        content = json.loads(body)
        if self.kind == "gemini":
            assert path.startswith("/models/")
            assert path.endswith(":generateContent")
            assert set(content) == {"contents", "generationConfig"}
            assert content["generationConfig"]["responseModalities"] == ["IMAGE"]
            text, *rest = content["contents"][0]["parts"]
            assert all(part["inlineData"]["mimeType"] == "image/png" for part in rest)
            pictures = [opened(base64.b64decode(part["inlineData"]["data"])) for part in rest]
            return Seen(path, text["text"], pictures, content["generationConfig"])
        assert path == "/images/generations"
        assert (content["response_format"], content["watermark"]) == ("b64_json", False)
        pictures = []
        for data in content["image"]:
            assert data.startswith("data:image/png;base64,")
            pictures.append(opened(base64.b64decode(data.partition(",")[2])))
        width, height = map(int, content["size"].split("x"))
        assert 1024 * 1024 <= width * height <= 4096 * 4096
        return Seen(path, content["prompt"], pictures, content)

    # ---- answers

    def edited(self, seen: Seen) -> bytes:
        draft, mask = seen.pictures[0], seen.pictures[2]
        where = mask[..., 3] == 0 if mask.shape[2] == 4 else mask[..., 0] > 127
        out = np.where(where[..., None], 255 - draft, draft).astype(np.uint8)
        if self.size is not None:
            out = np.asarray(PILImage.fromarray(out).resize(self.size[::-1], PILImage.Resampling.BICUBIC))
        return png(out)

    def good(self, picture: bytes) -> dict[str, Any]:
        data = base64.b64encode(picture).decode()
        if self.kind == "gemini":
            parts = [{"text": "Here it is."}, {"inlineData": {"mimeType": "image/png", "data": data}}]
            return {
                "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0}],
                "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 1290, "totalTokenCount": 2290},
                "modelVersion": "gemini-2.5-flash-image",
            }
        if self.kind == "openai":
            details = {"text_tokens": 100, "image_tokens": 5000}
            usage = {"input_tokens": 5100, "input_tokens_details": details, "output_tokens": 1056, "total_tokens": 6156}
            return {"created": 1, "data": [{"b64_json": data}], "output_format": "png", "usage": usage}
        return {
            "model": "seedream-4-0-250828",
            "created": 1,
            "data": [{"b64_json": data, "size": "2048x2048"}],
            "usage": {"generated_images": 1, "output_tokens": 16384, "total_tokens": 16384},
        }

    def refusal(self) -> tuple[int, dict[str, Any]]:
        if self.kind == "gemini":
            return 200, {
                "candidates": [{"content": {}, "finishReason": "IMAGE_SAFETY", "index": 0}],
                "usageMetadata": {"promptTokenCount": 1000, "totalTokenCount": 1000},
            }
        if self.kind == "openai":
            message = "Your request was rejected by the safety system. safety_violations=[violence]."
            return 400, {
                "error": {"message": message, "type": "image_generation_user_error", "code": "moderation_blocked"}
            }
        message = "The request failed because the output image may contain sensitive information."
        code = "OutputImageSensitiveContentDetected"
        return 400, {"error": {"code": code, "message": message, "param": "", "type": "BadRequest"}}

    def wrong_key(self, given: str) -> tuple[int, dict[str, Any]]:
        """As the services do, one of which repeats the key."""
        if self.kind == "gemini":
            details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
            message = "API key not valid. Please pass a valid API key."
            return 400, {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": details}}
        message = f"Incorrect API key provided: {given}."
        return 401, {"error": {"message": message, "type": "invalid_request_error", "code": "invalid_api_key"}}

    def error(self, status: int) -> dict[str, Any]:
        return {"error": {"code": status, "message": f"Something is wrong with {self.key}.", "status": "UNAVAILABLE"}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        service: Service = self.server.service
        body = self.rfile.read(int(self.headers["Content-Length"]))
        service.times.append(time.monotonic())
        if not service.authorised(self.headers):
            given = self.headers.get("Authorization") or self.headers.get("x-goog-api-key") or ""
            status, content = service.wrong_key(given)
            self.send(status, json.dumps(content).encode())
            return
        seen = service.parse(self.path, self.headers, body)
        service.seen.append(seen)
        fault = service.faults.popleft() if service.faults else None
        well = json.dumps(service.good(service.edited(seen))).encode()
        if fault is None:
            self.send(200, well)
        elif fault == "slow":
            time.sleep(1.5)
            self.close_connection = True
        elif fault == "cut":
            self.send(200, well[: len(well) // 2], length=len(well))
            self.close_connection = True
        elif fault == "malformed":
            self.send(200, well[: len(well) // 2])
        elif fault == "no picture":
            self.send(200, json.dumps(service.good(b"no picture")).encode())
        elif fault == "refuse":
            status, content = service.refusal()
            self.send(status, json.dumps(content).encode())
        elif isinstance(fault, tuple):
            status, headers, content = fault
            self.send(status, json.dumps(content or service.error(status)).encode(), headers)
        else:
            self.send(fault, json.dumps(service.error(fault)).encode())


@contextmanager
def serving(kind: str) -> Iterator[Service]:
    """A service of a kind ("gemini", "openai", "ark") on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service = Service(kind)
    service.url = f"http://127.0.0.1:{server.server_port}"
    server.service = service  # type: ignore[attr-defined]
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

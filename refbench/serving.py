"""Pages that a command serves from this machine: who may ask, what a browser may load, one address to open.

Bound to a loopback address, a page answers whoever asks under that name; bound to any other, only who brings the token
that the printed address holds (or has its cookie, or sends it as ``Authorization: Bearer``). Requests that another
site's page starts are refused, and no page may load anything from elsewhere.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from refbench.errors import RefbenchError, missing_package

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = "127.0.0.1"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every response that does not set them itself."""


@dataclass(frozen=True)
class Door:
    """Where a page is served, and what whoever asks must bring."""

    host: str
    """Name or address it is bound to."""
    port: int
    token: str | None
    """None on a loopback address."""

    @property
    def address(self) -> str:
        """What to open in a browser; an address for all interfaces is told by this machine's name."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    @property
    def cookie(self) -> str:
        """Name of the cookie that holds the token; cookies do not tell ports apart, so the port is in it."""
        return f"refbench-{self.port}"


def opened(host: str = LOOPBACK, port: int = 0) -> tuple[socket.socket, Door]:
    """Bind a socket.

    Args:
        host: a name or address of this machine; anything but a loopback address gets a token.
        port: 0 takes a free one.

    Raises:
        RefbenchError: no such address here, a port that is taken, reserved or no port.
    """
    if not 0 <= port < 65536:
        raise RefbenchError(f"Expected --port from 1 to 65535, or 0 for a free one, but {port} came.")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(64)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise RefbenchError(
            f"Expected to serve at {host}, port {port}, but: {why}; choose others with --host and --port (0: any free)."
        ) from None
    bound = listener.getsockname()
    alone = ipaddress.ip_address(bound[0].partition("%")[0]).is_loopback
    return listener, Door(host, bound[1], None if alone else secrets.token_urlsafe(16))


def application(routes: Sequence[BaseRoute], static: Path, door: Door) -> Checked:
    """An ASGI application: the routes, the files of `static` below ``/static``, and the checks of this module.

    A :class:`RefbenchError` that an endpoint raises becomes ``{"error": its sentence}`` with status 400, anything else
    that it did not foresee the same with status 500.
    """
    try:
        from starlette.applications import Starlette
        from starlette.routing import Mount
        from starlette.staticfiles import StaticFiles
    except ImportError as error:
        raise missing_package(error, "to serve a page") or error from None

    files = Mount("/static", StaticFiles(directory=static))
    handlers: Any = {RefbenchError: _told, 413: _too_large, 500: _unforeseen}
    return Checked(Starlette(routes=[*routes, files], exception_handlers=handlers), door)


def serve(
    routes: Sequence[BaseRoute],
    static: Path,
    *,
    host: str = LOOPBACK,
    port: int = 0,
    announce: Callable[[str], None],
) -> None:
    """Serve until the process is interrupted.

    Args:
        routes: of the page.
        static: folder of its files.
        host: as :func:`opened`.
        port: as :func:`opened`.
        announce: told the address to open, once, when it is bound.

    Raises:
        RefbenchError: as :func:`opened`, or the extra `app` is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise missing_package(error, "to serve a page") or error from None

    listener, door = opened(host, port)
    with listener:
        app = application(routes, static, door)
        announce(door.address)
        config = uvicorn.Config(
            app, log_config=None, log_level="critical", access_log=False, timeout_graceful_shutdown=2, ws="none"
        )
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:  # the way to end it
            return


async def body_of(request: Request, most: int) -> bytes:
    """The body of a request of at most `most` bytes; a longer one ends as status 413 without being read."""
    from starlette.exceptions import HTTPException

    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, f"Expected at most {most} bytes, but more came.")
        parts.append(part)
    return b"".join(parts)


async def object_of(request: Request, most: int) -> dict[str, Any]:
    """The JSON object in the body of a request of at most `most` bytes.

    Raises:
        RefbenchError: the body is none.
    """
    try:
        value = json.loads(await body_of(request, most))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RefbenchError("Expected a JSON object, but another body came.")
    return value


class Checked:
    """An ASGI application behind the checks of name, token and origin, with :data:`HEADERS` on all that is answered."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                more = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in more if pair[0] not in there)]
            await send(message)

        answer = self._refused(scope)
        await (answer or self.app)(scope, receive, sending)

    def _refused(self, scope: Scope) -> Response | None:
        """The response that ends it here; None where the page may answer."""
        from starlette.responses import JSONResponse, RedirectResponse

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        asked = headers.get("host", "")
        if self.door.token is None and _host(f"//{asked}") not in {"127.0.0.1", "localhost", "::1", self.door.host}:
            return JSONResponse({"error": "Expected to be asked as localhost; open the printed address."}, 403)
        origin = headers.get("origin")
        foreign = headers.get("sec-fetch-site") == "cross-site" and scope["method"] != "GET"
        if foreign or (origin is not None and origin.partition("://")[2] != asked):
            return JSONResponse({"error": "Expected a request of this page, but another site's came."}, 403)
        if self.door.token is None:
            return None
        brought = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if scope["method"] == "GET" and self._matches(brought):
            kept = f"{self.door.cookie}={self.door.token}; HttpOnly; SameSite=Lax; Path=/"
            return RedirectResponse(scope["path"].replace("//", "/"), 303, headers={"set-cookie": kept})
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        held = [cookies[self.door.cookie].value] if self.door.cookie in cookies else []
        if self._matches([*held, headers.get("authorization", "").removeprefix("Bearer ")]):
            return None
        return JSONResponse({"error": "Expected the token; open the address that the command printed."}, 403)

    def _matches(self, brought: Iterable[str]) -> bool:
        token = (self.door.token or "").encode()
        return any(secrets.compare_digest(one.encode(), token) for one in brought)


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


async def _told(request: Request, error: Exception) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": str(error)}, 400)


async def _too_large(request: Request, error: Exception) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": str(getattr(error, "detail", error))}, 413)


async def _unforeseen(request: Request, error: Exception) -> Response:
    from starlette.responses import JSONResponse

    said = f"Something went wrong that refbench did not foresee ({type(error).__name__})."
    return JSONResponse({"error": said}, 500)

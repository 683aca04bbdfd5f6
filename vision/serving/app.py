"""The page of ``python -m vision.serve`` and its JSON endpoint, as a FastAPI application.

What a visitor sends may be hostile: its size is limited while it streams in, and requests of pages of other sites are
refused.
"""

import asyncio
import base64
import contextlib
import functools
import hashlib
import io
import ipaddress
import json
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, Headers, MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from render import __version__
from vision.inference.predictor import Predictor, readable_endings
from vision.serving import limits
from vision.serving.readers import upload_folder
from vision.serving.uploads import EXTRAS, Patience, UploadPredictor

PAGE = Path(__file__).with_name("page.html")

#: Requests processed at a time: they share the network batch by batch, and the processes that read files.
WORKERS = 4
READERS = min(WORKERS, os.cpu_count() or 1)

#: Requests accepted at a time that have arrived whole, each with its upload on disk; others get status 503.
MAX_WAITING = 16

#: Files in one request.
MAX_FILES = 100

#: Seconds that the answer to one request is worked at.
ANSWER_SECONDS = 600.0


def read_page() -> tuple[str, dict[str, str]]:
    """Read the page, and make the headers that it is sent with.

    Returns
    -------
    page : str
        HTML.
    headers : dict
        They allow the page's own script and styles, identified by their hashes, and nothing else: the browser loads
        nothing from other sites and sends nothing to them.
    """
    page = PAGE.read_text("utf-8")
    hashes = {}
    for tag in ("script", "style"):
        content = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        hashes[tag] = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'; "
    policy += "img-src data:; media-src blob:; connect-src 'self'; "
    policy += "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return page, {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


@functools.cache
def example_tune() -> bytes:
    """A synthetic tune, for visitors who have no song at hand, as a WAV file: nobody's music, and no upload."""
    import soundfile

    from render.demo import compose

    file = io.BytesIO()
    soundfile.write(file, compose("reggae", 0, seconds=20.0), 22050, format="WAV")
    return file.getvalue()


class Guard:
    """Refuses what pages of other sites send, and who lacks the token; adds the security headers to every answer.

    A page of another site can make its own name resolve to this machine (DNS rebinding), but its browser then sends
    that name. An address in the Host header comes from a browser or program that was told to connect to it.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    hosts : collection of str
        Names that the Host header may hold.
    token : str
        As of `create_app`.
    headers : dict
        Sent with every answer.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], token: str, headers: Mapping[str, str]):
        self.app, self.hosts, self.token, self.headers = app, frozenset(hosts), token, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        headers, app = Headers(scope=scope), self.app
        host = headers.get("host", "")
        if is_foreign_origin(headers):
            app = JSONResponse({"error": "the request was sent by a page of another site"}, 403)
        elif not _is_address(host) and host.split(":")[0] not in self.hosts:
            message = "the Host header names another machine; open the address that the server printed"
            app = JSONResponse({"error": message}, 403)
        elif self.token and scope["path"] != "/" and not limits.has_token(headers, self.token):
            message = "needs the token that the server was started with, as the header Authorization: Bearer TOKEN"
            app = JSONResponse({"error": message}, 401, {"WWW-Authenticate": "Bearer"})
        await app(scope, receive, send_with_headers)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False
    return True


def is_foreign_origin(headers: Mapping[str, str]) -> bool:
    """Return whether a request was sent by a page of another site; programs send no Origin header."""
    host, origin = headers.get("host", "").lower(), headers.get("origin")
    return origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}")


class _TooLarge(Exception):
    """The request is larger than the limit."""


@contextlib.asynccontextmanager
async def _receive_files(
    request: Request, max_bytes: int, visitors: limits.Visitors
) -> AsyncIterator[list[tuple[str, BinaryIO]]]:
    """Receive a form with files: name and content of each. Refused if it is too large, too slow or no such form."""
    too_large = HTTPException(413, f"more than {max_bytes / 1e6:g} MB, the limit of one request here")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise too_large
    with contextlib.ExitStack() as held:
        form = await _receive_form(request, max_bytes, visitors, held, too_large)
        try:
            items = form.multi_items()
            files = [(file.filename or "", file.file) for _, file in items if isinstance(file, UploadFile)]
            if not files:
                raise HTTPException(400, "holds no file; expected a form with files: curl -F file=@song.mp3 URL")
            yield files
        finally:
            await form.close()


async def _receive_form(
    request: Request, max_bytes: int, visitors: limits.Visitors, held: contextlib.ExitStack, too_large: HTTPException
) -> FormData:
    """Receive a form; its bytes are counted until `held` is closed."""
    upload = held.enter_context(visitors.holding())

    async def receive_limited():
        async with asyncio.timeout(limits.STALL_SECONDS):
            message = await request.receive()
        n_bytes = len(message.get("body", b""))
        if upload.received + n_bytes > max_bytes:
            raise _TooLarge
        upload.add(n_bytes)
        return message

    try:
        async with asyncio.timeout(limits.UPLOAD_SECONDS):
            with visitors.arriving(address_of(request)), visitors.ended_by_stop():
                return await Request(request.scope, receive_limited).form(max_files=MAX_FILES, max_fields=10)
    except _TooLarge:
        raise too_large from None
    except FormParserError:  # older versions of starlette do not catch it
        raise HTTPException(400, "is no valid form; expected what curl -F file=@song.mp3 URL sends") from None
    except asyncio.CancelledError:
        if not visitors.stopping:
            raise
        raise HTTPException(503, "the server is stopping") from None
    except ClientDisconnect:
        raise HTTPException(400, "did not arrive completely") from None
    except TimeoutError:
        raise HTTPException(408, "did not arrive in time") from None


def address_of(request: Request) -> str:
    """The visitor's address; a network of IPv6 counts as one, for a single machine may have all its addresses."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else host


async def _until_gone(request: Request, patience: Patience) -> None:
    """Give up an answer that nobody waits for any more."""
    while not await request.is_disconnected():
        await asyncio.sleep(0.5)
    patience.give_up("nobody waited for it any more")


def create_app(
    predictor: Predictor,
    *,
    max_bytes: int,
    max_seconds: float,
    name: str = "",
    score: str = "",
    hosts: Collection[str] = ("localhost",),
    token: str = "",
    per_minute: int = 300,
) -> FastAPI:
    """Create the application.

    Parameters
    ----------
    predictor : Predictor
        The model.
    max_bytes : int
        Size of the largest request accepted.
    max_seconds : float
        Length of the longest track accepted.
    name, score : str
        The model's name, and how good it is, in a few words.
    hosts : collection of str
        Host names of this machine that requests may use; addresses are always accepted.
    token : str
        What requests must send as ``Authorization: Bearer TOKEN``; empty asks for none. The page itself is free.
    per_minute : int
        Predictions that one address may ask for in a minute.

    Returns
    -------
    app : fastapi.FastAPI
        With ``GET /``, ``/health``, ``/example`` and ``/openapi.json``, and ``POST /api/predict``;
        ``app.state.stop()`` stops the predictions that are being computed.
    """
    page, security_headers = read_page()
    uploads = UploadPredictor(predictor, max_seconds, READERS)
    pool = ThreadPoolExecutor(WORKERS, "predict")
    visitors = limits.Visitors(MAX_WAITING * max_bytes, per_minute)
    waiting = 0

    @contextlib.contextmanager
    def in_line() -> Iterator[None]:
        nonlocal waiting
        if waiting >= MAX_WAITING:
            raise limits.Busy(503, "busy; try again in a few seconds", 3)
        waiting += 1
        try:
            yield
        finally:
            waiting -= 1

    @contextlib.asynccontextmanager
    async def lifespan(app):
        with upload_folder() as uploads.folder:
            uploads.reader.start()
            yield
            uploads.stop()
            pool.shutdown(wait=True, cancel_futures=True)

    # No documentation pages: FastAPI's load their scripts from the internet.
    app = FastAPI(title="melvision", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)

    def stop() -> None:
        visitors.stop()
        uploads.stop()

    app.state.stop = stop
    app.add_middleware(Guard, hosts=hosts, token=token, headers=security_headers)

    _answer_refusals_in_json(app)

    @app.get("/", response_class=HTMLResponse)
    async def show_page():
        return HTMLResponse(page)

    @app.get("/example", response_class=Response, responses={200: {"content": {"audio/wav": {}}}})
    async def example():
        return Response(await asyncio.get_running_loop().run_in_executor(None, example_tune), media_type="audio/wav")

    @app.get("/health")
    async def health():
        pictures, sounds = readable_endings()
        most = {"max_bytes": max_bytes, "max_seconds": max_seconds, "max_files": MAX_FILES}
        state = {"status": "ok", "model": name, "score": score, "classes": uploads.classes, "version": __version__}
        return state | {"limits": most, "reads": {"pictures": pictures, "sounds": sounds}, "waiting": waiting}

    @app.post("/api/predict", response_model=None, responses=_REFUSALS, openapi_extra={"requestBody": _FORM})
    async def predict(
        request: Request, timeline: bool = False, picture: bool = False, heat: bool = False, stream: bool = False
    ) -> list[dict[str, Any]] | StreamingResponse:
        visitors.count_request(address_of(request))
        asked = {"timeline": timeline, "picture": picture, "heat": heat}
        loop, patience = asyncio.get_running_loop(), Patience(ANSWER_SECONDS)
        async with contextlib.AsyncExitStack() as held:
            files = await held.enter_async_context(_receive_files(request, max_bytes, visitors))
            held.enter_context(in_line())
            held.callback(asyncio.create_task(_until_gone(request, patience)).cancel)
            extras = [extra for extra in EXTRAS if asked[extra]]
            work = functools.partial(loop.run_in_executor, pool, uploads.predict, files, extras, patience)
            if not stream:
                return await work()
            return _Stream(_lines(work, patience), held.pop_all())

    return app


class _Stream(StreamingResponse):
    """Lines of JSON; what is held for the request is let go at the end, also where the visitor left before it began."""

    def __init__(self, lines: AsyncIterator[str], held: contextlib.AsyncExitStack):
        super().__init__(lines, media_type="application/x-ndjson")
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def _lines(work: Callable[..., asyncio.Future], patience: Patience) -> AsyncIterator[str]:
    """Yield what becomes known first, then all answers, each as a line of JSON."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[dict | None]()
    try:
        answers = work(lambda answer: loop.call_soon_threadsafe(lines.put_nowait, {"first": answer}))
        answers.add_done_callback(lambda _: lines.put_nowait(None))
        while (line := await lines.get()) is not None:
            yield json.dumps(line) + "\n"
        yield json.dumps({"answers": await answers}) + "\n"
    finally:
        patience.give_up("nobody waited for it any more")


def _answer_refusals_in_json(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def refuse(request, error):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(limits.Busy)
    async def ask_to_come_again(request, busy):
        return JSONResponse({"error": busy.reason}, busy.status, {"Retry-After": str(busy.seconds)})

    @app.exception_handler(RequestValidationError)
    async def refuse_parameters(request, error):
        first = error.errors()[0]
        return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg']}"}, 422)


#: The body of a request for predictions, and the refusals, as OpenAPI describes them.
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        }
    },
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": reason,
        "content": {
            "application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}},
        },
    }
    for status, reason in {
        400: "no form with files", 401: "no token", 403: "of another site", 408: "did not arrive in time",
        413: "too large", 422: "a parameter of another type", 429: "too many requests in a minute", 503: "busy",
    }.items()
}  # fmt: skip

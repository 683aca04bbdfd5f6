"""The page of ``python -m vision.serve`` and its JSON endpoint, as a FastAPI application.

What a visitor sends may be hostile: its size is limited while it streams in, and requests of pages of other sites are
refused.
"""

import asyncio
import base64
import contextlib
import hashlib
import ipaddress
from collections.abc import AsyncIterator, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from python_multipart.exceptions import FormParserError
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from render import __version__
from vision.inference.predictor import Predictor, readable_endings
from vision.serving.uploads import EXTRAS, UploadPredictor

PAGE = Path(__file__).with_name("page.html")

#: Requests processed at a time: they decode in parallel, and share the network batch by batch.
WORKERS = 4

#: Requests accepted at a time, each with its upload on disk; others get status 503.
MAX_WAITING = 16

#: Files in one request.
MAX_FILES = 100

#: Time that a request may take to arrive: one that sends nothing must not occupy a place for ever.
UPLOAD_SECONDS = 900


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


class TrustedHosts(TrustedHostMiddleware):
    """Starlette's check of the Host header, except that addresses are accepted as well as the allowed names.

    A page of another site can make its own name resolve to this machine (DNS rebinding), but its browser then sends
    that name. An address in the header comes from a browser or program that was told to connect to it.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with status 400 in plain text."""
        if scope["type"] == "http" and _is_address(Headers(scope=scope).get("host", "")):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


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
async def _receive_files(request: Request, max_bytes: int) -> AsyncIterator[list[tuple[str, BinaryIO]]]:
    """Receive a form with files: name and content of each. Refused if it is too large, too slow or no such form."""
    too_large = HTTPException(413, f"more than {max_bytes / 1e6:g} MB, the limit of one request here")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise too_large
    received = 0

    async def receive_limited():
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise _TooLarge
        return message

    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            form = await Request(request.scope, receive_limited).form(max_files=MAX_FILES, max_fields=10)
    except _TooLarge:
        raise too_large from None
    except FormParserError:  # older versions of starlette do not catch it
        raise HTTPException(400, "is no valid form; expected what curl -F file=@song.mp3 URL sends") from None
    except ClientDisconnect:
        raise HTTPException(400, "did not arrive completely") from None
    except TimeoutError:
        raise HTTPException(408, f"did not arrive within {UPLOAD_SECONDS:g} s") from None
    try:
        files = [(file.filename or "", file.file) for _, file in form.multi_items() if isinstance(file, UploadFile)]
        if not files:
            raise HTTPException(400, "holds no file; expected a form with files: curl -F file=@song.mp3 URL")
        yield files
    finally:
        await form.close()


def create_app(
    predictor: Predictor,
    *,
    max_bytes: int,
    max_seconds: float,
    name: str = "",
    score: str = "",
    hosts: Collection[str] = ("localhost",),
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

    Returns
    -------
    app : fastapi.FastAPI
        With ``GET /``, ``GET /health`` and ``POST /api/predict``; ``app.state.uploads.stop()`` stops the predictions
        that are being computed.
    """
    page, security_headers = read_page()
    uploads = UploadPredictor(predictor, max_seconds)
    pool = ThreadPoolExecutor(WORKERS, "predict")
    waiting = 0

    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield
        uploads.stop()
        pool.shutdown(wait=False, cancel_futures=True)

    # No documentation pages: FastAPI's load their scripts from the internet.
    app = FastAPI(title="melvision", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.uploads = uploads

    app.add_middleware(TrustedHosts, allowed_hosts=sorted(hosts), www_redirect=False)

    # Added last, it is called first.
    @app.middleware("http")
    async def refuse_other_sites(request, call_next):
        if is_foreign_origin(request.headers):
            response = JSONResponse({"error": "the request was sent by a page of another site"}, 403)
        else:
            response = await call_next(request)
            # `TrustedHosts` refuses in plain text, which nothing else here sends.
            if response.headers.get("content-type", "").startswith("text/plain"):
                message = "the Host header names another machine; open the address that the server printed"
                response = JSONResponse({"error": message}, 403)
        response.headers.update(security_headers)
        return response

    @app.exception_handler(HTTPException)
    async def refuse(request, error):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.get("/")
    async def show_page():
        return HTMLResponse(page)

    @app.get("/health")
    async def health():
        pictures, sounds = readable_endings()
        limits = {"max_bytes": max_bytes, "max_seconds": max_seconds, "max_files": MAX_FILES}
        state = {"status": "ok", "model": name, "score": score, "classes": uploads.classes, "version": __version__}
        return state | {"limits": limits, "reads": {"pictures": pictures, "sounds": sounds}, "waiting": waiting}

    @app.post("/api/predict", response_model=None)
    async def predict(request: Request) -> Any:
        nonlocal waiting
        if waiting >= MAX_WAITING:
            raise HTTPException(503, "busy; try again in a few seconds", {"Retry-After": "3"})
        waiting += 1
        try:
            async with _receive_files(request, max_bytes) as files:
                extras = [extra for extra in EXTRAS if request.query_params.get(extra) in ("1", "true")]
                return await asyncio.get_running_loop().run_in_executor(pool, uploads.predict, files, extras)
        finally:
            waiting -= 1

    return app

"""The page of ``python -m vision.serve`` and its JSON endpoint, as a FastAPI application.

Whatever a visitor sends is taken for hostile: it is counted while it streams in, and a page of another site
may send nothing at all.
"""

import asyncio
import base64
import contextlib
import hashlib
import ipaddress
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from render import __version__
from vision.inference.predictor import readable_endings
from vision.serving.uploads import EXTRAS, UploadPredictor

PAGE = Path(__file__).with_name("page.html")

#: Requests worked on at a time: they decode side by side, and take turns at the network.
WORKERS = 4

#: Requests taken in at a time, each with its upload on disk; more are asked to come again.
MAX_WAITING = 16

#: Files a request.
MAX_FILES = 100

#: How long a request may take to arrive: who sends nothing must not keep a place for ever.
UPLOAD_SECONDS = 900


def read_page():
    """Return the page and the headers it is sent with.

    Returns
    -------
    page : str
        HTML.
    headers : dict
        The browser runs the page's own script and styles, told by their hashes, and nothing else; it loads
        nothing from elsewhere, and sends nothing there.
    """
    page = PAGE.read_text("utf-8")
    own = {}
    for tag in ("script", "style"):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[1]
        own[tag] = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{own['script']}'; style-src 'sha256-{own['style']}'; "
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


def find_stranger(headers, names):
    """Tell why a request does not come from our own page, or from a program; empty where it does.

    Parameters
    ----------
    headers : Mapping
        Of the request.
    names : collection of str
        Names of this machine. Addresses are taken anyway: a page of another site can have its name lead
        here (DNS rebinding), but its browser sends that name.
    """
    host = headers.get("host", "").lower()
    with contextlib.suppress(ValueError):
        name = urlsplit(f"//{host}").hostname or ""
        if name not in names:
            ipaddress.ip_address(name)
        origin = headers.get("origin")
        if origin is None or origin.lower() in (f"http://{host}", f"https://{host}"):
            return ""
        return "the request was sent by a page of another site"
    return "the request names another machine than this one; open the address that the server printed"


class _TooLarge(Exception):
    """More came in than is taken."""


def create_app(predictor, *, max_bytes, max_seconds, name="", score="", names=("localhost",)):
    """Make the application.

    Parameters
    ----------
    predictor : Predictor
        What answers.
    max_bytes : int
        The largest request taken.
    max_seconds : float
        The longest track taken.
    name, score : str
        The model's name, and how good it is, in a few words.
    names : collection of str
        Names by which this machine may be called, besides its addresses.

    Returns
    -------
    app : fastapi.FastAPI
        With ``GET /``, ``GET /health`` and ``POST /api/predict``; ``app.state.uploads.stop()`` ends what is
        being computed.
    """
    page, secure = read_page()
    uploads = UploadPredictor(predictor, max_seconds)
    pool = ThreadPoolExecutor(WORKERS, "predict")
    waiting = 0

    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield
        uploads.stop()
        pool.shutdown(wait=False, cancel_futures=True)

    # FastAPI's own pages of documentation load their scripts from the internet.
    app = FastAPI(title="melvision", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.uploads = uploads

    @app.middleware("http")
    async def guard(request, call_next):
        problem = find_stranger(request.headers, names)
        response = JSONResponse({"error": problem}, 403) if problem else await call_next(request)
        response.headers.update(secure)
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
        told = {"status": "ok", "model": name, "score": score, "classes": uploads.classes, "version": __version__}
        return told | {"limits": limits, "reads": {"pictures": pictures, "sounds": sounds}, "waiting": waiting}

    @app.post("/api/predict")
    async def predict(request: Request):
        nonlocal waiting
        received = 0

        async def counted():
            nonlocal received
            message = await request.receive()
            received += len(message.get("body", b""))
            if received > max_bytes:
                raise _TooLarge
            return message

        too_large = HTTPException(413, f"more than {max_bytes / 1e6:g} MB, the limit of one request here")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > max_bytes:
            raise too_large
        if waiting >= MAX_WAITING:
            raise HTTPException(503, "busy; try again in a few seconds", {"Retry-After": "3"})
        waiting += 1
        form = None
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                form = await Request(request.scope, counted).form(max_files=MAX_FILES, max_fields=10)
            files = [file for _, file in form.multi_items() if isinstance(file, UploadFile)]
            if not files:
                raise HTTPException(400, "no file in it; expected a form with files: curl -F file=@song.mp3 URL")
            received_files = [(file.filename or "", file.file) for file in files]
            wanted = [extra for extra in EXTRAS if request.query_params.get(extra) in ("1", "true")]
            return await asyncio.get_running_loop().run_in_executor(pool, uploads.predict, received_files, wanted)
        except _TooLarge:
            raise too_large from None
        except FormParserError:  # older starlettes let it pass
            raise HTTPException(400, "is no form as it should be; curl -F file=@song.mp3 URL sends one") from None
        except ClientDisconnect:
            raise HTTPException(400, "did not arrive whole") from None
        except TimeoutError:
            raise HTTPException(408, f"did not arrive within {UPLOAD_SECONDS:g} s") from None
        finally:
            waiting -= 1
            if form is not None:
                await form.close()

    return app

"""`vision.serve`: what a visitor gets, what a hostile one does not, and the page in a real browser."""

import asyncio
import contextlib
import copy
import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image, PngImagePlugin

from render import png
from render.spectrogram import Settings
from tests import corpus
from tests.conftest import spectrogram_of, write_picture

pytest.importorskip("fastapi", reason='needs the extra: pip install -e ".[web]"')
from fastapi.testclient import TestClient  # noqa: E402

from vision import serve
from vision.inference.predictor import Predictor  # noqa: E402
from vision.serving import app as app_module
from vision.serving import limits, readers, uploads
from vision.serving.app import (
    MAX_FILES,
    create_app,  # noqa: E402
)
from vision.serving.readers import PREFIX
from vision.serving.uploads import Patience, UploadPredictor

ROOT = Path(__file__).parents[2]
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium and chromedriver: apt-get install chromium chromium-driver"
)
MAX_BYTES = 3_000_000


def song(seconds, sr=22050):
    """A WAV in memory: a low tone with noise."""
    t = np.arange(round(seconds * sr)) / sr
    y = 0.3 * np.sin(2 * np.pi * 200 * t) + 0.01 * np.random.default_rng(0).standard_normal(len(t))
    data = io.BytesIO()
    soundfile.write(data, y, sr, format="WAV")
    return data.getvalue()


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor(trained / "run", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The temporary folder; it has to be empty when the servers have stopped."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def shared_client(predictor, folder):
    """One server for all: the processes that read files take seconds to start."""
    app = create_app(predictor, max_bytes=MAX_BYTES, max_seconds=30, name="run", per_minute=100_000)
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:
        yield client


@pytest.fixture
def client(shared_client, folder):
    yield shared_client
    assert [path.name for path in folder.glob(f"{PREFIX}*/*") if path.name != ".lock"] == []


def post(client, *files, **kwargs):
    return client.post("/api/predict", files=[("file", file) for file in files], **kwargs)


def picture_bytes(tmp_path, genre="jazz"):
    return write_picture(tmp_path / "p.png", spectrogram_of(genre, 99)).read_bytes()


def test_the_answers_are_those_of_predict(client, predictor, tmp_path):
    (tmp_path / "a.wav").write_bytes(song(2))
    picture_bytes(tmp_path)
    paths = [tmp_path / "p.png", tmp_path / "a.wav"]
    told = post(client, *[(path.name, path.read_bytes()) for path in paths]).json()
    for path, answer, expected in zip(paths, told, predictor.predict(paths), strict=True):
        assert (answer["file"], answer["notes"]) == (path.name, expected.notes)
        assert answer["predicted"] == expected.genre
        shown = [answer["probabilities"][genre] for genre in predictor.classes]
        np.testing.assert_allclose(shown, expected.p, atol=2e-4)
        assert list(answer["probabilities"].values()) == sorted(shown, reverse=True)
        assert answer["seconds"] >= 0
        assert not {"timeline", "picture", "heat"} & set(answer)


def test_pictures_and_times_come_on_demand(client, tmp_path):
    extras = "?timeline=true&picture=true&heat=true"
    data = write_picture(tmp_path / "p.png", spectrogram_of("metal", 3, 300)).read_bytes()
    answer = client.post("/api/predict" + extras, files={"file": ("p.png", data)}).json()[0]
    for name in "picture", "heat":
        assert answer[name].startswith("data:image/png;base64,")
    times = answer["timeline"]["times"]
    assert len(times) >= 1
    assert all(len(values) == len(times) for values in answer["timeline"]["probabilities"].values())
    assert answer["timeline"]["segments"][-1]["end"] == pytest.approx(times[-1][1], abs=0.02)
    assert answer["length"] == pytest.approx(300 * 512 / 22050, abs=0.02)
    assert [label for _, label in answer["frequencies"]] == ["250 Hz", "1 kHz", "4 kHz"]


def lines_of(reply):
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in reply.text.splitlines()]


def test_a_stream_tells_the_beginning_of_a_long_song_first(client, monkeypatch):
    monkeypatch.setattr(uploads, "FIRST_SECONDS", 5.0)
    files = [("file", ("long.wav", song(12))), ("file", ("short.wav", song(2))), ("file", ("no.wav", b"no sound"))]
    *first, last = lines_of(client.post("/api/predict?stream=true", files=files))
    assert [line["first"]["file"] for line in first] == ["long.wav"]
    assert first[0]["first"]["length"] == pytest.approx(5, abs=0.1) and first[0]["first"]["headline"]
    plain = client.post("/api/predict", files=files).json()
    assert [{**one, "seconds": 0} for one in last["answers"]] == [{**one, "seconds": 0} for one in plain]
    assert client.get("/health").json()["waiting"] == 0


def test_who_leaves_before_a_stream_begins_holds_no_place():
    """The lines are never asked for then, so they cannot let go of what the request held."""
    let_go = []

    async def leave():
        async with contextlib.AsyncExitStack() as held:
            held.callback(let_go.append, True)
            stream = app_module._Stream(app_module._lines(None, Patience(1)), held.pop_all())

        async def gone(*_):
            raise OSError("the visitor has left")

        with contextlib.suppress(Exception):
            await stream({"type": "http", "asgi": {"spec_version": "2.4"}}, gone, gone)

    asyncio.run(leave())
    assert let_go == [True]


def test_a_stream_is_refused_like_any_other_request(client):
    reply = client.post("/api/predict?stream=true", files={"file": ("a.wav", b"x" * (MAX_BYTES + 1))})
    assert reply.status_code == 413 and "MB" in reply.json()["error"]
    assert client.post("/api/predict?stream=true").status_code == 400


def test_the_example_can_be_predicted(client):
    tune = client.get("/example").content
    answer = client.post("/api/predict", files={"file": ("tune.wav", tune)}).json()[0]
    assert answer["predicted"] in ("blues", "jazz", "metal") and answer["length"] == pytest.approx(20, abs=0.1)


def test_health_tells_what_there_is(client):
    told = client.get("/health").json()
    assert (told["status"], told["model"], told["classes"]) == ("ok", "run", ["blues", "jazz", "metal"])
    assert told["limits"]["max_bytes"] == MAX_BYTES
    assert ".wav" in told["reads"]["sounds"]


def test_genres_of_any_name_are_told(predictor, folder, tmp_path):
    odd = copy.copy(predictor)
    odd.classes = ["<b>blues</b>", "jazz\udcff\n", "metal"]
    with TestClient(create_app(odd, max_bytes=MAX_BYTES, max_seconds=30), base_url="http://localhost") as client:
        shown = ["<b>blues</b>", "jazz\\udcff\n", "metal"]
        assert client.get("/health").json()["classes"] == shown
        assert post(client, ("a.png", picture_bytes(tmp_path))).json()[0]["predicted"] == shown[1]


def huge_claim(hop_length=1 << 20):
    """A small picture of ours whose text chunk claims to span years."""
    about = png.describe(Settings(sr=1000, hop_length=hop_length, n_fft=1 << 20, n_mels=8), {}, "magma")
    text = PngImagePlugin.PngInfo()
    text.add_text(png.CHUNK, json.dumps(about))
    data = io.BytesIO()
    image = Image.new("P", (60000, 8))
    image.putpalette(png.palette("magma").tobytes())
    image.save(data, "PNG", pnginfo=text)
    return data.getvalue()


@pytest.mark.parametrize(
    "name, data, told",
    [
        ("a.png", b"", "is empty"),
        ("a.png", b"no picture at all", "cannot be read as a picture"),
        ("a.wav", b"no sound at all", "cannot be decoded"),
        ("a.wav", lambda: song(2)[:20000], "truncated"),
        ("a.txt", b"text", "ends in .txt"),
        ("passwd", b"text", "has no ending"),
        (".png/../../x.html", b"text", "ends in .html"),
        ("a.flac", lambda: song(40), "longer than 30 s"),
        ("a.png", huge_claim, "says that it spans 62914560 s"),
        ("a.png", lambda: huge_claim(1000), "longer than 30 s"),
    ],
)
def test_what_cannot_be_read_costs_itself_only(client, tmp_path, name, data, told):
    data = data() if callable(data) else data
    bad, good = post(client, (name, data), ("good.png", picture_bytes(tmp_path))).json()
    assert told in bad["error"]
    assert bad["file"] == name
    assert "melvision-" not in bad["error"]  # nor where it lay
    assert good["predicted"] == "jazz"


@pytest.mark.parametrize(
    "name",
    ["../../escape.png", "/etc/x.png", "..\\..\\escape.png", "<img src=x onerror=alert(1)>.png",
     "$(touch x).png", "-i.png", "file:x.png", "a b\u202e%s.PNG", "x" * 500 + ".png", "..png", ".png"],
)  # fmt: skip
def test_names_are_shown_and_never_used(client, tmp_path, name):
    data = picture_bytes(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    answer = post(client, (name, data)).json()[0]
    assert (answer["file"], answer["predicted"]) == (name, "jazz")
    assert sorted(tmp_path.rglob("*")) == before


def test_too_much_is_refused_by_its_length_and_while_it_streams(client):
    assert post(client, ("a.wav", bytes(MAX_BYTES))).status_code == 413
    sent = 0

    def body():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        while sent < 20 * MAX_BYTES:
            sent += 100_000
            yield bytes(100_000)

    answer = client.post("/api/predict", content=body(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert (answer.status_code, answer.json()["error"]) == (413, "more than 3 MB, the limit of one request here")


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", "multipart/form-data; boundary=y"])
def test_what_is_no_form_with_files_is_refused(client, content_type):
    answer = client.post("/api/predict", content=b"--x\r\nnonsense", headers={"Content-Type": content_type})
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_too_many_files_are_refused(client):
    assert post(client, *[(f"{number}.png", b"x") for number in range(MAX_FILES + 1)]).status_code == 400


def test_the_busy_ask_to_come_again(client, monkeypatch, tmp_path):
    monkeypatch.setattr(app_module, "MAX_WAITING", 0)
    answer = post(client, ("a.png", picture_bytes(tmp_path)))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "3")


def test_who_sends_nothing_keeps_no_place(predictor, folder, monkeypatch):
    monkeypatch.setattr(limits, "STALL_SECONDS", 0.2)
    app = create_app(predictor, max_bytes=MAX_BYTES, max_seconds=30)
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "POST", "path": "/api/predict", "query_string": b"", "headers": headers}
    sent = []

    async def receive():
        if not sent:
            sent.append(None)
            return {"type": "http.request", "body": b"--x\r\n", "more_body": True}
        return await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    asyncio.run(asyncio.wait_for(app(scope, receive, send), 20))
    assert sent[1]["status"] == 408


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 200),
        ({"Host": "localhost:8765"}, 200),
        ({"Host": "[::1]:8765"}, 200),
        ({"Host": "192.168.0.7"}, 200),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "evil.example:8765"}, 403),
        ({"Host": "localhost@evil.example"}, 403),
        ({"Host": "[broken"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://127.0.0.1:8765"}, 200),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:8765", "Origin": "http://localhost:8765"}, 200),
    ],
)
def test_pages_of_other_sites_get_nothing(client, tmp_path, headers, status):
    answer = post(client, ("a.png", picture_bytes(tmp_path)), headers=headers)
    assert answer.status_code == status
    assert status == 200 or answer.json()["error"]
    assert client.get("/health", headers=headers).status_code == status


@pytest.mark.parametrize("path", ["/etc/passwd", "/..%2f..%2fetc/passwd", "/web.html", "/docs", "/static/", "/api/"])
def test_no_file_and_no_folder_is_served(client, path):
    assert client.get(path).status_code == 404


def test_the_page_loads_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert not re.search(r"""(src|href)=["'](?!data:)|https?://|innerHTML|insertAdjacentHTML|eval\(""", answer.text)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert client.post("/api/predict").headers["X-Content-Type-Options"] == "nosniff"  # refusals have them too


def bordered(number):
    """A picture with a white margin of one colour, of a size that the model has not met."""
    S_db = spectrogram_of("blues", number)
    pixels = np.full((140, 90, 3), 255, np.uint8)
    pixels[6:134, 10:74] = png.palette("magma")[png.quantise(S_db, vmin=-80, vmax=0)[::-1]]
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def test_an_answer_does_not_depend_on_the_other_files(client):
    alone = post(client, ("0.png", bordered(0))).json()[0]
    together = post(client, *[(f"{number}.png", bordered(number)) for number in range(5)]).json()
    assert "unknown size" in alone["notes"][0]
    assert {**together[0], "seconds": 0} == {**alone, "seconds": 0}


def test_a_fault_of_ours_is_logged_and_costs_its_file_only(client, predictor, monkeypatch, tmp_path, caplog):
    complete, calls = Predictor.complete, []

    def sometimes(self, *args):
        calls.append(args)
        if len(calls) == 1:
            raise ZeroDivisionError
        return complete(self, *args)

    monkeypatch.setattr(Predictor, "complete", sometimes)
    bad, good = post(client, *[(f"{n}.png", picture_bytes(tmp_path)) for n in range(2)]).json()
    assert "a fault in melvision" in bad["error"]
    assert good["predicted"] == "jazz"
    assert "ZeroDivisionError" in caplog.text


@needs_ffmpeg
def test_what_browsers_record_is_read(client, tmp_path):
    (tmp_path / "a.wav").write_bytes(song(3))
    call = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-c:a", "libopus", tmp_path / "a.webm"]
    subprocess.run(call, check=True, stdin=subprocess.DEVNULL)
    answer = post(client, ("recording.webm", (tmp_path / "a.webm").read_bytes())).json()[0]
    assert answer["predicted"]
    assert answer["length"] == pytest.approx(3, abs=0.2)


@needs_ffmpeg
def test_a_playlist_opens_no_other_file(client, tmp_path):
    (tmp_path / "secret.wav").write_bytes(song(3))
    secret = tmp_path / "secret.wav"
    for playlist in f"ffconcat version 1.0\nfile '{secret}'\n", f"#EXTM3U\n#EXTINF:3,\nfile://{secret}\n":
        for name in "a.webm", "a.m4a", "a.wav":
            answer = post(client, (name, playlist.encode())).json()[0]
            assert "cannot be decoded" in answer["error"]
            assert str(tmp_path) not in answer["error"]


def test_without_ffmpeg_that_is_told(client, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert ".webm" not in client.get("/health").json()["reads"]["sounds"]
    assert "lacks ffmpeg" in post(client, ("a.webm", b"x")).json()[0]["error"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_every_kind_of_file_gets_the_answer_of_predict(client, predictor, tmp_path):
    """The corpus of what disks hold: a right answer or one line, never a fault of ours."""
    cases = corpus.make(tmp_path / "corpus")
    paths = [tmp_path / "corpus" / "genres" / case.path for case in cases]
    paths += [path for _, path, _ in corpus.pictures(tmp_path / "pictures" / "jazz")]
    for path in paths:
        response = post(client, (path.name, path.read_bytes()))
        assert response.status_code == 200, path.name
        (answer,), expected = response.json(), predictor.predict(path)
        assert "fault in melvision" not in answer.get("error", ""), path.name
        assert answer.get("predicted") == expected.genre, path.name
        assert bool(answer.get("error")) == bool(expected.error), path.name


@pytest.fixture(scope="module")
def served(trained, tmp_path_factory):
    """The URL of ``python -m vision.serve``, and its temporary folder, which is empty when it has stopped."""
    folder = tmp_path_factory.mktemp("served")
    call = [sys.executable, "-m", "vision.serve", str(trained / "run"), "--port", "0", "--device", "cpu"]
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(call, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            found = re.match(r"(http://127\.0\.0\.1:\d+/)", process.stdout.readline())
            yield found[1], folder
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
    assert list(folder.glob("melvision-*")) == []


def get_json(url, data=None, headers=None):
    with urllib.request.urlopen(urllib.request.Request(url, data, headers or {}), timeout=60) as answer:
        return json.loads(answer.read())


@pytest.mark.slow
def test_several_visitors_are_served_at_once_and_health_stays_quick(served):
    url, _ = served
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + song(20) + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answers, waits = [], []
    threads = [
        threading.Thread(target=lambda: answers.append(get_json(url + "api/predict?heat=true", form, headers)[0]))
        for _ in range(8)
    ]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        start = time.monotonic()
        assert get_json(url + "health")["status"] == "ok"
        waits.append(time.monotonic() - start)
        time.sleep(0.05)
    assert len(answers) == 8
    assert len({json.dumps(answer | {"seconds": 0}) for answer in answers}) == 1
    # Far less than a prediction takes, for which it would wait if it came in turn.
    assert np.median(waits) < (time.monotonic() - begun) / len(answers) / 4


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--port", "70000"], "0 to 65535"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["--max-mb", "0"], "--max-mb 0"),
        (["--max-seconds", "nan"], "--max-seconds nan"),
        (["--device", "tpu9", "--port", "0"], "tpu9"),
    ],
)
def test_mistakes_end_in_one_line(trained, capsys, flags, told):
    assert serve.main([str(trained / "run"), *flags]) == 2
    line = capsys.readouterr().err
    assert told in line
    assert line.count("\n") == 1


def test_a_port_in_use_and_a_missing_run_and_extra_end_in_one_line(served, tmp_path, capsys, monkeypatch):
    port = re.search(r":(\d+)/", served[0])[1]
    assert serve.main([str(tmp_path), "--port", port]) == 2
    assert re.fullmatch(r"error: .*already in use; choose another.*\n", capsys.readouterr().err)
    assert serve.main([str(tmp_path), "--port", "0"]) == 2
    assert "no such checkpoint" in capsys.readouterr().err
    monkeypatch.setattr(serve.importlib.util, "find_spec", lambda name: None if name == "uvicorn" else True)
    assert serve.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == 'error: vision.serve needs uvicorn; install the extra: pip install -e ".[web]"\n'


# ---- under attack --------------------------------------------------------------------------------------


def flac_of_silence(hours):
    """A FLAC of hours of noise that is quiet: small for its length."""
    data = io.BytesIO()
    y = np.random.default_rng(0).integers(-1, 2, round(hours * 3600 * 8000)).astype(np.int16)
    soundfile.write(data, y, 8000, format="FLAC")
    return data.getvalue()


@pytest.mark.slow
def test_reading_ends_at_its_limits_and_others_are_served(predictor, folder, monkeypatch, tmp_path):
    """Endless work, memory without end and a crash: each is one line, and the next file is read."""
    monkeypatch.setattr(readers, "CPU_SECONDS", 4.0)
    reader = readers.UploadReader(Slow(), 1)
    try:
        for name, told in (("loop", "4 s of CPU time"), ("memory", "GiB of memory"), ("crash", "crashed")):
            start = time.monotonic()
            with pytest.raises(readers.ReadError, match=told):
                reader.read(Path(name))
            assert time.monotonic() - start < 30
        with pytest.raises(readers.ReaderFault, match="ZeroDivisionError"):
            reader.read(Path("fault"))
        with pytest.raises(readers.ReadError, match="^the file: is no picture$"):
            reader.read(Path("wrong"))
        threading.Timer(1.0, reader.stop).start()
        start = time.monotonic()
        with pytest.raises(readers.ReadError, match="stopping"):
            reader.read(Path("loop"))
        assert time.monotonic() - start < 3
    finally:
        reader.stop()


class Slow:
    """Stands for a Preprocessor; each name of a file is a kind of trouble."""

    def from_file(self, path):
        if path.name == "loop":
            while True:
                pass
        if path.name == "memory":
            return bytearray(8 << 30)
        if path.name == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if path.name == "fault":
            return 1 / 0
        raise ValueError(f"{path}: is no picture")


def test_an_answer_ends_within_a_batch(predictor, tmp_path):
    picture = tmp_path / "p.png"
    write_picture(picture, spectrogram_of("metal", 3, 300))
    uploads = UploadPredictor(predictor, 30, 1)
    uploads.reader.read = uploads_preprocessor(predictor).from_file
    with open(picture, "rb") as file:
        late = uploads.predict([("p.png", file)], ["heat"], Patience(-1.0))
    assert "took over" in late[0]["error"]
    patience = Patience(60.0)
    patience.give_up("nobody waited")
    with open(picture, "rb") as file:
        assert "nobody waited" in uploads.predict([("p.png", file)], (), patience)[0]["error"]


def uploads_preprocessor(predictor):
    from vision.data.preprocess import Preprocessor

    return Preprocessor(predictor.spec, max_seconds=30)


def test_a_token_is_asked_for(predictor, folder, tmp_path):
    app = create_app(predictor, max_bytes=MAX_BYTES, max_seconds=30, token="secret")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/").status_code == 200
        for path in "/health", "/openapi.json":
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"Authorization": "Bearer secre"}).status_code == 401
            assert client.get(path, headers={"Authorization": "Bearer secret"}).status_code == 200
        assert post(client, ("a.png", b"x")).status_code == 401


def test_requests_are_counted_by_address():
    visitors = limits.Visitors(1000, 3)
    for _ in range(3):
        visitors.count_request("a")
    with pytest.raises(limits.Busy) as busy:
        visitors.count_request("a")
    assert busy.value.status == 429 and 1 <= busy.value.seconds <= 61
    visitors.count_request("b")


def test_half_sent_uploads_lock_nobody_out(monkeypatch):
    visitors = limits.Visitors(1000, 3)
    with contextlib.ExitStack() as places:
        for _ in range(limits.MAX_ARRIVING_OF_ONE):
            places.enter_context(visitors.arriving("a"))
        with pytest.raises(limits.Busy), visitors.arriving("a"):
            pass
        with visitors.arriving("b"):
            pass
    with visitors.arriving("a"), visitors.holding() as upload:
        upload.add(900)
        with visitors.holding() as other, pytest.raises(limits.Busy):
            other.add(200)
        upload.add(100)
        monkeypatch.setattr(limits, "GRACE_SECONDS", -1.0)
        upload._since -= 10
        with pytest.raises(TimeoutError):
            upload.add(0)
    with visitors.holding() as upload:
        upload.add(1000)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_nothing_of_an_upload_is_left(trained, tmp_path, sign):
    """Stopped in the middle of a long file; what a kill leaves goes at the next start."""
    call = [sys.executable, "-m", "vision.serve", str(trained / "run"), "--port", "0", "--device", "cpu"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}

    def start():
        process = subprocess.Popen(call, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return process, re.match(rb"(http://127\.0\.0\.1:\d+/)", process.stdout.readline())[1].decode()

    process, url = start()
    sound = flac_of_silence(0.95)
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n' + sound + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}

    def ask():
        with contextlib.suppress(Exception):
            get_json(url + "api/predict?heat=true", form, headers)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: list(tmp_path.glob(f"{PREFIX}*/*/*.flac")))
    process.send_signal(sign)
    begun = time.monotonic()
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - begun < 3
    thread.join()
    if sign == signal.SIGKILL:
        left = list(tmp_path.glob(f"{PREFIX}*"))
        assert len(left) == 1
        os.utime(left[0], (0, 0))  # it has been there for a while
        process, _ = start()
        wait_for(lambda: not left[0].exists())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert list(tmp_path.glob("melvision-*")) == []
    assert b"Traceback" not in err, err.decode()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_uploads_that_never_end_do_not_hold_ctrl_c(trained):
    call = [sys.executable, "-m", "vision.serve", str(trained / "run"), "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    port = int(re.match(rb"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())[1])
    head = f"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 1000000\r\n"
    head += 'Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: form-data; name="file"; '
    with contextlib.ExitStack() as open_ones:
        for _ in range(12):
            connection = open_ones.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            connection.sendall(head.encode() + b'filename="a.wav"\r\n\r\n' + b"0" * 1000)
        get_json(f"http://127.0.0.1:{port}/health")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        _, err = process.communicate(timeout=20)
        assert time.monotonic() - begun < 3
        assert b"503" in connection.recv(100)
    assert err == b"", err.decode()


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_no_request_that_the_description_allows_ends_in_a_fault(predictor, folder):
    """Requests made from /openapi.json, right ones and wrong ones."""
    schemathesis = pytest.importorskip("schemathesis")
    import hypothesis

    app = create_app(predictor, max_bytes=200_000, max_seconds=30, per_minute=1_000_000, hosts=["testserver"])
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    seen = Counter()
    try:
        for operation in schema.get_all_operations():

            @hypothesis.given(case=operation.ok().as_strategy())
            @hypothesis.settings(max_examples=60, deadline=None, database=None, derandomize=True)
            def check(case):
                answer = case.call()
                seen[case.method, case.path, answer.status_code] += 1
                assert answer.status_code < 500, answer.text
                assert answer.status_code < 400 or answer.json()["error"]

            check()
    finally:
        app.state.stop()
    assert {path for _, path, _ in seen} == {"/", "/health", "/example", "/api/predict"}
    assert any(path == "/api/predict" and status == 200 for _, path, status in seen), seen


# ---- in a real browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1200,1000"):
        options.add_argument(f"--{flag}")
    for flag in ("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream"):  # a microphone that beeps
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


class Browser:
    """The page, driven as a person would."""

    def __init__(self, driver, url):
        self.driver = driver
        driver.get(url)
        self.wait(lambda: "genres apart:" in self.text("#model"))

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def text(self, selector):
        """The text that is seen, read in one go: the page may replace its elements between two calls."""
        script = "return [...document.querySelectorAll(arguments[0])].filter(one => one.checkVisibility())"
        return self.driver.execute_script(f"{script}.map(one => one.innerText.trim()).join(' ')", selector)

    def wait(self, reached, seconds=30):
        end = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < end, self.text("body")
            time.sleep(0.05)

    def drop(self, *paths):
        """Drop files onto the zone: a page cannot make them up, so an input of the test's own holds them."""
        own = self.driver.execute_script(
            "const own = document.createElement('input'); own.type = 'file'; own.multiple = true;"
            "return document.body.appendChild(own);"
        )
        own.send_keys("\n".join(str(path) for path in paths))
        self.driver.execute_script(
            "const held = new DataTransfer(); for (const file of arguments[0].files) held.items.add(file);"
            "arguments[0].remove(); const options = {dataTransfer: held, bubbles: true, cancelable: true};"
            "document.getElementById('zone').dispatchEvent(new DragEvent('drop', options));",
            own,
        )


@pytest.fixture
def browser(chromium, served, tmp_path):
    chromium.get_log("browser")
    browser = Browser(chromium, served[0])
    yield browser
    chromium.save_screenshot(str(tmp_path / "page.png"))
    with Image.open(tmp_path / "page.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20
    assert chromium.get_log("browser") == []


@pytest.mark.slow
@needs_chromium
def test_a_dropped_picture_is_answered_and_looked_into(browser, tmp_path):
    path = write_picture(tmp_path / "<b onclick=x>&amp;.png", spectrogram_of("metal", 99, 300))
    browser.drop(path)
    browser.wait(lambda: browser.text("#status").startswith("Done in"))
    assert browser.text("#detail h2") == path.name
    assert browser.text("#detail .big").startswith("metal, ")
    assert [row.text for row in browser.all("#bars th")][0] == "metal"
    assert not browser.all("#list tbody tr")[0].is_displayed()
    shown, veil = browser.all("#detail .picture img")
    assert browser.driver.execute_script("return arguments[0].naturalWidth", shown) >= 32
    assert not veil.is_displayed()
    browser.all("label.check input")[0].click()
    browser.wait(veil.is_displayed)
    browser.all("label.check input")[0].click()
    assert not veil.is_displayed()


@needs_chromium
def test_several_files_make_a_table_that_sorts(browser, tmp_path):
    genres = "jazz", "metal", "blues"
    paths = [write_picture(tmp_path / f"{genre}.png", spectrogram_of(genre, 98)) for genre in genres]
    (tmp_path / "notes.txt").write_text("text")
    browser.drop(*paths, tmp_path / "notes.txt")
    browser.wait(lambda: browser.text("#status") == "4 files done, 1 of them could not be predicted.")

    def names():
        return [row.text for row in browser.all("#rows td:first-child")]

    assert names() == ["jazz.png", "metal.png", "blues.png", "notes.txt"]
    browser.all("#list th button")[1].click()
    assert names() == ["blues.png", "jazz.png", "metal.png", "notes.txt"]
    browser.all("#list th button")[1].click()
    assert names() == ["metal.png", "jazz.png", "blues.png", "notes.txt"]
    assert browser.all("#list th")[1].get_attribute("aria-sort") == "descending"
    assert "ends in .txt" in browser.text("#rows .wrong")
    browser.all("#rows button")[0].send_keys("\n")  # by keyboard
    browser.wait(lambda: browser.text("#detail .big").startswith("metal, "))
    assert browser.driver.execute_script("return document.activeElement.id") == "detail"


@needs_chromium
def test_a_long_song_shows_its_course(browser, tmp_path):
    (tmp_path / "long.wav").write_bytes(song(30))
    browser.driver.find_element("id", "files").send_keys(str(tmp_path / "long.wav"))
    browser.wait(lambda: browser.text("#status").startswith("Done in"))
    slider = browser.all("#detail input[type=range]")[0]
    slider.send_keys("\ue014")  # the right arrow
    browser.wait(lambda: re.search(r"0:00 to 0:\d\d: \w+ ", browser.text("#detail p.small")))
    play = browser.all("#detail .chart button")[0]
    assert play.text == "Play" and not browser.all("#detail audio[controls]"), "one scrubber"
    play.send_keys("\n")  # by keyboard
    browser.wait(lambda: play.text == "Pause")


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("reads_webm", [pytest.param(True, marks=needs_ffmpeg), False])
def test_a_recording_is_answered(browser, reads_webm):
    if not reads_webm:  # as on a machine without ffmpeg: the browser makes a WAV of it
        browser.driver.execute_script("server.reads.sounds = ['.wav']")
    button = browser.driver.find_element("id", "record")
    button.click()
    browser.wait(lambda: re.search(r"Stop \(0:(0[2-9]|[1-5])", button.text))
    button.click()
    browser.wait(lambda: browser.text("#status").startswith("Done in"))
    ending = "webm" if reads_webm else "wav"
    assert re.fullmatch(rf"recording \d\d-\d\d-\d\d\.{ending}", browser.text("#detail h2"))
    assert browser.text("#detail .big")


@needs_chromium
def test_an_example_by_keyboard_and_its_table(browser, tmp_path):
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    browser.driver.find_element("id", "example").send_keys("\n")
    browser.wait(lambda: browser.text("#status").startswith("Done in"))
    assert browser.text("#detail h2") == "synthetic tune.wav"
    assert [tick.text for tick in browser.all("#detail .hz span")] == ["250 Hz", "1 kHz", "4 kHz"]
    browser.drop(write_picture(tmp_path / "=1+1.png", spectrogram_of("jazz", 98)))
    browser.wait(lambda: browser.text("#detail h2") == "=1+1.png" and browser.text("#status").startswith("Done in"))
    browser.driver.find_element("id", "csv").send_keys("\n")
    browser.wait((tmp_path / "genres.csv").is_file)
    with open(tmp_path / "genres.csv", encoding="utf-8-sig", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["file"] == "synthetic tune.wav" and second["file"] == "'=1+1.png", "no formula"
    assert sum(float(first[genre]) for genre in ("blues", "jazz", "metal")) == pytest.approx(1, abs=0.001)
    assert first["predicted"] in ("blues", "jazz", "metal")


@needs_chromium
def test_what_a_screen_reader_is_told(browser, tmp_path):
    """Everything that can be used has a role and a name in the accessibility tree, and is reached by Tab."""
    webdriver = pytest.importorskip("selenium.webdriver")
    browser.driver.find_element("id", "example").click()
    browser.wait(lambda: browser.text("#status").startswith("Done in"))
    browser.driver.execute_cdp_cmd("Accessibility.enable", {})
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    told = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    used = [
        (role, name) for role, name in told if role in ("button", "slider", "checkbox", "textbox", "image", "table")
    ]
    assert all(name for role, name in used if role != "table"), used
    names = {name for _, name in used}
    assert {"Choose files", "Record", "Try an example", "Play", "place in the track", "Download as CSV"} <= names
    assert any(role == "status" for role, _ in told) and any(role == "heading" for role, _ in told)
    reached = []
    browser.driver.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    for _ in range(20):
        webdriver.ActionChains(browser.driver).send_keys("\t").perform()
        focused = "const e = document.activeElement; return e.ariaLabel || e.textContent.trim() || e.type || ''"
        reached.append(browser.driver.execute_script(focused))
    assert {"Record", "Try an example", "Play", "place in the track", "Download as CSV"} <= set(reached), reached


@needs_chromium
def test_a_long_song_tells_its_beginning_first(browser, tmp_path):
    browser.driver.execute_script(
        "window.said = []; new MutationObserver(() => said.push(document.getElementById('status').textContent))"
        ".observe(document.getElementById('status'), { childList: true, characterData: true, subtree: true })"
    )
    (tmp_path / "long.wav").write_bytes(song(90))
    browser.drop(tmp_path / "long.wav")
    browser.wait(lambda: browser.text("#status").startswith("Done in"))
    assert any(text.startswith("The first minute is ") for text in browser.driver.execute_script("return said"))


@needs_chromium
def test_too_large_a_file_is_not_even_sent(browser, tmp_path):
    browser.driver.execute_script("server.limits.max_bytes = 10000")
    (tmp_path / "a.wav").write_bytes(song(2))
    browser.drop(tmp_path / "a.wav")
    browser.wait(lambda: "It could not be predicted." in browser.text("#status"))
    assert "has 0.1 MB; the limit here is 0.01 MB" in browser.text("#detail .wrong")


@needs_chromium
def test_the_page_fits_a_phone(browser, tmp_path):
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    long = write_picture(tmp_path / f"{'long' * 30}.png", spectrogram_of("metal", 97, 300))
    browser.drop(long, write_picture(tmp_path / "b.png", spectrogram_of("blues", 97)))
    browser.wait(lambda: browser.text("#status") == "2 files done.")
    browser.all("#rows button")[0].click()
    browser.wait(lambda: browser.text("#detail .big"))
    assert browser.driver.execute_script("return document.documentElement.scrollWidth") == 390
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_long_name_is_a_name(client):
    reply = client.post("/api/predict", files=[("file", (" " * 3000 + "x.png", b"no picture"))])
    assert reply.status_code == 200
    assert "cannot be read as a picture" in reply.json()[0]["error"]


def test_silence_gets_no_genre(client):
    data = io.BytesIO()
    soundfile.write(data, np.zeros(44100), 22050, format="WAV")
    answer = post(client, ("quiet.wav", data.getvalue())).json()[0]
    assert answer["predicted"] is None and "silent" in answer["error"]

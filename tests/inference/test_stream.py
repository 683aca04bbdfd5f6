"""Live prediction: what is heard so far is what a file of it would be, from pipes and the microphone."""

import io
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from render import audio, batch, spectrogram
from render.errors import MelvisionError
from render.settings import Settings
from tests.conftest import band_noise
from vision import listen, predict
from vision.data.pixel_store import PixelStore
from vision.inference.predictor import Predictor
from vision.inference.stream import Pcm, StreamBuffer, live

ROOT = Path(__file__).parents[2]
SR = 22050


@pytest.fixture(scope="module")
def predictor(trained):
    """The model, told that what it learned on were windows of 2 s in tracks of 5 s."""
    predictor = Predictor(trained / "run", "cpu")
    predictor.spec.window, predictor.spec.typical_seconds = 2.0, 5.0
    return predictor


def pieces_of(y, seed=0, longest=40000):
    rng = np.random.default_rng(seed)
    while len(y):
        n = int(rng.integers(1, longest))
        yield y[:n]
        y = y[n:]


# Frames


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(n_fft=1000, hop_length=317),
        Settings(n_fft=1023, hop_length=1023),
        Settings(n_fft=4096, hop_length=64, n_mels=40),
    ],
    ids=lambda settings: f"{settings.n_fft}-{settings.hop_length}",
)
@pytest.mark.parametrize("longest", [700, 40000])
def test_what_was_heard_is_what_a_file_of_it_shows(settings, longest):
    y = band_noise("metal", seconds=1.0)
    hearing = StreamBuffer(settings, 2.0)
    n = 0
    for piece in pieces_of(y, longest=longest):
        hearing.add(piece)
        n += len(piece)
        found, silent = hearing.values(1.0)
        assert not silent
        if n < settings.n_fft:
            assert found is None
            continue
        expected, _ = batch.compute_pieces([y[:n]], settings)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-3


def test_later_it_is_the_end_of_such_a_file_below_its_own_peak():
    settings = Settings()
    y = band_noise("jazz", seconds=6.0) * np.linspace(1, 0.1, 6 * SR, dtype=np.float32)
    hearing = StreamBuffer(settings, 2.0)
    for piece in pieces_of(y):
        hearing.add(piece)
    found, _ = hearing.values(1.0)
    S, _ = spectrogram.mel_power([y], settings)
    n_frames = 1 + 2 * SR // 512
    assert found.shape == (128, n_frames)
    assert np.abs(found - spectrogram.power_to_db(S[:, -n_frames:])).max() < 1e-3
    assert found.max() == 0
    # Apart from the first frames, which reach back, it is what a file of this stretch alone shows.
    start = (S.shape[1] - n_frames) * 512
    alone = spectrogram.mel_spectrogram(y[start:], settings)
    assert np.abs(found - alone)[:, 2:].max() < 0.5, "0 dB may be elsewhere"


def test_each_frame_is_computed_once(monkeypatch):
    """Hearing a minute in blocks of a second transforms few more frames than drawing it at once."""
    transformed = 0
    mel_power = spectrogram.mel_power

    def counted(blocks, settings):
        nonlocal transformed
        S, n = mel_power(blocks, settings)
        transformed += S.shape[1]
        return S, n

    monkeypatch.setattr(spectrogram, "mel_power", counted)
    hearing = StreamBuffer(Settings(), 30.0)
    y = band_noise("jazz", seconds=60.0)
    for at in range(0, len(y), SR):
        hearing.add(y[at : at + SR])
    assert transformed < 1.25 * len(y) / 512


def test_features_are_those_of_the_last_samples():
    settings = Settings(kind="features")
    y = band_noise("jazz", seconds=3.0)
    hearing = StreamBuffer(settings, 2.0)
    for piece in pieces_of(y):
        hearing.add(piece)
    found, silent = hearing.values(1.0)
    assert not silent
    expected, _ = batch.compute_pieces([y[-2 * SR :]], settings)
    assert np.array_equal(found, expected)


# Predictions


def seconds_of(y, sr):
    return (y[at : at + sr, None] for at in range(0, len(y), sr))


@pytest.mark.parametrize("window", [2.0, None])
@pytest.mark.parametrize("sr", [SR, 44100])
def test_an_answer_a_second_as_of_a_file(predictor, window, sr, monkeypatch):
    monkeypatch.setattr(predictor.spec, "window", window)
    y = band_noise("metal", sr, seconds=4.3)
    found = list(live(predictor, seconds_of(y, sr), sr))
    assert [seconds for seconds, _ in found] == pytest.approx([1, 2, 3, 4, 4.3], abs=1e-3)
    pieces = list(audio.to_mono(seconds_of(y, sr), sr, SR))
    for n, (seconds, p) in enumerate(found, 1):
        heard = np.concatenate(pieces[:n])
        # At another rate, the resampler holds the last milliseconds back.
        assert 0 <= seconds - len(heard) / SR < (1e-3 if sr == SR else 0.04)
        x = predictor.preprocessor.from_samples(heard, SR).x
        expected = predictor.probabilities(PixelStore.of(x[None, ..., -32:]))[0]
        assert p == pytest.approx(expected, abs=1e-5)


def test_the_genre_changes_when_the_music_does(predictor):
    y = np.concatenate([band_noise(genre, seconds=8.0) for genre in ("blues", "metal", "jazz")])
    found = [predictor.classes[p.argmax()] for _, p in live(predictor, seconds_of(y, SR), SR)]
    assert len(found) == 24
    for number, genre in enumerate(("blues", "metal", "jazz")):
        assert found[8 * number + 2 : 8 * number + 8] == [genre] * 6


def test_silence_is_no_genre(predictor):
    y = np.concatenate([np.zeros(2 * SR, np.float32), band_noise("jazz", seconds=3.0), np.zeros(4 * SR, np.float32)])
    found = [p is None for _, p in live(predictor, seconds_of(y, SR), SR)]
    assert found == [True, True, False, False, False, False, False, True, True]


# Pipes


def wav(y, sr, subtype, fmt="WAV"):
    file = io.BytesIO()
    soundfile.write(file, y, sr, format=fmt, subtype=subtype)
    return file.getvalue()


class Pipe(io.RawIOBase):
    """Bytes that cannot be sought in."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def read(self, n=-1):
        return self._data.read(n)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
@pytest.mark.parametrize("fmt", ["WAV", "WAVEX"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_wav_streams_are_read_as_files_are(subtype, fmt, channels):
    y = np.stack([0.5 * band_noise("jazz", 8000, 2.2)] * channels, axis=1) * np.linspace(0.5, 1, channels)
    data = wav(y, 8000, subtype, fmt)
    expected, sr = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    pcm = Pcm(Pipe(data))
    blocks = list(pcm)
    assert pcm.sr == sr == 8000
    assert [len(block) for block in blocks] == [8000, 8000, 1600]
    assert np.array_equal(np.concatenate(blocks), expected)
    assert pcm.note == ""


@pytest.mark.parametrize("length", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_length_that_nobody_knows(length):
    data = wav(band_noise("jazz", 8000, 1.5), 8000, "PCM_16")
    at = data.index(b"data") + 4
    pcm = Pcm(Pipe(data[:at] + struct.pack("<I", length) + data[at + 4 :] + b"x"))
    assert sum(map(len, pcm)) == 12000
    assert pcm.note == "the last 1 bytes are no whole sample and were left out"


def test_other_chunks_and_ends():
    y = band_noise("jazz", 8000, 1.5)
    data = wav(y, 8000, "PCM_16")
    extra = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    pcm = Pcm(Pipe(data[:12] + extra + data[12:] + extra))
    assert sum(map(len, pcm)) == 12000, "what follows the samples is no sound"
    pcm = Pcm(Pipe(data[:-101]))
    assert sum(map(len, pcm)) == 12000 - 51
    assert "no whole sample" in pcm.note
    pcm = Pcm(Pipe(data[:-100]))
    list(pcm)
    assert pcm.note == "ended 100 bytes before the length in its header"
    whole_seconds = Pcm(Pipe(wav(y[:8000], 8000, "PCM_16")))
    assert [len(block) for block in whole_seconds] == [8000]


@pytest.mark.parametrize(
    ("data", "rate", "told"),
    [
        (b"", None, "is empty"),
        (b"", 8000, "is empty"),
        (b"1234567890123456", None, "give --rate"),
        (wav(np.zeros(10), 8000, "PCM_16")[:30], None, "damaged WAV header"),
        (b"RIFF\0\0\0\0WAVEdata\x10\0\0\0", None, "damaged WAV header"),
        (b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\xff", None, "damaged WAV header"),
        (wav(np.zeros(100), 8000, "MS_ADPCM"), None, "WAV of format 2 with 4 bits"),
    ],
)
def test_streams_that_are_none(data, rate, told):
    with pytest.raises(MelvisionError, match=told):
        Pcm(Pipe(data), rate)


def test_raw_samples():
    y = np.arange(-500, 500, dtype="<i2")
    pcm = Pcm(Pipe(y.tobytes()), 400)
    blocks = list(pcm)
    assert [len(block) for block in blocks] == [400, 400, 200]
    assert np.array_equal(np.concatenate(blocks)[:, 0], y / np.float32(32768))


def stream(run, *flags):
    call = [sys.executable, "-m", "vision.predict", str(run), "--stdin", "--device", "cpu", *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment
    )


def test_answers_come_while_the_stream_goes_on(trained):
    y = np.stack([band_noise("metal", 44100, 3.5)] * 2, axis=1)
    data = wav(y, 44100, "PCM_24")
    second = 44100 * 6
    process = stream(trained / "run", "--json")
    process.stdin.write(data[: second * 2 + 100])
    process.stdin.flush()
    told = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [line["time"] for line in told] == [1, 2]
    assert process.poll() is None, "still listening"
    out, err = process.communicate(data[second * 2 + 100 :])
    told += [json.loads(line) for line in out.splitlines()]
    assert [line["time"] for line in told] == [1, 2, 3, 3.5]
    assert {line["predicted"] for line in told} == {"metal"}
    assert sum(told[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert (process.returncode, err) == (0, b"")


def test_raw_samples_through_a_pipe_and_ctrl_c(trained):
    y = (band_noise("jazz", SR, 2.0) * 32767).astype("<i2").tobytes()
    process = stream(trained / "run", "--rate", str(SR))
    process.stdin.write(y + b"xyz")
    process.stdin.flush()
    for seconds in ("1.0", "2.0"):
        line = process.stdout.readline().decode().split()
        assert line[:3] == [seconds, "s", "jazz"]
        assert len(line) == 8
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\0" * 400, "too short; expected 0.093 s or more"),
        (wav(np.full(SR, np.nan), SR, "FLOAT"), "holds NaN or infinity"),
        (wav(np.zeros((0, 1)), SR, "FLOAT"), "holds no samples"),
        (wav(np.zeros(100), 100, "PCM_16"), "sampling rate of 100 Hz"),
    ],
    # Not of the bytes: a WAV file tells the time, and every process must name the tests alike.
    ids=["short", "NaN", "empty", "slow"],
)
def test_streams_without_an_answer(trained, monkeypatch, capsys, data, told):
    class Stdin:
        buffer = Pipe(data)

    monkeypatch.setattr("sys.stdin", Stdin)
    rate = [] if data[:4] == b"RIFF" else ["--rate", str(SR)]
    assert predict.main([str(trained / "run"), "--stdin", "--device", "cpu", *rate]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


# The microphone


#: sounddevice as far as it is used: a microphone that hears a file and is then unplugged.
FAKE = """
import threading, soundfile

class PortAudioError(Exception):
    pass

def query_devices(device, kind):
    if device not in (None, "usb", 7):
        raise ValueError(f"No input device matching {device!r}")
    return {"default_samplerate": 44100.0}

class InputStream:
    def __init__(self, device, channels, samplerate, dtype, callback):
        assert (channels, samplerate, dtype) == (1, 44100, "float32")
        self.y, _ = soundfile.read("heard.wav", dtype="float32", always_2d=True)
        self.callback = callback

    def __enter__(self):
        def play():
            for at in range(0, len(self.y), 1000):
                block = self.y[at : at + 1000].copy()
                self.callback(block, len(block), None, None)
                block[:] = 0  # PortAudio uses its memory again
        threading.Thread(target=play).start()

    def __exit__(self, *error):
        pass
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Put a module in sounddevice's place, and give the microphone something to hear."""

    def install(text):
        (tmp_path / "sounddevice.py").write_text(text)
        monkeypatch.delitem(sys.modules, "sounddevice", raising=False)

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(listen, "PATIENCE", 0.5)
    soundfile.write("heard.wav", band_noise("metal", 44100, 3.0), 44100)
    yield install
    sys.modules.pop("sounddevice", None)


@pytest.mark.parametrize("flags", [[], ["--input", "usb"], ["--input", "7", "--json"]])
def test_the_microphone_is_heard(trained, fake, capsys, flags):
    fake(FAKE)
    assert listen.main([str(trained / "run"), "--device", "cpu", *flags]) == 2
    told = capsys.readouterr()
    assert "listening at 44100 Hz" in told.err
    assert "the microphone gave nothing for 0.5 s" in told.err
    last = told.out.splitlines()[-1]
    assert json.loads(last)["predicted"] == "metal" if "--json" in flags else last.split()[2] == "metal"


@pytest.mark.parametrize(
    ("module", "flags", "told"),
    [
        ("raise ImportError('no')", [], 'pip install -e ".[live]"'),
        ("raise OSError('PortAudio library not found')", [], "libportaudio2"),
        (FAKE, ["--input", "nothing"], "--input nothing: no such microphone"),
        (FAKE.replace("raise ValueError(", "raise PortAudioError("), ["--input", "3"], "--input 3: no such microphone"),
        (FAKE.replace("self.callback = callback", "raise PortAudioError('busy')"), [], "cannot be used (busy)"),
        (FAKE.replace("self.callback = callback", "self.callback, self.y[5] = callback, np.inf"), [], "NaN or infin"),
    ],
)
def test_no_microphone(trained, fake, capsys, module, flags, told):
    fake("import numpy as np\n" + module)
    assert listen.main([str(trained / "run"), "--device", "cpu", *flags]) == 2
    assert told in capsys.readouterr().err


def test_a_wrong_run_is_told_before_a_missing_microphone(fake, tmp_path, capsys):
    fake("raise ImportError('no')")
    assert listen.main([str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'nothing'}") and "sounddevice" not in error


def test_the_real_sounddevice_finds_no_microphone_or_hears_one(trained):
    """Whatever this machine has: no traceback."""
    call = [sys.executable, "-m", "vision.listen", str(trained / "run"), "--input", "no such microphone"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1

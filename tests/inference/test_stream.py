"""Streams: the prediction so far is that of a file with the same samples."""

import io
import json
import os
import shutil
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
from vision import predict
from vision.data.pixel_store import PixelStore
from vision.inference.predictor import Predictor
from vision.inference.stream import SampleStream, StreamBuffer, predict_stream

ROOT = Path(__file__).parents[2]
SR = 22050


@pytest.fixture(scope="module")
def predictor(trained):
    """The model with windows of 2 s in tracks of 5 s."""
    predictor = Predictor(trained / "run", "cpu")
    predictor.spec.window, predictor.spec.typical_seconds = 2.0, 5.0
    return predictor


def pieces_of(y, seed=0, longest=40000):
    rng = np.random.default_rng(seed)
    while len(y):
        n = int(rng.integers(1, longest))
        yield y[:n]
        y = y[n:]


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
def test_the_buffer_has_the_spectrogram_of_a_file(settings, longest):
    y = band_noise("metal", seconds=1.0)
    buffer = StreamBuffer(settings, 2.0)
    n = 0
    for piece in pieces_of(y, longest=longest):
        buffer.add(piece)
        n += len(piece)
        values, silent = buffer.values(1.0)
        assert not silent
        if n < settings.n_fft:
            assert values is None
            continue
        expected, _ = batch.compute_pieces([y[:n]], settings)
        assert values.shape == expected.shape
        assert np.abs(values - expected).max() < 1e-3


def test_a_full_buffer_has_the_end_of_such_a_spectrogram():
    settings = Settings()
    y = band_noise("jazz", seconds=6.0) * np.linspace(1, 0.1, 6 * SR, dtype=np.float32)
    buffer = StreamBuffer(settings, 2.0)
    for piece in pieces_of(y):
        buffer.add(piece)
    values, _ = buffer.values(1.0)
    S, _ = spectrogram.mel_power([y], settings)
    n_frames = 1 + 2 * SR // 512
    assert values.shape == (128, n_frames)
    assert np.abs(values - spectrogram.power_to_db(S[:, -n_frames:])).max() < 1e-3
    assert values.max() == 0
    # Apart from the first frames, which reach back, it is what a file of this stretch alone shows.
    start = (S.shape[1] - n_frames) * 512
    alone = spectrogram.mel_spectrogram(y[start:], settings)
    assert np.abs(values - alone)[:, 2:].max() < 0.5, "0 dB may be elsewhere"


def test_each_frame_is_computed_once(monkeypatch):
    """A minute in blocks of a second needs few more frames than all of it at once."""
    transformed = 0
    mel_power = spectrogram.mel_power

    def counted(blocks, settings):
        nonlocal transformed
        S, n = mel_power(blocks, settings)
        transformed += S.shape[1]
        return S, n

    monkeypatch.setattr(spectrogram, "mel_power", counted)
    buffer = StreamBuffer(Settings(), 30.0)
    y = band_noise("jazz", seconds=60.0)
    for at in range(0, len(y), SR):
        buffer.add(y[at : at + SR])
    assert transformed < 1.25 * len(y) / 512


def test_features_are_those_of_the_last_samples():
    settings = Settings(kind="features")
    y = band_noise("jazz", seconds=3.0)
    buffer = StreamBuffer(settings, 2.0)
    for piece in pieces_of(y):
        buffer.add(piece)
    values, silent = buffer.values(1.0)
    assert not silent
    expected, _ = batch.compute_pieces([y[-2 * SR :]], settings)
    assert np.array_equal(values, expected)


def seconds_of(y, sr):
    return (y[at : at + sr, None] for at in range(0, len(y), sr))


@pytest.mark.slow
@pytest.mark.parametrize("window", [2.0, None])
@pytest.mark.parametrize("sr", [SR, 44100])
def test_a_prediction_a_second_as_for_a_file(predictor, window, sr, monkeypatch):
    monkeypatch.setattr(predictor.spec, "window", window)
    y = band_noise("metal", sr, seconds=4.3)
    predictions = list(predict_stream(predictor, seconds_of(y, sr), sr))
    assert [seconds for seconds, _, _ in predictions] == pytest.approx([1, 2, 3, 4, 4.3], abs=1e-3)
    pieces = list(audio.to_mono(seconds_of(y, sr), sr, SR))
    for n, (seconds, p, _) in enumerate(predictions, 1):
        samples = np.concatenate(pieces[:n])
        # At another rate, the resampler holds the last milliseconds back.
        assert 0 <= seconds - len(samples) / SR < (1e-3 if sr == SR else 0.04)
        x = predictor.preprocessor.from_samples(samples, SR).x
        expected = predictor.probabilities(PixelStore.of(x[None, ..., -32:]))[0]
        assert p == pytest.approx(expected, abs=1e-5)


def test_the_genre_changes_when_the_music_does(predictor):
    y = np.concatenate([band_noise(genre, seconds=8.0) for genre in ("blues", "metal", "jazz")])
    genres = [predictor.classes[p.argmax()] for _, p, _ in predict_stream(predictor, seconds_of(y, SR), SR)]
    assert len(genres) == 24
    for number, genre in enumerate(("blues", "metal", "jazz")):
        assert genres[8 * number + 2 : 8 * number + 8] == [genre] * 6


def test_silence_has_no_genre(predictor):
    y = np.concatenate([np.zeros(2 * SR, np.float32), band_noise("jazz", seconds=3.0), np.zeros(4 * SR, np.float32)])
    silent = [p is None for _, p, _ in predict_stream(predictor, seconds_of(y, SR), SR)]
    assert silent == [True, True, False, False, False, False, False, True, True]


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
    stream = SampleStream(Pipe(data))
    blocks = list(stream)
    assert stream.sr == sr == 8000
    assert [len(block) for block in blocks] == [8000, 8000, 1600]
    assert np.array_equal(np.concatenate(blocks), expected)
    assert stream.note == ""


@pytest.mark.parametrize("length", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_header_without_a_length(length):
    data = wav(band_noise("jazz", 8000, 1.5), 8000, "PCM_16")
    at = data.index(b"data") + 4
    stream = SampleStream(Pipe(data[:at] + struct.pack("<I", length) + data[at + 4 :] + b"x"))
    assert sum(map(len, stream)) == 12000
    assert stream.note == "the last 1 bytes are not a whole sample and were ignored"


def test_other_chunks_and_ends():
    y = band_noise("jazz", 8000, 1.5)
    data = wav(y, 8000, "PCM_16")
    extra = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    stream = SampleStream(Pipe(data[:12] + extra + data[12:] + extra))
    assert sum(map(len, stream)) == 12000, "what follows the samples is no sound"
    stream = SampleStream(Pipe(data[:-101]))
    assert sum(map(len, stream)) == 12000 - 51
    assert "not a whole sample" in stream.note
    stream = SampleStream(Pipe(data[:-100]))
    list(stream)
    assert stream.note == "ended 100 bytes before the length in its header"
    whole_seconds = SampleStream(Pipe(wav(y[:8000], 8000, "PCM_16")))
    assert [len(block) for block in whole_seconds] == [8000]


@pytest.mark.parametrize(
    ("data", "rate", "message"),
    [
        (b"", None, "is empty"),
        (b"", 8000, "is empty"),
        (b"1234567890123456", None, "rate=None: expected"),
        (wav(np.zeros(10), 8000, "PCM_16")[:30], None, "damaged WAV header"),
        (b"RIFF\0\0\0\0WAVEdata\x10\0\0\0", None, "damaged WAV header"),
        (b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\xff", None, "damaged WAV header"),
        (wav(np.zeros(100), 8000, "MS_ADPCM"), None, "WAV of format 2 with 4 bits"),
    ],
)
def test_invalid_streams(data, rate, message):
    with pytest.raises(MelvisionError, match=message):
        SampleStream(Pipe(data), rate)


def test_raw_samples():
    y = np.arange(-500, 500, dtype="<i2")
    stream = SampleStream(Pipe(y.tobytes()), 400)
    blocks = list(stream)
    assert [len(block) for block in blocks] == [400, 400, 200]
    assert np.array_equal(np.concatenate(blocks)[:, 0], y / np.float32(32768))


def start_predict(run, *flags):
    call = [sys.executable, "-m", "vision.predict", str(run), "--stdin", "--device", "cpu", *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment
    )


@pytest.mark.slow
def test_predictions_come_while_the_stream_goes_on(trained):
    y = np.stack([band_noise("metal", 44100, 3.5)] * 2, axis=1)
    data = wav(y, 44100, "PCM_24")
    second = 44100 * 6
    process = start_predict(trained / "run", "--json")
    process.stdin.write(data[: second * 2 + 100])
    process.stdin.flush()
    lines = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [line["time"] for line in lines] == [1, 2]
    assert process.poll() is None, "it is still running"
    out, err = process.communicate(data[second * 2 + 100 :])
    lines += [json.loads(line) for line in out.splitlines()]
    assert [line["time"] for line in lines] == [1, 2, 3, 3.5]
    assert {line["predicted"] for line in lines} == {"metal"}
    assert sum(lines[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert (process.returncode, err) == (0, b"")


@pytest.mark.slow
def test_raw_samples_through_a_pipe_and_ctrl_c(trained):
    y = (band_noise("jazz", SR, 2.0) * 32767).astype("<i2").tobytes()
    process = start_predict(trained / "run", "--rate", str(SR))
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
    ("data", "message"),
    [
        (b"\0" * 400, "too short; expected 0.093 s or more"),
        (wav(np.full(SR, np.nan), SR, "FLOAT"), "holds NaN or infinity"),
        (wav(np.zeros((0, 1)), SR, "FLOAT"), "holds no samples"),
        (wav(np.zeros(100), 100, "PCM_16"), "sampling rate of 100 Hz"),
    ],
    # Not the bytes: a WAV file holds the time, and the names of tests must be the same in every process.
    ids=["short", "NaN", "empty", "slow"],
)
def test_streams_without_a_prediction(trained, monkeypatch, capsys, data, message):
    class Stdin:
        buffer = Pipe(data)

    monkeypatch.setattr("sys.stdin", Stdin)
    rate = [] if data[:4] == b"RIFF" else ["--rate", str(SR)]
    assert predict.main([str(trained / "run"), "--stdin", "--device", "cpu", *rate]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def encode(folder, y, kind, *codec):
    """Return `y` as the bytes of a file that ffmpeg writes."""
    soundfile.write(folder / "y.wav", y, SR)
    call = ["ffmpeg", "-v", "error", "-i", folder / "y.wav", *codec, "-f", kind, folder / "encoded"]
    subprocess.run(call, check=True)
    return (folder / "encoded").read_bytes()


CONTAINERS = {
    "RF64": ("wav", "-rf64", "always"), "W64": ("w64",), "AU": ("au",), "AIFF": ("aiff",), "CAF": ("caf",),
    "FLAC": ("flac",), "Matroska": ("matroska", "-c:a", "pcm_s16le"),
}  # fmt: skip


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize("rate", [None, 8000], ids=["no rate", "a wrong rate"])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers_on_a_pipe_are_read_by_their_content(tmp_path, kind, rate):
    y = band_noise("jazz", seconds=2.5)
    stream = SampleStream(io.BytesIO(encode(tmp_path, y, *CONTAINERS[kind])), rate)
    blocks = list(stream)
    assert stream.sr == SR
    assert [len(block) for block in blocks] == [SR, SR, len(y) - 2 * SR]
    np.testing.assert_allclose(np.concatenate(blocks)[:, 0], y, atol=1e-4)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize("kind", ["mp3", "adts", "ogg"])
def test_compressed_streams_are_read(tmp_path, kind):
    y = band_noise("jazz", seconds=2.5)
    found = np.concatenate(list(SampleStream(io.BytesIO(encode(tmp_path, y, kind)))))
    assert abs(len(found) - len(y)) < 3000


def test_a_container_is_named_where_it_cannot_be_decoded(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MelvisionError, match="flac.*ffmpeg"):
        SampleStream(io.BytesIO(b"fLaC\0\0\0\x22" + bytes(100)), 44100)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_damaged_container_is_refused():
    with pytest.raises(MelvisionError, match="au and cannot be decoded"):
        SampleStream(io.BytesIO(b".snd" + bytes(100)))


def test_raw_samples_that_begin_like_an_mpeg_frame_stay_samples():
    samples = b"\xff\xfb\x90\x64" + bytes(SR * 2)
    assert sum(map(len, SampleStream(io.BytesIO(samples), SR))) == SR + 2


def test_hiss_of_the_last_bit_is_silence(predictor):
    hiss = np.random.default_rng(0).integers(-1, 2, 4 * SR) / 32768
    assert [p for _, p, _ in predict_stream(predictor, seconds_of(hiss.astype(np.float32), SR), SR)] == [None] * 4

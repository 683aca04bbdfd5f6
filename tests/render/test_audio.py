"""`render.audio` decodes what librosa decodes, finds what is a track, and says what is wrong with the rest."""

import io
import os
import shutil
import struct
import subprocess
import sys

import librosa
import numpy as np
import pytest
import soundfile

from render import audio
from render.audio import AudioError, decode
from render.tracks import find_tracks

SR = 22050


def make_noise(seconds=0.5, sr=SR, channels=1, seed=0):
    """Noise of 16-bit values below full scale, shape (n,) or (n, channels): any format holds it exactly."""
    rng = np.random.default_rng(seed)
    y = rng.integers(-16000, 16000, (round(seconds * sr), channels)) / 32768
    return y[:, 0] if channels == 1 else y


def read(path, sr=SR, **kwargs):
    return np.concatenate(list(decode(path, sr=sr, **kwargs)))


def check_like_librosa(path, sr=SR, **kwargs):
    expected, _ = librosa.load(path, sr=sr, **kwargs)
    y = read(path, sr, **kwargs)
    assert y.dtype == np.float32
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("sr", [22050, 44100])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "ending, subtype",
    [
        *[("wav", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")],
        ("au", "PCM_16"),
        ("au", "FLOAT"),
        ("flac", "PCM_16"),
        ("flac", "PCM_24"),
        ("ogg", "VORBIS"),
        ("mp3", "MPEG_LAYER_III"),
        ("aiff", "PCM_16"),
        ("caf", "PCM_16"),
        ("w64", "PCM_16"),
        ("rf64", "PCM_16"),
    ],
)
def test_formats_decode_as_in_librosa(tmp_path, ending, subtype, channels, sr):
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, make_noise(sr=sr, channels=channels), sr, subtype=subtype)
    check_like_librosa(path)


@pytest.mark.parametrize("size", [1 << 20, 1000], ids=["one block", "many blocks"])
@pytest.mark.parametrize("sr", [1000, 8000, 11025, 16000, 32000, 44100, 48000, 88200, 96000, 192000])
def test_rates_are_resampled_as_in_librosa(tmp_path, monkeypatch, sr, size):
    monkeypatch.setattr(audio, "BLOCK_SAMPLES", size)
    path = tmp_path / "a.wav"
    soundfile.write(path, make_noise(0.3, sr=sr, channels=2), sr)
    check_like_librosa(path)
    check_like_librosa(path, sr=16000)


@pytest.mark.parametrize("size", [1 << 20, 1000, 1], ids=["one block", "many blocks", "less than a sample of all"])
def test_eight_channels_are_averaged(tmp_path, monkeypatch, size):
    monkeypatch.setattr(audio, "BLOCK_SAMPLES", size)
    path = tmp_path / "a.wav"
    y = make_noise(0.05, channels=8)
    soundfile.write(path, y, SR)
    np.testing.assert_allclose(read(path), y.mean(axis=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
@pytest.mark.parametrize(
    "part",
    [
        {"offset": 0.25},
        {"duration": 0.5},
        {"offset": 0.3, "duration": 0.2},
        {"offset": 0.5, "duration": 10.0},
        {"duration": 10.0},
    ],
    ids=str,
)
def test_offset_and_duration_are_librosas(tmp_path, monkeypatch, part, ending):
    monkeypatch.setattr(audio, "BLOCK_SAMPLES", 3000)
    for sr in (22050, 44100):
        path = tmp_path / f"{sr}.{ending}"
        soundfile.write(path, make_noise(1.0, sr=sr), sr)
        check_like_librosa(path, **part)


def test_long_files_come_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "BLOCK_SAMPLES", 4000)
    path = tmp_path / "a.wav"
    soundfile.write(path, make_noise(2.0, sr=44100, channels=2), 44100)
    assert max(len(y) for y in decode(path, sr=SR)) < 4000


@pytest.mark.parametrize("offset", [1.0, 50.0])
def test_an_offset_past_the_end_is_an_error(tmp_path, offset):
    path = tmp_path / "a.wav"
    soundfile.write(path, make_noise(1.0), SR)
    with pytest.raises(AudioError, match=f"no samples after the offset of {offset:g} s"):
        read(path, offset=offset)


def content(ending, seconds=2.0):
    """The bytes of a good file, made in memory."""
    file = io.BytesIO()
    soundfile.write(file, make_noise(seconds), SR, format=ending.upper())
    return file.getvalue()


def with_bytes(data, at, new):
    return data[:at] + new + data[at + len(new) :]


NOISE = b"no magic" + np.random.default_rng(1).bytes(20000)

BAD = {
    "0 bytes.wav": (b"", "empty"),
    "0 bytes.m4a": (b"", "empty"),
    "one byte.wav": (b"R", "cannot be decoded"),
    "random.wav": (NOISE, "cannot be decoded"),
    "random.flac": (NOISE, "cannot be decoded"),
    "random.ogg": (NOISE, "cannot be decoded"),
    "random.aiff": (NOISE, "cannot be decoded"),
    "zeros.wav": (bytes(5000), "cannot be decoded"),
    "text.wav": (b"This is no audio.\n" * 500, "cannot be decoded"),
    "text.mp3": (b"This is no audio.\n" * 500, "cannot be decoded|no samples|is damaged|truncated"),
    "picture.wav": (b"\x89PNG\r\n\x1a\n" + NOISE, "cannot be decoded"),
    "no frames.wav": (content("wav", 0), "no samples"),
    "no frames.au": (content("au", 0), "no samples"),
    "header.wav": (content("wav")[:44], "truncated: its header declares 88244 bytes, the file has 44"),
    "half.wav": (content("wav")[:44000], "truncated: its header declares 88244 bytes, the file has 44000"),
    "half.au": (content("au")[:44000], "truncated: its header declares"),
    "half.aiff": (content("aiff")[:44000], "truncated: its header declares"),
    "half.mp3": (content("mp3")[: len(content("mp3")) // 2], r"truncated: [01]\.\d s of 2\.0 s could be decoded"),
    "half.flac": (content("flac")[:30000], "truncated|damaged|cannot be decoded"),
    "rate 0.wav": (with_bytes(content("wav"), 24, bytes(4)), "sampling rate|cannot be decoded"),
    "rate 4e9.wav": (with_bytes(content("wav"), 24, b"\xff" * 4), "sampling rate|cannot be decoded"),
    "rate 1.wav": (with_bytes(content("wav"), 24, struct.pack("<I", 1)), "sampling rate of 1 Hz"),
    "rate 1e9.au": (with_bytes(content("au"), 16, struct.pack(">I", 10**9)), "sampling rate of 1000000000 Hz"),
    "0 channels.wav": (with_bytes(content("wav"), 22, bytes(2)), "cannot be decoded"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_raise_one_line_with_the_reason(tmp_path, name):
    data, why = BAD[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(AudioError, match=why) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) not in str(caught.value), "the caller tells the path"


@pytest.mark.parametrize("ending", ["au", "snd", "AU"])
@pytest.mark.parametrize("data", [NOISE, b"\x89PNG\r\n\x1a\n" + NOISE, bytes(5000)], ids=["noise", "picture", "zeros"])
def test_garbage_is_not_read_as_raw_audio(tmp_path, data, ending):
    """libsndfile reads any file of these endings that has no header as 8 kHz telephone sound."""
    path = tmp_path / f"a.{ending}"
    path.write_bytes(data)
    with pytest.raises(AudioError, match="cannot be decoded"):
        read(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(AudioError, match="No such file"):
        read(tmp_path / "a.wav")


def test_a_folder_named_like_a_file_is_an_error(tmp_path):
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(AudioError, match="directory"):
        read(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "ending, sizes", [("wav", {4: b"\xff" * 4, 40: b"\xff" * 4}), ("au", {8: b"\xff" * 4})], ids=["wav", "au"]
)
def test_streamed_headers_declare_no_size(tmp_path, ending, sizes):
    """Programs that write to a pipe cannot know the size and write all ones."""
    data = content(ending, 1.0)
    for at, size in sizes.items():
        data = with_bytes(data, at, size)
    path = tmp_path / f"a.{ending}"
    path.write_bytes(data)
    np.testing.assert_allclose(read(path), make_noise(1.0), rtol=0, atol=1e-4)


def test_a_header_off_by_a_few_bytes_is_harmless(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(content("wav")[:-100])
    assert len(read(path)) == 2 * SR - 50


@pytest.mark.parametrize(
    "name",
    ["a b.wav", "new\nline.wav", "\N{GUITAR}.wav", "-rf.wav", "a%20b?.wav", "'\".wav", "dots...wav", "a.WAV", "ü.Flac"],
)
def test_names_of_any_kind_decode(tmp_path, name):
    path = tmp_path / "blues" / name
    path.parent.mkdir()
    path.write_bytes(content(path.suffix[1:].lower(), 0.5))
    (track,) = find_tracks(tmp_path)[0]
    assert (track.genre, track.track_id, track.path) == ("blues", name.rpartition(".")[0], path)
    np.testing.assert_allclose(read(track.path), make_noise(0.5), rtol=0, atol=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are not UTF-8")
def test_names_that_are_not_valid_text_decode(tmp_path):
    path = tmp_path / "blues" / os.fsdecode(b"\xff\xfe.wav")
    path.parent.mkdir()
    path.write_bytes(content("wav", 0.5))
    (track,) = find_tracks(tmp_path)[0]
    np.testing.assert_allclose(read(track.path), make_noise(0.5), rtol=0, atol=1e-4)


def test_m4a_without_ffmpeg_gives_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "a.m4a"
    path.write_bytes(NOISE)
    with pytest.raises(AudioError, match=r"\.m4a needs the ffmpeg program; install it or convert") as caught:
        read(path)
    assert "\n" not in str(caught.value)


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg on the PATH")


@pytest.fixture
def m4a(tmp_path):
    """Half a second of 440 Hz, then of 3000 Hz, in a name that ffmpeg could take for an option or a protocol."""
    t = np.arange(44100) / 44100
    y = 0.4 * np.sin(2 * np.pi * np.where(t < 0.5, 440, 3000) * t)
    soundfile.write(tmp_path / "a.wav", np.stack([y, y], axis=1), 44100)
    path = tmp_path / "-i http: %d.m4a"
    call = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-c:a", "aac", "-b:a", "192k", f"file:{path}"]
    subprocess.run(call, check=True, stdin=subprocess.DEVNULL)
    return path


@needs_ffmpeg
def test_m4a_decodes_to_about_its_source(m4a):
    y, source = read(m4a), read(m4a.with_name("a.wav"))
    assert abs(len(y) - len(source)) < 0.1 * SR
    for part in slice(SR // 10, SR * 4 // 10), slice(SR * 6 // 10, SR * 9 // 10):
        assert np.abs(y[part] - source[part]).max() < 0.05


@needs_ffmpeg
def test_m4a_takes_offset_and_duration(m4a):
    for offset, hz in (0.1, 440), (0.6, 3000):
        y = read(m4a, offset=offset, duration=0.3)
        assert len(y) == pytest.approx(0.3 * SR, abs=0.05 * SR)
        assert np.abs(np.fft.rfft(y)).argmax() * SR / len(y) == pytest.approx(hz, abs=10)


@needs_ffmpeg
def test_ffmpegs_complaint_is_one_line(tmp_path):
    path = tmp_path / "b.m4a"
    path.write_bytes(NOISE)
    with pytest.raises(AudioError, match=r"cannot be decoded \(ffmpeg: .+\)") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@needs_ffmpeg
def test_ffmpeg_opens_nothing_but_the_file(tmp_path):
    (tmp_path / "a.wav").write_bytes(content("wav"))
    path = tmp_path / "b.m4a"
    path.write_bytes(b"ffconcat version 1.0\nfile a.wav\n")
    with pytest.raises(AudioError, match="cannot be decoded"):
        read(path)


@pytest.fixture
def stand_in_ffmpeg(tmp_path, monkeypatch):
    """Machines without ffmpeg still test the pipe: a program of that name that runs a few shell lines."""
    if os.name != "posix":
        pytest.skip("the stand-in for ffmpeg is a shell script")
    soundfile.write(tmp_path / "sound.au", make_noise(1.0, sr=44100, channels=2), 44100, subtype="FLOAT")

    def install(lines):
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "ffmpeg"
        program.write_text(f"#!/bin/sh\ncd '{tmp_path}'\n{lines}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        path = tmp_path / "a.m4a"
        path.write_bytes(NOISE)
        return path

    return install


def test_what_ffmpeg_pipes_is_decoded(tmp_path, monkeypatch, stand_in_ffmpeg):
    monkeypatch.setattr(audio, "BLOCK_SAMPLES", 3000)
    path = stand_in_ffmpeg("cat sound.au")
    np.testing.assert_allclose(read(path), read(tmp_path / "sound.au"), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "lines", ["echo first >&2; echo broken >&2; exit 1", "head -c 9000 sound.au; echo broken >&2; exit 1"]
)
def test_an_ffmpeg_error_is_reported(stand_in_ffmpeg, lines):
    path = stand_in_ffmpeg(lines)
    with pytest.raises(AudioError, match=r"^cannot be decoded \(ffmpeg: broken\)$"):
        read(path)


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def in_opposite_phase(seconds=2.0):
    left = make_noise(seconds)
    return np.stack([left, -left], axis=1)


def read_with_notes(path, **kwargs):
    notes = []
    return np.concatenate(list(decode(path, sr=SR, notes=notes, **kwargs))), " ".join(notes)


def test_where_channels_cancel_one_of_them_is_used_and_named(tmp_path):
    path = tmp_path / "a.wav"
    y = in_opposite_phase()
    soundfile.write(path, y, SR)
    found, notes = read_with_notes(path)
    np.testing.assert_allclose(found, y[:, 0], atol=1e-6)
    assert "inverted phase" in notes


@needs_ffmpeg
@pytest.mark.parametrize("codec", [["-c:a", "libmp3lame", "-b:a", "128k"], ["-c:a", "aac"], ["-c:a", "libopus"]])
def test_channels_cancel_after_a_codec_too(tmp_path, codec):
    source, path = tmp_path / "a.wav", tmp_path / "a.mka"
    y = 0.2 * np.sin(2 * np.pi * np.outer(np.arange(96000) / 48000, [220, 330, 1000, 3000])).sum(axis=1)
    soundfile.write(source, np.stack([y, -y], axis=1), 48000)
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, *codec, path], check=True)
    found, notes = read_with_notes(path)
    assert "inverted phase" in notes
    assert np.sqrt(np.mean(found**2)) > 0.1


def test_wide_stereo_and_silence_are_not_taken_for_inverted_phase(tmp_path):
    path = tmp_path / "a.wav"
    wide = in_opposite_phase() + 0.5 * make_noise(2.0, seed=1)[:, None]
    for y in (wide, make_noise(2.0, channels=2), np.zeros((SR, 2)), wide[:SR] * 1e-4):
        soundfile.write(path, y, SR, subtype="FLOAT")
        found, notes = read_with_notes(path)
        np.testing.assert_allclose(found, y.mean(axis=1), atol=1e-6)
        assert not notes


@pytest.mark.parametrize("sr, told", [(8000, True), (16000, True), (22050, False), (44100, False)])
def test_a_sampling_rate_that_does_not_reach_the_highest_band_is_noted(tmp_path, sr, told):
    path = tmp_path / "a.wav"
    soundfile.write(path, make_noise(0.5, sr), sr)
    assert (f"{sr / 2000:g} kHz" in read_with_notes(path, highest=SR / 2)[1]) is told

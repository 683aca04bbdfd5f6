"""A file is decoded by what it holds, whole, or with a word on what is missing; its name does not matter."""

import shutil
import struct
import subprocess

import numpy as np
import pytest
import soundfile

from render import audio, batch, png
from render.audio import AudioError, decode
from render.settings import Settings
from render.sniff import declared_size, sniff
from render.tracks import Track

SR = 44100
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg on the PATH")


def make_sweep(seconds=4.0, sr=SR, channels=2, low=300):
    """Quiet, then louder and higher: encoders of variable bit rate change theirs."""
    t = np.arange(round(seconds * sr)) / sr
    y = np.minimum(0.05 + t / 10, 0.4) * np.sin(2 * np.pi * (low + 300 * t) * t)
    y[t > seconds / 2] += 0.1 * np.random.default_rng(0).standard_normal((t > seconds / 2).sum())
    return np.stack([y] * channels, axis=1)


def read(path, sr=SR, **kwargs):
    notes = []
    return np.concatenate(list(decode(path, sr=sr, notes=notes, **kwargs))), notes


def encode(folder, name, *options, seconds=4.0, sr=SR, channels=2, low=300):
    """The bytes that ffmpeg writes; `name` says in which format."""
    source = folder / "source.wav"
    soundfile.write(source, make_sweep(seconds, sr, channels, low), sr)
    call = ["ffmpeg", "-v", "error", "-y", "-i", source, *options, folder / name]
    subprocess.run(call, check=True, stdin=subprocess.DEVNULL)
    return (folder / name).read_bytes()


def piped(folder, format, *options):
    """The same through a pipe, where a header cannot be completed at the end."""
    source = folder / "source.wav"
    soundfile.write(source, make_sweep(), SR)
    call = ["ffmpeg", "-v", "error", "-i", source, *options, "-f", format, "pipe:1"]
    return subprocess.run(call, check=True, stdin=subprocess.DEVNULL, capture_output=True).stdout


def ffmpeg_reads(path, format):
    """The reference: the whole of the file, channels averaged."""
    call = ["ffmpeg", "-v", "quiet", "-f", format, "-i", path, "-map", "0:a:0", "-f", "au", "-c:a", "pcm_f32be", "-"]
    data = subprocess.run(call, stdin=subprocess.DEVNULL, capture_output=True).stdout
    channels = struct.unpack(">I", data[20:24])[0]
    return np.frombuffer(data[struct.unpack(">I", data[4:8])[0] :], ">f4").reshape(-1, channels).mean(axis=1)


def check_as_ffmpeg(path, format, seconds):
    y, notes = read(path)
    assert notes == []
    assert len(y) / SR == pytest.approx(seconds, abs=0.15)
    np.testing.assert_allclose(y, ffmpeg_reads(path, format), rtol=0, atol=1e-6)


def id3(size):
    """An ID3v2 tag with a picture that holds what looks like the start of a frame."""
    length = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + length + (b"APIC" + b"\xff\xfb\x90\x00" * (size // 4 + 1))[:size]


def ape(size):
    fields = struct.pack("<III", 2000, size + 32, 1)
    return b"APETAGEX" + fields + b"\x00\x00\x00\xa0" + bytes(8) + b"x" * size + b"APETAGEX" + fields + bytes(12)


def without_id3(data):
    return data[10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True)) :]


@pytest.fixture
def vbr(tmp_path):
    """MP3 of variable bit rate without a length header."""
    return without_id3(encode(tmp_path, "vbr.mp3", "-c:a", "libmp3lame", "-q:a", "2", "-write_xing", "0"))


@pytest.fixture
def xing(tmp_path):
    return without_id3(encode(tmp_path, "xing.mp3", "-c:a", "libmp3lame", "-q:a", "2"))


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["plain", "big ID3", "two ID3", "ID3v1", "APE", "APE before", "zeros", "VBRI"])
def test_mpeg_audio_without_a_length_is_read_whole(tmp_path, vbr, kind):
    # VBRI: Fraunhofer's length header, in a frame of silence, which libsndfile does not know.
    frame = b"\xff\xfb\x90\x00" + bytes(32) + b"VBRI" + struct.pack(">HHHII", 1, 0, 75, len(vbr) + 417, 155)
    data = {
        "plain": vbr,
        "big ID3": id3(1_000_000) + vbr,
        "two ID3": id3(1000) + id3(20_000) + vbr,
        "ID3v1": vbr + b"TAG" + bytes(125),
        "APE": vbr + ape(300_000),
        "APE before": ape(300_000)[:-32] + vbr,
        "zeros": bytes(5000) + vbr,
        "VBRI": frame + bytes(417 - len(frame)) + vbr,
    }[kind]
    path = tmp_path / "a.mp3"
    path.write_bytes(data)
    check_as_ffmpeg(path, "mp3", 4.0)


@needs_ffmpeg
@pytest.mark.parametrize("ending, codec", [("mp2", "mp2"), ("wav", "libmp3lame")])
def test_mpeg_audio_of_other_layers_and_in_wav_is_read_whole(tmp_path, ending, codec):
    encode(tmp_path, f"a.{ending}", "-c:a", codec, *(["-q:a", "2"] if codec == "libmp3lame" else []))
    check_as_ffmpeg(tmp_path / f"a.{ending}", ending.replace("mp2", "mp3"), 4.0)


@needs_ffmpeg
@pytest.mark.parametrize("second", ["same", "rate", "channels", "tagged", "without length"])
@pytest.mark.parametrize("first", ["xing", "vbr"])
def test_joined_mp3s_are_read_whole(tmp_path, xing, vbr, first, second):
    one = {"xing": xing, "vbr": vbr}[first]
    two = {
        "same": lambda: xing,
        "rate": lambda: encode(tmp_path, "b.mp3", "-b:a", "64k", sr=22050),
        "channels": lambda: encode(tmp_path, "b.mp3", "-b:a", "64k", channels=1),
        "tagged": lambda: b"TAG" + bytes(125) + id3(30_000) + xing,
        "without length": lambda: vbr,
    }[second]()
    path = tmp_path / "a.mp3"
    path.write_bytes(one + two)
    check_as_ffmpeg(path, "mp3", 8.0)


@needs_ffmpeg
def test_a_change_of_rate_under_a_correct_length_header_is_read_whole(tmp_path, xing):
    """As programs that mend length headers write it for joined files."""
    other = without_id3(encode(tmp_path, "b.mp3", "-b:a", "64k", sr=22050))
    at = xing.index(b"Xing")
    n_frames = sum(int.from_bytes(d[i + 8 : i + 12], "big") for d, i in ((xing, at), (other, other.index(b"Info"))))
    path = tmp_path / "a.mp3"
    path.write_bytes(xing[: at + 8] + struct.pack(">II", n_frames, len(xing + other)) + xing[at + 16 :] + other)
    check_as_ffmpeg(path, "mp3", 8.0)


@needs_ffmpeg
@pytest.mark.parametrize("tags", ["none", "ID3", "APE", "zeros"])
def test_a_correct_length_header_is_left_to_libsndfile(tmp_path, monkeypatch, xing, tags):
    data = {"none": xing, "ID3": id3(300_000) + xing, "APE": xing + ape(300_000), "zeros": bytes(3000) + xing}[tags]
    path = tmp_path / "a.mp3"
    path.write_bytes(data)
    assert sniff(path).incomplete == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    y, notes = read(path)
    assert notes == []
    np.testing.assert_array_equal(y, soundfile.read(path, dtype="float32")[0].mean(axis=1))


@needs_ffmpeg
def test_parts_of_mpeg_audio_are_those_of_the_whole(tmp_path, vbr, xing):
    for data in vbr, xing + xing:
        path = tmp_path / "a.mp3"
        path.write_bytes(data)
        whole = read(path)[0]
        y = read(path, offset=1.5, duration=2.0)[0]
        assert len(y) == 2 * SR
        best = min(np.abs(y - whole[start : start + len(y)]).max() for start in range(3 * SR // 2 - 2, 3 * SR // 2 + 3))
        assert best < 1e-6


@needs_ffmpeg
def test_flac_from_a_pipe_is_read_whole(tmp_path):
    (tmp_path / "a.flac").write_bytes(piped(tmp_path, "flac"))
    y, notes = read(tmp_path / "a.flac")
    assert notes == []
    np.testing.assert_array_equal(y, read(tmp_path / "source.wav")[0])
    part = read(tmp_path / "a.flac", offset=1.0, duration=1.5)[0]
    np.testing.assert_array_equal(part, y[SR : SR * 5 // 2])


@needs_ffmpeg
@pytest.mark.parametrize("format", ["wav", "au", "aiff", "caf", "w64", "ogg", "opus", "mp3"])
def test_other_formats_from_a_pipe_are_read_whole(tmp_path, format):
    path = tmp_path / f"a.{format}"
    path.write_bytes(piped(tmp_path, format))
    y, notes = read(path)
    assert notes == []
    assert len(y) / SR == pytest.approx(4.0, abs=0.06)


@pytest.mark.slow
@needs_ffmpeg
@pytest.mark.parametrize("codec", ["libvorbis", "libopus"])
@pytest.mark.parametrize("second", [{}, {"sr": 24000}, {"channels": 1}], ids=str)
def test_chained_ogg_is_read_whole(tmp_path, codec, second):
    one = encode(tmp_path, "a.oga", "-c:a", codec)
    two = encode(tmp_path, "b.oga", "-c:a", codec, low=900, **second)
    path = tmp_path / "a.ogg"
    path.write_bytes(one + two)
    rate = 48000 if codec == "libopus" else SR
    y, notes = read(path, sr=rate)
    assert notes == []
    assert len(y) / rate == pytest.approx(8.0, abs=0.1)
    np.testing.assert_allclose(y, ffmpeg_reads(path, "ogg"), rtol=0, atol=1e-6)
    assert np.abs(y[: 3 * SR] - read(tmp_path / "a.oga", sr=rate)[0][: 3 * SR]).max() < 1e-3


@needs_ffmpeg
def test_chained_flac_in_ogg_is_read_whole_or_noted(tmp_path):
    """ffmpeg does not read the second one where its header is another one."""
    path = tmp_path / "a.ogg"
    path.write_bytes(encode(tmp_path, "a.oga", "-c:a", "flac") + encode(tmp_path, "b.oga", "-c:a", "flac", sr=24000))
    y, notes = read(path)
    assert len(y) / SR == pytest.approx(8.0, abs=0.1) or "parts may be missing" in notes[0]


@needs_ffmpeg
def test_ogg_that_goes_on_in_another_codec_is_read_whole_or_noted(tmp_path):
    path = tmp_path / "a.ogg"
    path.write_bytes(
        encode(tmp_path, "v.ogg", "-c:a", "libvorbis") + encode(tmp_path, "o.ogg", "-c:a", "libopus", sr=48000)
    )
    y, notes = read(path)
    assert len(y) / SR == pytest.approx(8.0, abs=0.1) or "parts may be missing" in notes[0]
    assert str(path) not in "".join(notes)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "AU", "AIFF", "W64", "RF64"])
def test_other_joined_files_say_that_the_first_is_read(tmp_path, format):
    path = tmp_path / "a.bin"
    soundfile.write(path, make_sweep(1.0), SR, format=format)
    path.write_bytes(path.read_bytes() * 2)
    y, notes = read(path)
    assert len(y) / SR >= 1
    assert len(notes) == 1 and "several" in notes[0]


def test_files_as_they_should_be_have_no_notes(tmp_path):
    for format in "WAV", "FLAC", "AU", "AIFF", "OGG", "MP3", "CAF", "W64", "RF64", "VOC", "NIST":
        path = tmp_path / "a.bin"
        soundfile.write(path, make_sweep(1.0), SR, format=format)
        content = sniff(path)
        assert not content.note and not content.incomplete and not content.only_ffmpeg, format
        assert declared_size(path) in (None, *range(path.stat().st_size - 8, path.stat().st_size + 9)), format
        assert read(path)[1] == []


# --- cut files ------------------------------------------------------------------------------------------------------

CUT = {
    "faststart.m4a": ["-c:a", "aac", "-movflags", "+faststart"],
    "a.m4a": ["-c:a", "aac"],
    "a.mov": ["-c:a", "alac"],
    "a.webm": ["-c:a", "libopus"],
    "a.mka": ["-c:a", "libvorbis"],
    "a.wma": [],
    "a.wv": [],
    "a.tta": [],
    "a.caf": [],
    "a.w64": [],
    "a.wav": ["-rf64", "always"],
}


@needs_ffmpeg
@pytest.mark.parametrize("name", CUT)
def test_files_cut_in_half_are_refused_as_truncated(tmp_path, name):
    data = encode(tmp_path, name, *CUT[name])
    y, notes = read(tmp_path / name)
    assert notes == []
    assert len(y) / SR == pytest.approx(4.0, abs=0.1)
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError, match="truncated") as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format", ["NIST", "W64", "RF64", "CAF", "AIFF", "AU", "WAV"])
def test_files_that_libsndfile_would_cut_short_are_refused(tmp_path, format):
    path = tmp_path / "a.bin"
    soundfile.write(path, make_sweep(1.0), SR, format=format)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(AudioError, match="truncated"):
        read(path)


UNKNOWN = {
    "a.aac": ["-c:a", "aac"],
    "a.ogg": ["-c:a", "libvorbis"],
    "a.opus": ["-c:a", "libopus"],
    "fragments.mp4": ["-c:a", "aac", "-movflags", "frag_keyframe+empty_moov", "-frag_duration", "500000"],
    "live.webm": ["-c:a", "libopus", "-live", "1"],
}


@needs_ffmpeg
@pytest.mark.parametrize("name", UNKNOWN)
def test_cut_files_that_do_not_tell_their_length_get_a_note(tmp_path, name):
    data = encode(tmp_path, name, *UNKNOWN[name])
    assert read(tmp_path / name)[1] == []
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    y, notes = read(tmp_path / name)
    assert 0.5 < len(y) / SR < 3
    assert len(notes) == 1 and "cut off" in notes[0]
    assert "\n" not in notes[0]


@needs_ffmpeg
def test_a_film_whose_sound_ends_early_gets_a_note(tmp_path):
    path = tmp_path / "a.mp4"
    video = ["-f", "lavfi", "-i", "color=s=16x16:d=8", "-map", "0:a", "-map", "1:v", "-c:a", "aac", "-c:v", "mpeg4"]
    encode(tmp_path, "a.mp4", *video)
    y, notes = read(path)
    assert len(y) / SR == pytest.approx(4.0, abs=0.1)
    assert len(notes) == 1 and "ends early" in notes[0]


@needs_ffmpeg
def test_the_note_is_on_the_result_and_kept_with_the_picture(tmp_path):
    data = encode(tmp_path, "a.ogg", "-c:a", "libvorbis")
    (tmp_path / "jazz").mkdir()
    track = Track("jazz", "a", tmp_path / "jazz/a.ogg")
    track.path.write_bytes(data[: len(data) // 2])
    settings, colours = Settings(), png.palette("magma")
    for expected in "drawn", "fresh":
        result = batch.draw(track, tmp_path, settings, "magma", colours)
        assert result.status == expected
        assert "cut off" in result.message
    assert "cut off" in batch.check_fresh(track, tmp_path, settings, "magma").message


# --- names ----------------------------------------------------------------------------------------------------------

CONTENTS = {
    "mp3": ["-c:a", "libmp3lame"],
    "m4a": ["-c:a", "aac"],
    "aac": ["-c:a", "aac"],
    "webm": ["-c:a", "libopus"],
    "ogg": ["-c:a", "libvorbis"],
    "opus": ["-c:a", "libopus"],
    "oga": ["-c:a", "flac"],  # libsndfile reads no FLAC in Ogg
    "flac": [],
    "wav": [],
    "aiff": [],
    "au": [],
    "wma": [],
    "wv": [],
    "ac3": [],
    "eac3": [],
    "w64": [],
}


@pytest.mark.slow
@needs_ffmpeg
@pytest.mark.parametrize("own", CONTENTS)
def test_content_decides_and_not_the_ending(tmp_path, own):
    data = encode(tmp_path, f"a.{own}", *CONTENTS[own], seconds=0.5)
    expected = read(tmp_path / f"a.{own}")[0]
    assert len(expected) / SR == pytest.approx(0.5, abs=0.12)
    for ending in "wav", "mp3", "m4a", "au", "ogg", "ape":
        path = tmp_path / f"b.{ending}"
        path.write_bytes(data)
        y, notes = read(path)
        assert notes == []
        np.testing.assert_array_equal(y, expected, err_msg=ending)


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["adpcm_swf", "g722", "wmav2"])
def test_codecs_in_wav_that_libsndfile_lacks_are_read(tmp_path, codec):
    encode(tmp_path, "a.wav", "-c:a", codec, *(["-ac", "1"] if codec == "g722" else []))
    y, notes = read(tmp_path / "a.wav")
    assert len(y) / SR == pytest.approx(4.0, abs=0.1)


# --- without ffmpeg -------------------------------------------------------------------------------------------------


@needs_ffmpeg
def test_without_ffmpeg_nothing_is_left_out_silently(tmp_path, monkeypatch, vbr, xing):
    files = {
        "vbr.mp3": vbr,
        "joined.mp3": xing + xing,
        "tags.mp3": id3(500_000) + vbr,
        "pipe.flac": piped(tmp_path, "flac"),
        "chained.ogg": encode(tmp_path, "a.ogg", "-c:a", "libvorbis") * 2,
        "browser.wav": encode(tmp_path, "a.webm", "-c:a", "libopus"),
        "flac.ogg": encode(tmp_path, "a.oga", "-c:a", "flac"),
    }
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        try:
            message = "; ".join(read(tmp_path / name)[1])
        except AudioError as error:
            message = str(error)
        assert "ffmpeg program" in message and "\n" not in message, name


@pytest.mark.parametrize(
    "data", [b"RIFF", b"OggS\x00\x02" + bytes(30), b"fLaC", b"ID3\x04\x00\x10\x7f\x7f\x7f\x7f" * 3]
)
@pytest.mark.parametrize("more", [0, 1, 5000])
def test_heads_without_a_body_are_errors(tmp_path, data, more):
    path = tmp_path / "a.wav"
    path.write_bytes(data + bytes(more))
    with pytest.raises(AudioError, match="cannot be decoded|damaged|truncated"):
        read(path)


def test_heads_cut_anywhere_are_no_crash(tmp_path):
    for head in (
        b"\x1aE\xdf\xa3\x9f",
        b"\x00\x00\x00\x18ftypM4A ",
        b"caff\x00\x01\x00\x00",
        b"0&\xb2u\x8ef\xcf\x11",
        b"\xff",
    ):
        for n in range(1, 200, 7):
            path = tmp_path / "a.bin"
            path.write_bytes((head + b"\xff" * 200)[:n])
            declared_size(path)
            sniff(path)


def test_blocks_of_any_size_are_the_same_sound(tmp_path, monkeypatch):
    path = tmp_path / "a.flac"
    soundfile.write(path, make_sweep(1.0), SR)
    whole = read(path)[0]
    monkeypatch.setattr(audio, "BLOCK_SAMPLES", 1000)
    np.testing.assert_array_equal(read(path)[0], whole)


@pytest.mark.parametrize("blocks", [4096, 1 << 23])
def test_a_voc_file_that_was_cut_is_named(tmp_path, blocks):
    """ffmpeg writes blocks of 4 KiB, libsndfile one; neither program says that the end is missing."""
    y = np.random.default_rng(0).integers(-9999, 9999, 22050 * 2, np.int16).tobytes()
    start = b"Creative Voice File\x1a\x1a\x00\x0a\x01\x29\x11"
    content = start + b"\x09" + (12 + min(blocks, len(y))).to_bytes(3, "little")
    content += (22050).to_bytes(4, "little") + b"\x10\x01\x04\x00\x00\x00\x00\x00" + y[:blocks]
    for at in range(blocks, len(y), blocks):
        content += b"\x02" + len(y[at : at + blocks]).to_bytes(3, "little") + y[at : at + blocks]
    path = tmp_path / "a.voc"
    cut = "has no mark of its end: it may have been cut off"
    for data, note in ((content + b"\0", ""), (content[: len(content) // 2], cut), (content, cut)):
        path.write_bytes(data)
        assert sniff(path).note == note
    path.write_bytes(content + b"\0")
    assert sum(len(y) for y in decode(path, sr=22050)) == pytest.approx(2 * 22050, abs=100)


@needs_ffmpeg
def test_a_hole_in_mpeg_audio_is_named_in_a_wav_file_too(tmp_path, vbr):
    hole = vbr[: len(vbr) // 2] + bytes(5000) + vbr[len(vbr) // 2 + 5000 :]
    for name, data in (("hole", hole), ("whole", vbr)):
        header = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 0x55, 1, 22050, 4000, 1, 0)
        content = header + b"data" + struct.pack("<I", len(data)) + data
        (tmp_path / f"{name}.wav").write_bytes(b"RIFF" + struct.pack("<I", len(content)) + content)
        (tmp_path / f"{name}.mp3").write_bytes(data)
        for path in (tmp_path / f"{name}.wav", tmp_path / f"{name}.mp3"):
            assert ("is damaged" in sniff(path).note) == (name == "hole"), path

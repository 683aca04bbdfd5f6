"""Bad pictures: one clear reason each, never a crash."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from render import png
from tests.conftest import read_pictures, spectrogram_of, write_picture
from vision.data.dataset import list_pictures
from vision.data.images import load, pixel_hash
from vision.data.preprocess import learn_input_spec, seconds_of

PIXELS = png.palette("magma")[png.quantise(spectrogram_of("jazz", 0), vmin=-80, vmax=0)]


def bomb(path):
    """A PNG that says it has 30000 x 30000 pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def truncated(path):
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def animated(path):
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1].copy())]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)


BAD = {
    "corrupt": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\nrubbish"), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "text": (lambda path: path.write_text("not a picture"), "cannot be read"),
    "tiny": (lambda path: Image.new("RGB", (1, 1)).save(path), "1x1 pixels, too small"),
    "bomb": (bomb, "too large"),
    "truncated": (truncated, "damaged"),
    "animated": (animated, "animated (2 frames)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_picture_says_why(tmp_path, name):
    make, told = BAD[name]
    path = tmp_path / f"{name}.png"
    make(path)
    with pytest.raises(png.PictureError) as caught:
        load(path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_outside_program_is_started(tmp_path, monkeypatch):
    """Pillow would hand PostScript to Ghostscript."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    path = tmp_path / "x.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(png.PictureError, match="unknown format"):
        load(path)
    assert not (tmp_path / "started").exists()


def test_a_chunk_that_lacks_settings_has_the_defaults(tmp_path):
    from PIL import PngImagePlugin

    path = write_picture(tmp_path / "jazz" / "a.png", spectrogram_of("jazz", 0))
    image = Image.open(path)
    text = PngImagePlugin.PngInfo()
    text.add_text(png.CHUNK, '{"source": {}, "vmin": -80, "vmax": 0}')
    image.save(path, pnginfo=text)
    assert learn_input_spec(list_pictures(tmp_path)).typical_seconds == pytest.approx(64 * 512 / 22050)


def test_animated_gif(tmp_path):
    animated(tmp_path / "a.gif")
    with pytest.raises(png.PictureError, match="animated"):
        load(tmp_path / "a.gif")


def test_floating_point_tiff(tmp_path):
    Image.fromarray(np.zeros((64, 64), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(png.PictureError, match="floating-point"):
        load(tmp_path / "a.tiff")


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = load(tmp_path / "a.png")
    assert image.mode == "L"
    assert np.abs(np.asarray(image) * 257.0 - values).max() <= 128


@pytest.mark.parametrize("kind", ["CMYK jpg", "L png", "1 png", "LA png", "RGBA webp"])
def test_other_modes_are_read(tmp_path, kind):
    mode, ending = kind.split()
    path = tmp_path / "jazz" / f"a.{ending}"
    path.parent.mkdir()
    Image.fromarray(PIXELS).convert(mode).save(path)
    pictures = read_pictures(tmp_path, size=32)
    assert len(pictures.x) == 1
    assert pictures.problems == []


def test_one_bad_picture_costs_only_itself(tmp_path):
    for number in range(3):
        write_picture(tmp_path / "jazz" / f"{number}.png", spectrogram_of("jazz", number))
    for name, (make, _) in BAD.items():
        make(tmp_path / "jazz" / f"bad {name}.png")
    pictures = read_pictures(tmp_path, size=32)
    assert len(pictures.y) == 3
    assert len(pictures.problems) == len(BAD)
    assert all(any(f"bad {name}.png: " in line for line in pictures.problems) for name in BAD)


def test_equal_pixels_have_equal_hashes_whatever_the_file(tmp_path):
    path = write_picture(tmp_path / "a.png", spectrogram_of("jazz", 0))
    ours = load(path)
    ours.convert("RGB").save(tmp_path / "b.png", compress_level=9)
    ours.convert("RGBA").save(tmp_path / "c.tiff")
    hashes = {pixel_hash(load(tmp_path / name)) for name in ("a.png", "b.png", "c.tiff")}
    assert len(hashes) == 1
    other = np.array(ours.convert("RGB"))
    other[5, 5, 0] ^= 1
    assert pixel_hash(Image.fromarray(other)) not in hashes
    assert pixel_hash(Image.fromarray(other.reshape(64, 128, 3))) != pixel_hash(Image.fromarray(other))


def test_a_picture_that_says_it_spans_months_is_refused(tmp_path):
    with pytest.raises(png.PictureError, match="says that it spans"):
        seconds_of({"hop_length": 1 << 20, "sr": 1000}, 100_000)
    assert seconds_of({"hop_length": 512, "sr": 22050}, 1292) == pytest.approx(30, abs=0.01)

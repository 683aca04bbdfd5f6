"""Bad pictures: one clear reason each, never a crash."""

import re
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from render import figure, png, workers
from render.settings import Settings
from tests.conftest import read_pictures, spectrogram_of, write_picture
from tests.render.tasks import open_picture
from tests.render.test_png import save_with_chunk, text_behind_pixels
from vision.data.dataset import list_pictures
from vision.data.images import load, pixel_hash
from vision.data.preprocess import Preprocessor, learn_input_spec, seconds_of
from vision.data.survey import examine

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


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_grey_of_fewer_bits_in_16_is_read_as_its_8_bit_version(tmp_path, bits, ending):
    levels = png.quantise(spectrogram_of("jazz", 0), vmin=-80, vmax=0)
    levels[0, :2] = 0, 255
    values = np.rint(levels * (((1 << bits) - 1) / 255.0)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{ending}")
    Image.fromarray(levels).save(tmp_path / "8.png")
    deep, shallow = load(tmp_path / f"deep.{ending}"), load(tmp_path / "8.png")
    assert deep.mode == "L"
    np.testing.assert_array_equal(np.asarray(deep), np.asarray(shallow))
    np.testing.assert_array_equal(Preprocessor()(deep), Preprocessor()(shallow))


def test_a_tiff_in_which_0_is_white_is_not_read_upside_down(tmp_path):
    levels = png.quantise(spectrogram_of("jazz", 0), vmin=-80, vmax=0)
    levels[0, :2] = 0, 255
    for bits, dtype in ((8, np.uint8), (12, np.uint16), (16, np.uint16)):
        values = np.rint((255 - levels) * (((1 << bits) - 1) / 255.0)).astype(dtype)
        Image.fromarray(values).save(tmp_path / "a.tiff")
        data = bytearray((tmp_path / "a.tiff").read_bytes())
        black_is_0 = struct.pack("<HHIH", 262, 3, 1, 1)
        assert data.count(black_is_0) == 1
        (tmp_path / "a.tiff").write_bytes(data.replace(black_is_0, struct.pack("<HHIH", 262, 3, 1, 0)))
        np.testing.assert_array_equal(np.asarray(load(tmp_path / "a.tiff")), levels)


def png_of(values):
    """A PNG of 16-bit RGB, which Pillow cannot write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colours_that_use_the_lower_of_16_bits_are_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png_of(PIXELS.astype(np.uint16)))
    with pytest.raises(png.PictureError, match="16 bits a channel"):
        load(path)
    path.write_bytes(png_of(PIXELS.astype(np.uint16) * 257))
    np.testing.assert_array_equal(np.asarray(load(path)), PIXELS)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tiff", "webp"])
def test_a_picture_turned_by_its_exif_data_is_turned_upright(tmp_path, orientation, ending):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"a.{ending}"
    Image.fromarray(PIXELS).crop((0, 0, 60, 128)).save(path, exif=exif)
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image)
    image = load(path)
    assert image.size == expected.size == ((60, 128) if orientation < 5 else (128, 60))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))
    # Margins of lossy formats are told by the format.
    assert image.format == {"jpg": "JPEG"}.get(ending, ending.upper())
    assert examine(path, decode=False).size == image.size


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_turn_nothing(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(np.asarray(load(tmp_path / "a.png")), PIXELS)
    assert examine(tmp_path / "a.png", decode=False).size == (64, 128)


def test_a_picture_of_ours_that_exif_data_turn_was_changed(tmp_path):
    path = write_picture(tmp_path / "a.png", spectrogram_of("jazz", 0))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    with png.open_picture(path) as image:
        about = png.read_about(image)
        save_with_chunk(image, path, about, exif=exif)
    assert png.read_about(load(path)) is None
    assert Preprocessor().from_file(path).seconds == 30


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_a_damaged_tiff_prints_nothing_of_its_library(compression, tmp_path, capfd):
    damage_tiff(tmp_path / "a.tif", compression)
    assert re.fullmatch("is damaged .*", open_picture(tmp_path / "a.tif"))
    assert capfd.readouterr() == ("", "")


def test_nor_do_workers_print_what_pillow_finds(tmp_path, capfd):
    Image.fromarray(PIXELS).save(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    # One tag's value becomes larger than the file: Pillow warns and goes without it.
    (first,) = struct.unpack_from("<I", data, 4)
    struct.pack_into("<HI", data, first + 2 + 12 * 7 + 2, 2, 1 << 20)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.warns(UserWarning):
        open_picture(tmp_path / "a.tif")
    capfd.readouterr()
    assert len(list(workers.run(open_picture, [(tmp_path / "a.tif",)] * 2, 2))) == 2
    assert capfd.readouterr() == ("", "")


def damage_tiff(path, compression):
    """Write a TIFF whose pixels are overwritten in the middle."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(path, compression=compression)
    data = bytearray(path.read_bytes())
    with Image.open(path) as image:
        start, size = image.tag_v2[273][0], image.tag_v2[279][0]
    data[start + 2 : start + size] = b"\xff" * (size - 2)
    path.write_bytes(data)


def many_pages(path, count=30_000):
    """A TIFF of `count` pages that are the same pixels: each has a directory of its own."""
    fields = [(256, 64), (257, 64), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 64), (279, 4096)]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    length, first = 2 + len(body) + 4, 8 + 4096
    pages = b""
    for number in range(1, count + 1):
        pages += struct.pack("<H", len(fields)) + body + struct.pack("<I", number < count and first + number * length)
    path.write_bytes(b"II*\0" + struct.pack("<I", first) + bytes(4096) + pages)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["tiff", "gif"])
def test_many_frames_are_refused_without_reading_all(tmp_path, monkeypatch, ending):
    path = tmp_path / f"a.{ending}"
    if ending == "tiff":
        many_pages(path)
    else:
        frames = [Image.new("L", (64, 64), number % 256) for number in range(300)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    kind = type(Image.open(path))
    monkeypatch.setattr(kind, "n_frames", property(lambda self: pytest.fail("all frames are read")))
    start = time.perf_counter()
    with pytest.raises(png.PictureError, match="several frames or pages"):
        load(path)
    assert time.perf_counter() - start < 2


def test_of_a_phones_jpeg_the_first_view_is_taken(tmp_path):
    views = [Image.fromarray(PIXELS), Image.new("RGB", (64, 128), "red")]
    views[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=views[1:], quality=95)
    views[0].save(tmp_path / "b.jpg", quality=95)
    assert Image.open(tmp_path / "a.jpg").format == "MPO"
    image, alone = load(tmp_path / "a.jpg"), load(tmp_path / "b.jpg")
    assert image.format == "JPEG"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(alone))


@pytest.mark.parametrize("size", [None, (224, 224), (300, 128)])
@pytest.mark.parametrize("behind", [False, True], ids=["in front", "behind"])
def test_a_figure_that_was_written_anew_stays_refused(tmp_path, behind, size):
    settings, path = Settings(style="figure"), tmp_path / "a.png"
    about = png.describe(settings, {}, "magma")
    figure.save(path, spectrogram_of("jazz", 0), about, settings, "title")
    with Image.open(path) as image:
        image = image.convert("RGB")
        save_with_chunk(image.resize(size) if size else image, path, about, behind)
    with pytest.raises(png.PictureError, match="without --style figure"):
        load(path)


@pytest.mark.parametrize("behind", [False, True], ids=["in front", "behind"])
def test_changed_pictures_are_read_as_other_programs_with_a_note(tmp_path, behind):
    """Resized to 224x224 they would be taken for 5.2 s by their text chunk."""
    for number in range(3):
        path = write_picture(tmp_path / "jazz" / f"{number}.png", spectrogram_of("jazz", number, 1292))
        with png.open_picture(path) as image:
            about = png.read_about(image)
            save_with_chunk(image.convert("RGB").resize((224, 224)), path, about, behind)
    read = Preprocessor().from_file(path)
    assert (read.seconds, read.settings) == (30, None)
    assert any("changed since" in note for note in read.notes)
    spec = learn_input_spec(list_pictures(tmp_path))
    assert (spec.typical_seconds, spec.render) == (30, None)
    assert any("3 of 3 pictures were drawn by melvision and changed since" in n for n in read_pictures(tmp_path).notes)
    for decode in (False, True):
        path.touch()
        assert examine(path, decode=decode).settings is None


def test_a_text_chunk_moved_behind_the_pixels_is_no_longer_believed(tmp_path):
    path = write_picture(tmp_path / "a.png", spectrogram_of("jazz", 0))
    before = Preprocessor().from_file(path)
    text_behind_pixels(path)
    after = Preprocessor().from_file(path)
    np.testing.assert_array_equal(before.x, after.x)
    assert (after.seconds, after.settings) == (30, None)
    assert any("wrote the file anew" in note for note in after.notes)

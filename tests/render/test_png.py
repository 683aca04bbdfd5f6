"""`render.png`: levels survive the file, the file says how it was made, and nothing odd gets through."""

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import hypothesis
import matplotlib
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from render import png
from render.errors import ParameterError
from render.spectrogram import Settings

#: tmp_path is shared by all examples: each writes its picture anew.
SHARED = {"suppress_health_check": [hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow]}
SOURCE = {"name": "a.wav", "size": 1234, "hash": "00ff"}


def make_db(shape=(128, 50), top_db=80.0, seed=0):
    return np.random.default_rng(seed).uniform(-top_db, 0, shape).astype(np.float32)


def write(path, S_db, top_db=80.0, cmap="magma", source=SOURCE):
    about = png.describe(Settings(top_db=top_db, n_mels=len(S_db)), source, cmap)
    png.write(path, S_db, about, colours=png.palette(cmap))
    return about


@hypothesis.settings(max_examples=60, **SHARED)
@hypothesis.given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    top_db=st.floats(1, 300),
    cmap=st.sampled_from(["magma", "viridis", "gray"]),
    seed=st.integers(0, 2**32),
)
def test_a_picture_gives_back_its_levels_and_settings(tmp_path, shape, top_db, cmap, seed):
    path = tmp_path / "a.png"
    S_db = make_db(shape, top_db, seed)
    S_db[0, 0], S_db[-1, -1] = -top_db, 0
    kept = S_db.copy()
    about = write(path, S_db, top_db, cmap)
    np.testing.assert_array_equal(S_db, kept, err_msg="the caller's array was changed")
    again, about_read = png.read(path)
    assert again.dtype == np.float32
    assert again.shape == shape
    assert np.abs(again - S_db).max() <= top_db / 510 * 1.001
    assert about_read == about
    assert Settings.from_dict(about_read) == Settings(top_db=top_db, n_mels=shape[0])


@pytest.mark.parametrize("vmin, vmax", [(-80.0, 0.0), (-1.0, 0.0), (0.0, 5.0)])
def test_levels_are_the_nearest_and_the_rest_is_clipped(vmin, vmax):
    step = (vmax - vmin) / 255
    S_db = (vmin + step * (np.arange(256) + np.linspace(-0.49, 0.49, 256))).astype(np.float32)
    np.testing.assert_array_equal(png.quantise(S_db, vmin=vmin, vmax=vmax), np.arange(256))
    outside = np.array([vmin - 1000, vmin - step, vmax + step, vmax + 1000], np.float32)
    np.testing.assert_array_equal(png.quantise(outside, vmin=vmin, vmax=vmax), [0, 0, 255, 255])


@pytest.mark.parametrize("cmap", ["magma", "viridis"])
def test_people_see_the_colormap_with_the_highest_band_on_top(tmp_path, cmap):
    path = tmp_path / "a.png"
    S_db = np.full((4, 3), -80, np.float32)
    S_db[3], S_db[2, 1] = 0, -40
    write(path, S_db, cmap=cmap)
    with Image.open(path) as image:
        assert (image.mode, image.size, image.format) == ("P", (3, 4), "PNG")
        np.testing.assert_array_equal(np.asarray(image), [[255] * 3, [0, 128, 0], [0] * 3, [0] * 3])
        colours = np.asarray(image.convert("RGB")) / 255
    wanted = matplotlib.colormaps[cmap](np.array([255, 128, 0]))[:, :3]
    assert np.abs(colours[[0, 1, 2], 1] - wanted).max() <= 0.51 / 255


@pytest.mark.parametrize("cmap", ["magma", "viridis", "inferno", "gray", "tab10"])
def test_palettes_are_matplotlibs_and_cannot_be_spoilt(cmap):
    colours = png.palette(cmap)
    assert colours.shape == (256, 3)
    assert np.abs(colours / 255 - matplotlib.colormaps[cmap](np.linspace(0, 1, 256))[:, :3]).max() <= 0.501 / 255
    with pytest.raises(ValueError, match="read-only"):
        colours[0] = 0


def test_an_unknown_colormap_is_refused():
    with pytest.raises(ParameterError, match="cmap='magna': expected a colormap"):
        png.palette("magna")


def test_same_input_same_bytes(tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.png", make_db())
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "name", ["a.wav", "ü \N{GUITAR}.wav", "new\nline\t\0.wav", 'quo"te\\.wav', os.fsdecode(b"\xff\xfe.wav"), "x" * 255]
)
def test_the_chunk_tells_settings_and_source_whatever_its_name(tmp_path, name):
    path = tmp_path / "a.png"
    source = SOURCE | {"name": name}
    about = write(path, make_db(), source=source)
    _, about_read = png.read(path)
    assert about_read == about
    assert about_read["source"] == source
    wanted = {"kind", "sr", "n_fft", "hop_length", "n_mels", "fmin", "fmax", "ref", "vmin", "vmax", "version", "cmap"}
    assert about_read.keys() >= wanted


def test_a_failing_write_leaves_the_old_picture(tmp_path):
    path = tmp_path / "a.png"
    write(path, make_db())
    before = path.read_bytes()
    with pytest.raises(TypeError):
        png.write(path, make_db(seed=1), {"vmin": -80, "vmax": 0, "odd": {1, 2}}, colours=png.palette("magma"))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.png"]


def refused(path, why):
    with pytest.raises(png.PictureError, match=why) as caught:
        png.read(path)
    assert "\n" not in str(caught.value)


def test_no_picture_is_refused(tmp_path):
    refused(tmp_path / "missing.png", "is missing")
    refused(tmp_path, "cannot be read")
    for data in b"", b"This is no picture.", b"\x89PNG\r\n\x1a\n", np.random.default_rng(0).bytes(5000):
        (tmp_path / "a.png").write_bytes(data)
        refused(tmp_path / "a.png", "cannot be read as a picture")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16", "CMYK"])
def test_pictures_from_elsewhere_open_but_are_not_read_as_ours(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (20, 10)).save(path)
    with png.open_picture(path) as image:
        assert image.size == (20, 10)
        assert png.read_about(image) is None
    refused(path, "not written by melvision")


def test_a_recoloured_picture_of_ours_is_no_longer_read_as_levels(tmp_path):
    path = tmp_path / "a.png"
    about = write(path, make_db())
    text = PngImagePlugin.PngInfo()
    text.add_text(png.CHUNK, json.dumps(about))
    with Image.open(path) as image:
        image.convert("RGB").save(path, pnginfo=text)
    refused(path, "not written by melvision")


GOOD = png.describe(Settings(), SOURCE, "magma")
BIG = 10**400

DAMAGED = {
    "no json": "{",
    "empty": "",
    "null": "null",
    "number": "12",
    "text": '"melvision"',
    "list": "[]",
    "no source": json.dumps({k: v for k, v in GOOD.items() if k != "source"}),
    "no vmin": json.dumps({k: v for k, v in GOOD.items() if k != "vmin"}),
    **{
        f"{name} {json.dumps(value)[:9]}": json.dumps(GOOD | {name: value})
        for name, value in [
            ("source", "a.wav"), ("source", None), ("vmin", 0.0), ("vmin", 5), ("vmin", "low"), ("vmax", None),
            ("vmin", float("nan")), ("vmin", -BIG), ("sr", 0), ("sr", BIG), ("sr", "22050"), ("sr", None),
            ("hop_length", 0), ("n_mels", [128]), ("fmax", {}), ("duration", float("nan")),
        ]
    },
    "deep": "[" * 100000,
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_chunk_is_no_chunk(tmp_path, case):
    path = tmp_path / "a.png"
    text = PngImagePlugin.PngInfo()
    text.add_text(png.CHUNK, DAMAGED[case])
    image = Image.fromarray(np.zeros((8, 8), np.uint8), "L")
    image.putpalette(png.palette("magma").tobytes())
    image.save(path, pnginfo=text)
    with png.open_picture(path) as image:
        assert png.read_about(image) is None
    refused(path, "not written by melvision")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "a.png"
    S_db = make_db((40, 60))
    write(path, S_db)
    return path.read_bytes()


def read_or_refuse(path):
    try:
        return png.read(path)[0]
    except png.PictureError:
        return None


def test_a_picture_cut_anywhere_is_whole_or_refused(tmp_path, good):
    path = tmp_path / "a.png"
    path.write_bytes(good)
    whole = png.read(path)[0]
    for size in [*range(0, len(good) - 16, 37), *range(len(good) - 16, len(good))]:
        path.write_bytes(good[:size])
        S_db = read_or_refuse(path)
        assert S_db is None or np.array_equal(S_db, whole), size


@hypothesis.settings(max_examples=150, **SHARED)
@hypothesis.given(data=st.data())
def test_flipped_bytes_raise_nothing_but_the_one_error(tmp_path, good, data):
    damaged = bytearray(good)
    for at in data.draw(st.lists(st.integers(0, len(good) - 1), min_size=1, max_size=4)):
        damaged[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "a.png").write_bytes(damaged)
    read_or_refuse(tmp_path / "a.png")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("size", [(9000, 9000), (60000, 60000), (2**31 - 1, 2**31 - 1), (1, 2**30)])
def test_a_decompression_bomb_is_refused_without_memory_for_it(tmp_path, size):
    resource = pytest.importorskip("resource")
    path = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(10**6))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(png.PictureError, match="too large to decode safely"):
        png.open_picture(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "grew by 50 MB"


@pytest.mark.parametrize("in_command", [True, False])
def test_only_commands_silence_pillows_warning_of_large_pictures(tmp_path, in_command):
    header = struct.pack(">IIBBBBB", 10000, 10000, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (tmp_path / "big.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    program = "from render import batch, cli, png\ndef main(argv=None):\n    png.open_picture('big.png')\n" + (
        "cli.command(main)()" if in_command else "try: main()\nexcept png.PictureError: pass"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    call = [sys.executable, "-c", program]
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ("DecompressionBombWarning" in done.stderr) is not in_command
    assert "Traceback" not in done.stderr


def test_the_largest_allowed_picture_opens(tmp_path):
    path = tmp_path / "large.png"
    header = struct.pack(">IIBBBBB", 1 << 13, png.MAX_PIXELS >> 13, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with png.open_picture(path) as image:
        assert image.width * image.height == png.MAX_PIXELS


def test_a_bomb_in_a_text_chunk_is_refused(tmp_path, good):
    text = chunk(b"zTXt", png.CHUNK.encode() + b"\0\0" + zlib.compress(bytes(200 << 20)))
    after_header = 8 + 25
    (tmp_path / "a.png").write_bytes(good[:after_header] + text + good[after_header:])
    refused(tmp_path / "a.png", "cannot be read|not written")


def text_behind_pixels(path):
    """Move the text chunks behind the pixels, where ImageMagick writes them."""
    data = path.read_bytes()
    kept, moved, at = b"", b"", 8
    while at < len(data) - 12:
        end = at + 12 + struct.unpack(">I", data[at : at + 4])[0]
        if data[at + 4 : at + 8] == b"tEXt":
            moved += data[at:end]
        else:
            kept += data[at:end]
        at = end
    path.write_bytes(data[:8] + kept + moved + data[-12:])


def save_with_chunk(image, path, about, behind=False, **options):
    """Save a picture as a program does that keeps text chunks."""
    text = PngImagePlugin.PngInfo()
    text.add_text(png.CHUNK, json.dumps(about))
    image.save(path, pnginfo=text, **options)
    if behind:
        text_behind_pixels(path)
    return path


CHANGES = {
    "resized": lambda image: image.convert("RGB").resize((24, 24)),
    "same size in colours": lambda image: image.convert("RGB"),
    "grey": lambda image: image.convert("L"),
    "other height": lambda image: image.resize((50, 64)),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "fewer colours": lambda image: image.convert("RGB").quantize(64),
    "other colours": lambda image: image.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE),
}


@pytest.mark.parametrize("behind", [False, True], ids=["in front", "behind"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_chunk_of_a_changed_picture_is_not_believed(tmp_path, change, behind):
    about = write(tmp_path / "a.png", make_db())
    with Image.open(tmp_path / "a.png") as image:
        path = save_with_chunk(CHANGES[change](image), tmp_path / "b.png", about, behind)
    refused(path, "not written by melvision")
    with png.open_picture(path) as image:
        assert png.read_about(image) is None
        png.load_pixels(image)
        assert png.read_about(image) is None
        assert png.changed(image)


def test_text_behind_the_pixels_is_another_programs(tmp_path):
    """Nothing tells then whether the columns are still frames: narrowed without blending, it looks like ours."""
    about = write(tmp_path / "a.png", make_db())
    with Image.open(tmp_path / "a.png") as image:
        path = save_with_chunk(image.resize((20, 128)), tmp_path / "b.png", about, behind=True)
    refused(path, "not written by melvision")
    with png.open_picture(path) as image:
        png.load_pixels(image)
        assert png.read_about(image) is None
        assert "anew" in png.changed(image)


def test_a_picture_wider_than_its_duration_allows_was_changed(tmp_path):
    settings = Settings(duration=1.0)
    about = png.describe(settings, SOURCE, "magma")
    n_frames = 1 + settings.sr // settings.hop_length
    png.write(tmp_path / "a.png", make_db((128, n_frames)), about, colours=png.palette("magma"))
    assert png.read(tmp_path / "a.png")[0].shape == (128, n_frames)
    with Image.open(tmp_path / "a.png") as image:
        path = save_with_chunk(image.resize((2 * n_frames, 128)), tmp_path / "b.png", about)
    refused(path, "columns")


def test_whether_it_was_changed_is_seen_without_decoding(tmp_path):
    write(tmp_path / "a.png", make_db())
    with png.open_picture(tmp_path / "a.png") as image:
        about = png.read_about(image)
        assert about and not png.changed(image)
        assert image._im is None
        png.load_pixels(image)
        assert png.read_about(image) == about


def test_a_long_chunk_is_not_parsed(tmp_path):
    about = GOOD | {"odd": [0] * png.MAX_CHUNK}
    image = Image.fromarray(np.zeros((128, 8), np.uint8), "L")
    image.putpalette(png.palette("magma").tobytes())
    with png.open_picture(save_with_chunk(image, tmp_path / "a.png", about)) as image:
        assert png.read_about(image) is None

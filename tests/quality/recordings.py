"""Recordings that sound like nothing else, and pictures of them."""

import csv

import numpy as np
from PIL import Image

from render import png
from tests.conftest import write_picture

RATE = 22050 / 512  # frames a second of our pictures


def recording(seed, seconds=30.0):
    """Decibels of something that sounds like nothing else, (128, n_frames)."""
    rng = np.random.default_rng(seed)
    n_frames = round(seconds * RATE)
    notes = rng.normal(0, 12, (32, n_frames // 8 + 1))
    S_db = notes.repeat(4, axis=0).repeat(8, axis=1)[:, :n_frames] - np.linspace(15, 45, 128)[:, None]
    return (S_db + rng.normal(0, 3, S_db.shape)).clip(-80, 0).astype(np.float32)


def levels_of(S_db):
    """Levels as a picture has them, row 0 the highest band."""
    return png.quantise(S_db[::-1], vmin=-80.0, vmax=0.0)


def excerpt(S_db, start, seconds=12.0):
    """Part of a recording."""
    first = round(start * RATE)
    return S_db[:, first : first + round(seconds * RATE)]


def foreign(path, S_db, cmap="viridis", size=(336, 218), margin=(54, 35, 42, 35), noise=0.0):
    """Draw it as another program would: its own range, colours, size, white margin, a little noise."""
    levels = levels_of(S_db).astype(np.float32)
    levels += np.random.default_rng(0).normal(0, noise, levels.shape) if noise else 0
    levels = (levels - levels.min()) / np.ptp(levels) * 255
    inside = Image.fromarray(levels.round().astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    colours = png.palette(cmap)[np.asarray(inside)]
    left, top, right, bottom = margin
    paper = Image.new("RGB", (left + size[0] + right, top + size[1] + bottom), "white")
    paper.paste(Image.fromarray(colours), (left, top))
    path.parent.mkdir(parents=True, exist_ok=True)
    paper.save(path)
    return path


def tree(root, n=4, genres=("blues", "jazz", "rock"), seconds=12.0):
    """Every track another recording."""
    for label, genre in enumerate(genres):
        for number in range(n):
            write_picture(root / genre / f"{genre}.{number:05}.png", recording(100 * label + number, seconds))
    return root


def write_faults(root):
    """A folder with one of every fault."""
    images = tree(root, n=6)
    write_picture(images / "rock" / "blues again.png", recording(0, 12.0))  # blues.00000
    # jazz.00001, begun 1.2 s later, drawn by another program; jazz.00002 in its own genre
    song = recording(101, 15.0)
    write_picture(images / "jazz" / "jazz.00001.png", excerpt(song, 0))
    foreign(images / "blues" / "other.png", excerpt(song, 1.2), noise=4.0)
    foreign(images / "jazz" / "other.png", recording(102, 12.0), cmap="inferno")
    (images / "jazz" / "broken.png").write_bytes((images / "jazz" / "jazz.00003.png").read_bytes()[:3000])
    (images / "jazz" / "words.jpg").write_text("no picture")
    (images / "empty").mkdir()
    Image.new("RGB", (200, 100), "black").save(images / "rock" / "black.png")
    half = recording(500, 12.0)
    half[:, : half.shape[1] * 2 // 3] = -80
    write_picture(images / "rock" / "late.png", half)
    write_picture(images / "rock" / "brief.png", recording(501, 4.0))
    Image.new("L", (300, 100)).save(images / "stray.png")
    for number in range(20):
        write_picture(images / "many" / f"{number}.png", recording(600 + number, 12.0))
    return images


def write_probabilities(path, images, wrong, classes=("blues", "jazz", "rock")):
    """predictions.csv of a model that knows the truth: `wrong` tells the true genre of mislabelled files."""
    rng = np.random.default_rng(0)
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "file", "genre", "predicted", *classes])
        for picture in sorted(images.rglob("*.png")):
            genre = picture.parent.name
            sure = 0.9 if picture.name in wrong else rng.uniform(0.6, 0.95)
            p = np.full(len(classes), (1 - sure) / (len(classes) - 1))
            p[classes.index(wrong.get(picture.name, genre))] = sure
            writer.writerow(["held out", f"/elsewhere/{genre}/{picture.name}", genre, "", *(f"{x:.4f}" for x in p)])

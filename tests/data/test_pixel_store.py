"""Decoded pictures: held, cut into windows, and the same whether in memory or in a file."""

import math
import pickle
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vision.data import pixel_store
from vision.data.pixel_store import PixelStore

SIDE = 32
WIDTHS = [32, 33, 40, 64, 71, 100]


def noise(widths=WIDTHS, channels=2, height=SIDE):
    torch.manual_seed(0)
    return [torch.randint(0, 256, (channels, height, width), dtype=torch.uint8) for width in widths]


def told(widths=WIDTHS):
    """Pictures whose pixels tell their column, their row and the picture's number."""
    rows = torch.arange(SIDE, dtype=torch.uint8)[:, None]
    columns = [torch.arange(width, dtype=torch.uint8) for width in widths]
    pictures = [
        torch.stack(torch.broadcast_tensors(column, rows, torch.tensor(number, dtype=torch.uint8)))
        for number, column in enumerate(columns)
    ]
    return PixelStore.collect(pictures, channels=3, height=SIDE)


@pytest.fixture(params=["memory", "file"])
def held(request, monkeypatch, tmp_path):
    """A store of `noise`, in memory or, beyond its first two pictures, in a file in `tmp_path`."""
    opened = []

    def spy(**how):
        opened.append(how)
        return tempfile.TemporaryFile(**how)

    monkeypatch.setattr(pixel_store, "tempfile", SimpleNamespace(TemporaryFile=spy))
    if request.param == "file":
        monkeypatch.setattr(pixel_store, "IN_MEMORY", 5000)
    found = PixelStore.collect(iter(noise()), channels=2, height=SIDE, folder=tmp_path)
    assert opened == ([{"dir": tmp_path}] if request.param == "file" else [])
    return found


def test_pictures_come_back_as_they_were_taken_in(held, tmp_path):
    assert len(held) == len(WIDTHS)
    assert held.widths.tolist() == WIDTHS
    for number, x in enumerate(noise()):
        assert torch.equal(held[number], x)
        assert held[number].dtype == torch.uint8
    assert list(tmp_path.iterdir()) == [], "the file has no name"


def test_a_store_in_a_named_file_is_pickled_as_its_name(tmp_path):
    path = tmp_path / "pictures"
    held = PixelStore.collect(iter(noise()), channels=2, height=SIDE, path=path)
    content = pickle.dumps(held)
    assert len(content) < 2000 < path.stat().st_size == held.pixels.numel()
    other = pickle.loads(content)
    path.unlink()
    for number, x in enumerate(noise()):
        assert torch.equal(other[number], x) and torch.equal(held[number], x)
    held[1].zero_()
    assert other[1].max() == 0, "the same memory"
    # Without a file the pixels themselves are pickled.
    other = pickle.loads(pickle.dumps(PixelStore.collect(noise(), channels=2, height=SIDE)))
    assert torch.equal(other[5], noise()[5])
    assert len(PixelStore.collect([], channels=2, height=SIDE, path=path)) == 0


def test_select(held):
    chosen = held.select([5, 0, 0, 3])
    assert chosen.widths.tolist() == [100, 32, 32, 64]
    for x, number in zip([chosen[at] for at in range(4)], [5, 0, 0, 3], strict=True):
        assert torch.equal(x, noise()[number])
    before = held[0].clone()
    chosen.pixels.zero_()
    assert torch.equal(held[0], before), "it is a copy"


def test_cut(held):
    pictures, starts = [3, 5, 3, 0], [0, 68, 32, 0]
    x = held.cut(pictures, starts)
    assert x.shape == (4, 2, SIDE, SIDE)
    for window, number, start in zip(x, pictures, starts, strict=True):
        assert torch.equal(window, noise()[number][:, :, start : start + SIDE])


def test_random_windows_are_the_same_from_memory_and_from_a_file(monkeypatch, tmp_path):
    memory = PixelStore.collect(noise(), channels=2, height=SIDE)
    monkeypatch.setattr(pixel_store, "IN_MEMORY", 5000)
    file = PixelStore.collect(noise(), channels=2, height=SIDE, folder=tmp_path)
    for how in ((0.0, 0.0), (0.3, 0.1)):
        found = []
        for one in (memory, file):
            torch.manual_seed(1)
            found.append(one.random_windows(torch.arange(6), *how))
        assert torch.equal(*found)


def test_none_and_equally_wide_pictures():
    assert len(PixelStore.collect([], channels=1, height=SIDE)) == 0
    x = torch.stack(noise([40] * 3))
    assert torch.equal(torch.stack(list(PixelStore.of(x))), x)
    # Of a view that is not contiguous, such as one flipped in time.
    turned = x.transpose(2, 3)[:, :, :SIDE, :SIDE]
    assert torch.equal(PixelStore.of(turned)[1], turned[1])
    assert torch.equal(PixelStore.collect(turned, channels=2, height=SIDE)[2], turned[2])


def test_starts_cover_the_picture():
    """All of it, but for rests of together a quarter of a window."""
    widths = [*range(SIDE, 6 * SIDE), 1000]
    x = PixelStore([], widths, 1, SIDE)
    for number, width in enumerate(widths):
        starts = x.starts(number)
        assert starts[0] == 0
        assert starts[-1] == width - SIDE or len(starts) == 1
        seen = np.zeros(width, int)
        for start in starts:
            seen[start : start + SIDE] += 1
        assert seen.sum() == len(starts) * SIDE, "none goes beyond the end"
        assert (seen == 0).sum() <= SIDE / 4
        assert (seen == 1).all() or width % SIDE
        steps = np.diff(starts)
        assert len(steps) == 0 or steps.max() - steps.min() <= 1, "evenly spaced"
        assert len(starts) < width / SIDE + 1, "no more than it takes"


def test_a_window_at_a_random_place_is_a_slice_and_every_place_is_met():
    x = told([SIDE, 40])
    torch.manual_seed(0)
    chosen = torch.tensor([0, 1, 1, 1] * 100)
    windows = x.random_windows(chosen)
    met = set()
    for number, window in zip(chosen.tolist(), windows, strict=True):
        start = int(window[0, 0, 0])
        assert torch.equal(window, x[number][:, :, start : start + SIDE])
        met.add((number, start))
    assert met == {(0, 0)} | {(1, start) for start in range(9)}


@pytest.mark.parametrize(("stretch", "shift"), [(0.5, 0.0), (0.0, 0.25), (0.5, 0.25), (1.0, 0.4)])
def test_stretched_and_shifted_windows_hold_the_pictures_own_rows_and_columns(stretch, shift):
    x = told([SIDE, 33, 90, 200])
    torch.manual_seed(0)
    chosen = torch.randint(0, 4, (600,))
    windows = x.random_windows(chosen, stretch, shift).long()
    assert windows.shape == (600, 3, SIDE, SIDE)
    columns, rows, numbers = windows.unbind(1)
    assert (columns == columns[:, :1]).all() and (rows == rows[:, :, :1]).all(), "whole rows, whole columns"
    assert (numbers == chosen[:, None, None]).all()
    columns, rows = columns[:, 0], rows[:, :, 0]
    assert (columns < x.widths[chosen][:, None]).all()
    # Time goes on at one speed, to a pixel, and speeds reach from one end to the other.
    steps = columns.diff(dim=1)
    assert steps.min() >= 0
    spans = columns[:, -1] - columns[:, 0] + 1
    even = columns[:, :1] + (torch.arange(SIDE) + 0.5) * (spans / SIDE)[:, None]
    assert (columns - even).abs().max() < 2
    wide = spans[x.widths[chosen] == 200]
    assert SIDE * math.exp(-stretch) - 1 <= wide.min() and wide.max() <= SIDE * math.exp(stretch) + 1
    assert wide.min() <= SIDE * math.exp(-0.9 * stretch) and wide.max() >= SIDE * math.exp(0.9 * stretch) - 1
    assert (columns[:, 0] == 0).any() and (columns[:, -1] == x.widths[chosen] - 1).any(), "both ends are met"
    # Rows are moved, and what is beyond the edge repeats it.
    rise = rows[:, SIDE // 2] - SIDE // 2
    assert torch.equal(rows, (torch.arange(SIDE) + rise[:, None]).clamp(0, SIDE - 1))
    furthest = round(shift * SIDE)
    assert -furthest <= rise.min() <= -0.8 * furthest and 0.8 * furthest <= rise.max() <= furthest


def test_pictures_just_wide_enough_are_are_not_left():
    x = told([SIDE])
    windows = x.random_windows(torch.zeros(200, dtype=torch.long), 0.5, 0.0)[:, 0, 0].long()
    assert windows.max() == SIDE - 1
    whole = (windows == torch.arange(SIDE)).all(dim=1)
    assert 50 < whole.sum() < 150, "half are drawn slower, which they cannot be"


def test_mean_and_std_are_those_of_all_pixels(held):
    pixels = torch.cat([x.flatten(1) for x in noise()], dim=1).double() / 255
    mean, std = held.mean_and_std()
    assert mean == pytest.approx(pixels.mean(dim=1).tolist(), abs=1e-9)
    assert std == pytest.approx(pixels.std(dim=1, unbiased=False).tolist(), abs=1e-9)


def test_pictures_of_one_level_can_be_divided_by_their_deviation():
    mean, std = PixelStore.of(torch.full((2, 1, SIDE, SIDE), 51, dtype=torch.uint8)).mean_and_std()
    assert mean == pytest.approx([0.2])
    assert std == [1e-3]

"""Near-duplicates: found at any offset, and nothing else is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import DATA, needs_data, write_picture, write_tree
from tests.quality.recordings import RATE, levels_of, recording
from vision.quality import near_duplicates
from vision.quality.inspect import inspect_folder
from vision.quality.near_duplicates import FRAME, find_near_duplicates, fingerprint


def test_unique_recordings_give_no_pair():
    assert find_near_duplicates([fingerprint(levels_of(recording(seed)), 30.0) for seed in range(60)]) == []


def test_noise_and_stillness_give_no_pair():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (128, 300)).astype(np.uint8) for _ in range(40)]
    pictures += [np.zeros((128, 300), np.uint8), np.full((128, 300), 200, np.uint8)] * 2
    # Equal in every frame: nothing happens in them that could be compared.
    pictures += [np.arange(128, dtype=np.uint8)[:, None].repeat(300, axis=1)] * 2
    assert find_near_duplicates([fingerprint(levels, 30.0) for levels in pictures]) == []


@settings(max_examples=25)
@given(st.integers(0, 60), st.floats(0, 17), st.floats(12, 30), st.floats(0, 20), st.floats(0.5, 1.6))
def test_one_recording_is_found_at_any_offset(seed, start, seconds, noise, gamma):
    """Cut out anywhere with 10 s left, noisy, with other contrast and of another size."""
    whole = levels_of(recording(seed))
    first = round(start * RATE)
    part = whole[:, first : first + round(seconds * RATE)].astype(np.float32)
    seconds, start = part.shape[1] / RATE, first / RATE
    part = part + np.random.default_rng(seed).normal(0, noise, part.shape)
    part = (255 * (part.clip(0, 255) / 255) ** gamma).astype(np.uint8)
    part = np.asarray(Image.fromarray(part).resize((round(part.shape[1] * 0.4), 90), Image.Resampling.BILINEAR))
    (pair,) = find_near_duplicates([fingerprint(whole, whole.shape[1] / RATE), fingerprint(part, seconds)])
    assert pair.offset == pytest.approx(start, abs=0.25)
    assert pair.overlap == pytest.approx(min(seconds, 30 - start), abs=1.5)


def test_two_excerpts_with_half_a_minute_between_have_nothing_in_common():
    song = levels_of(recording(1, 90))
    a, b = song[:, : round(30 * RATE)], song[:, round(60 * RATE) :]
    assert find_near_duplicates([fingerprint(a, 30.0), fingerprint(b, 30.0)]) == []


def test_tracks_over_one_loop_are_two_recordings():
    """The same two bars over and over, and another voice on top."""
    loop = np.tile(recording(7, 2.0), 15)
    frames = loop.shape[1]
    tracks = [np.maximum(loop, recording(seed, 40)[:, :frames] + 2) for seed in range(20, 26)]
    seconds = frames / RATE
    prints = [fingerprint(levels_of(track), seconds) for track in tracks]
    assert find_near_duplicates(prints) == []
    # The very same track with its loop, drawn again, is still found.
    again = fingerprint(levels_of((tracks[0] + 3).clip(-80, 0)), seconds)
    assert [(pair.first, pair.second, pair.offset) for pair in find_near_duplicates([*prints, again])] == [(0, 6, 0.0)]


@given(st.lists(st.sampled_from([5.0, 12.0, 12.4, 31.0]), min_size=2, max_size=6), st.integers(0, 99))
@settings(max_examples=20)
def test_pairs_do_not_depend_on_lengths_met_together(lengths, seed):
    """What is found of two tracks is the same whatever else lies beside them."""
    song = levels_of(recording(seed, 40))
    prints = [fingerprint(song[:, : round(seconds * RATE)], seconds) for seconds in lengths]
    strangers = [fingerprint(levels_of(recording(1000 + seed + n, 20 + n)), 20.0 + n) for n in range(3)]
    alone = {
        (a, b)
        for a in range(len(prints))
        for b in range(a + 1, len(prints))
        if find_near_duplicates([prints[a], prints[b]])
    }
    assert {(pair.first, pair.second) for pair in find_near_duplicates([*prints, *strangers])} == alone
    assert alone == {(a, b) for a in range(len(prints)) for b in range(a + 1, len(prints))}


def test_very_short_tracks_are_compared_by_their_pixels_only(tmp_path):
    images = write_tree(tmp_path / "images", 4)  # of 1.5 s
    write_picture(images / "jazz" / "again.png", np.roll(recording(1, 1.5), 1, axis=0))
    assert inspect_folder(images).near == []
    assert fingerprint(np.zeros((128, 5), np.uint8), 0.1).shape[1] == 1


@pytest.mark.slow
@needs_data
def test_real_repetitions():
    """All ten equal pairs, and of near ones only what Sturm's index names as one artist and title."""
    report = inspect_folder(DATA / "gtzan_images")
    assert sum(len(indices) - 1 for indices in report.equal) == 10
    assert sum(map(report.across_genres, report.equal)) == 1
    title = {}
    for line in (DATA / "splits" / "GTZANindex.txt").read_text(errors="replace").splitlines():
        track, *words = [part.strip().casefold() for part in line.split(":::")]
        title[track.removesuffix(".wav")] = tuple(words[:2])
    pairs = [[report.pictures[n].file.split("/")[1][:-4] for n in (pair.first, pair.second)] for pair in report.near]
    # The titles of two are missing or differ in a letter; by eye they are the same.
    different = [pair for pair in pairs if len({title[track] for track in pair}) > 1]
    assert different in ([], [["jazz.00045", "jazz.00071"]])
    assert len(pairs) == 42
    assert FRAME == 0.15


def many_recordings():
    """Fingerprints of 260 recordings of three lengths, and of 40 excerpts of them: noisy, of another contrast."""
    rng = np.random.default_rng(0)
    prints = []
    for seed in range(260):
        levels = levels_of(recording(seed, (30.0, 30.0, 12.0)[seed % 3]))
        prints.append(fingerprint(levels, levels.shape[1] / RATE))
        if seed % 7 == 0:
            start = round(rng.uniform(0, 18 if seed % 3 < 2 else 1) * RATE)
            part = (
                levels[:, start : start + round(20 * RATE)]
                + rng.normal(0, 12, levels[:, start:].shape)[:, : round(20 * RATE)]
            )
            prints.append(fingerprint((part * 0.7 + 30).clip(0, 255).astype(np.uint8), part.shape[1] / RATE))
    return prints


@pytest.mark.slow
def test_the_index_finds_what_comparing_all_pairs_finds(monkeypatch):
    prints = many_recordings()
    exact = find_near_duplicates(prints)
    assert len(exact) > 30
    monkeypatch.setattr(near_duplicates, "ALL_PAIRS", 0)
    assert find_near_duplicates(prints) == exact


@needs_data
@pytest.mark.slow
def test_the_index_loses_no_pair_of_gtzan(monkeypatch):
    folder = DATA / "gtzan_images"
    exact = inspect_folder(folder).near
    assert len(exact) >= 40
    monkeypatch.setattr(near_duplicates, "ALL_PAIRS", 0)
    assert inspect_folder(folder).near == exact

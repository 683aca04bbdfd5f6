"""The composer: seeded, varied, clean audio."""

import itertools

import numpy as np
import pytest
import soundfile

from render.demo import GENRES, compose, main
from render.spectrogram import mel_spectrogram
from render.tracks import find_tracks


@pytest.mark.slow
@pytest.mark.parametrize("genre", GENRES)
def test_tracks_are_clean_repeatable_and_unlike_each_other(genre):
    tracks = [compose(genre, number, seconds=3.0) for number in range(3)]
    for number, y in enumerate(tracks):
        assert y.shape == (66150,)
        assert y.dtype == np.float32
        assert np.isfinite(y).all()
        assert 0.3 <= np.abs(y).max() <= 0.98
        assert np.array_equal(y, compose(genre, number, seconds=3.0))
        # Music, not a click in silence: most frames are within 60 dB of the loudest.
        assert (mel_spectrogram(y).max(axis=0) > -60).mean() > 0.8
    for one, other in itertools.combinations(tracks, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.5
    assert not np.array_equal(tracks[0], compose(genre, 0, seed=1, seconds=3.0))


@pytest.mark.slow
def test_genres_differ():
    """Each genre's mean spectrum is nearer to another half of itself than to most other genres."""
    halves = []
    for numbers in (range(4), range(4, 8)):
        halves.append([])
        for genre in GENRES:
            S_db = [mel_spectrogram(compose(genre, number, seconds=3.0)) for number in numbers]
            halves[-1].append(np.mean([np.concatenate([s.mean(axis=1), s.std(axis=1)]) for s in S_db], axis=0))
    distance = np.linalg.norm(np.array(halves[0])[:, None] - np.array(halves[1])[None], axis=2)
    rank = (distance < np.diag(distance)[:, None]).sum(axis=1)
    assert rank.mean() < 2.5, rank  # by chance 4.5


def test_command(tmp_path, capsys):
    folder = tmp_path / "genres"
    flags = [str(folder), "--seconds", "1", "--sr", "16000", "--jobs", "1"]
    assert main([*flags, "--tracks", "1"]) == 0
    assert "synthetic" in capsys.readouterr().out
    first = (folder / "blues" / "blues.00000.wav").read_bytes()
    assert main([*flags, "--tracks", "2"]) == 0
    assert (folder / "blues" / "blues.00000.wav").read_bytes() == first
    tracks, empty, stray = find_tracks(folder)
    assert len(tracks) == 20
    assert {track.genre for track in tracks} == set(GENRES)
    assert empty == stray == []
    info = soundfile.info(tracks[0].path)
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (16000, 1, 16000, "PCM_16")


@pytest.mark.parametrize("flags", [["--tracks", "0"], ["--seconds", "-1"], ["--sr", "5"], ["--jobs", "-9"]])
def test_wrong_usage(tmp_path, capsys, flags):
    assert main([str(tmp_path / "genres"), *flags]) == 2
    assert flags[0] in capsys.readouterr().err
    assert not (tmp_path / "genres").exists()

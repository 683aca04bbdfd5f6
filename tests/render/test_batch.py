"""`python -m render` end to end: what is drawn, what is left alone, and what survives an accident."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import librosa
import numpy as np
import pytest
from PIL import Image

from render import atomic, audio, batch, png, tracks, workers
from render.batch import compute
from render.spectrogram import Settings
from tests.conftest import DATA, needs_data
from tests.render.conftest import about, lines_about, make_sound, pictures, put

SR = 22050
ROOT = Path(__file__).parents[2]


def test_every_track_becomes_the_picture_librosa_would_draw(genres, out, render):
    code, printed, complaints = render()
    assert code == 0
    assert complaints == ""
    assert printed.startswith("3 tracks: 3 drawn, 0 fresh already, 0 failed")
    assert printed.count("\n") == 1
    sources = {"blues/blues.00000": "blues/blues.00000.wav", "blues/cd 2/b": "blues/cd 2/b.FLAC", "jazz/j": "jazz/j.au"}
    assert pictures(out).keys() == {f"{name}.png" for name in sources}
    for name, source in sources.items():
        y, _ = librosa.load(genres / source, sr=SR)
        expected = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=SR), ref=np.max, top_db=80)
        S_db, chunk = png.read(out / f"{name}.png")
        assert S_db.shape == expected.shape
        assert np.abs(S_db - expected).max() <= 80 / 510 + 0.01
        assert chunk["source"]["name"] == Path(source).name
        assert chunk["source"]["size"] == (genres / source).stat().st_size


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_pictures_are_as_readable_as_any_new_file(out, render):
    render()
    (out / "plain").touch()
    modes = {path.stat().st_mode for path in (out / "plain", *out.rglob("*.png"))}
    assert len(modes) == 1


def test_a_second_run_touches_nothing(out, render):
    render()
    before = pictures(out)
    code, printed, complaints = render()
    assert (code, complaints) == (0, "")
    assert printed.startswith("3 tracks: 0 drawn, 3 fresh already, 0 failed")
    assert pictures(out) == before


def test_a_second_run_reads_no_audio(render, monkeypatch):
    """Looking at a terabyte of fresh tracks takes no reading of it."""
    render()
    monkeypatch.setattr(audio, "content_hash", lambda path: pytest.fail(f"read {path}"))
    assert render()[1].startswith("3 tracks: 0 drawn, 3 fresh already")


@pytest.mark.parametrize("later", [-100, 100])
def test_only_a_changed_source_is_drawn_again(genres, out, render, later):
    render()
    before = pictures(out)
    source = genres / "jazz/j.au"
    stamp = source.stat().st_mtime + later
    put(source, make_sound(0.3, seed=9))  # of the same size
    os.utime(source, (stamp, stamp))
    assert render()[1].startswith("3 tracks: 1 drawn, 2 fresh already")
    after = pictures(out)
    assert {name for name in after if after[name] != before[name]} == {"jazz/j.png"}
    assert render()[1].startswith("3 tracks: 0 drawn, 3 fresh already")


def test_a_touched_source_is_not_drawn_again(genres, out, render):
    render()
    before = pictures(out)
    for source in genres.rglob("*.*"):
        os.utime(source, (1e9, 1e9))
    assert render()[1].startswith("3 tracks: 0 drawn, 3 fresh already")
    after = pictures(out)
    assert {name: row[:2] for name, row in after.items()} == {name: row[:2] for name, row in before.items()}
    assert {row[2] for row in after.values()} == {10**18}, "the next run would have to read the sources again"


@pytest.mark.parametrize(
    "flags",
    [
        ("--n-mels", 64), ("--hop-length", 256), ("--n-fft", 1024), ("--sr", 16000), ("--fmin", 50), ("--fmax", 8000),
        ("--top-db", 60), ("--offset", 0.1), ("--duration", 0.2), ("--cmap", "viridis"),
    ],
)  # fmt: skip
def test_changed_settings_draw_all_again(out, render, flags):
    render()
    code, printed, _ = render(*flags)
    assert code == 0
    assert printed.startswith("3 tracks: 3 drawn")
    for path in out.rglob("*.png"):
        assert about(path)[flags[0][2:].replace("-", "_")] == flags[1]
    assert render(*flags)[1].startswith("3 tracks: 0 drawn, 3 fresh already")


def test_a_part_of_the_track_is_drawn(genres, out, render):
    render("--offset", 0.25, "--duration", 0.5, "--n-mels", 40)
    y, _ = librosa.load(genres / "blues/blues.00000.wav", sr=SR, offset=0.25, duration=0.5)
    S = librosa.feature.melspectrogram(y=y, sr=SR, n_mels=40)
    S_db, _ = png.read(out / "blues/blues.00000.png")
    assert np.abs(S_db - librosa.power_to_db(S, ref=np.max)).max() <= 80 / 510 + 0.01


@pytest.mark.parametrize("damage", ["gone", "cut", "empty"])
def test_a_lost_or_damaged_picture(out, render, damage):
    """One that is gone is drawn again; what no longer says that it is ours is somebody's."""
    render()
    path = out / "jazz/j.png"
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
        assert render()[1].startswith("3 tracks: 1 drawn, 2 fresh")
    else:
        path.write_bytes(whole[: 40 if damage == "cut" else 0])
        code, _, complaints = render()
        assert code == 1
        assert "force" in complaints
        assert render("--force")[0] == 0
    assert path.read_bytes() == whole


def test_any_number_of_processes_draws_the_same(tmp_path):
    """16 tracks: with fewer no second process would start."""
    for number in range(16):
        put(tmp_path / f"genres/g{number % 3}/{number}.wav", make_sound(0.4, seed=number))
    for jobs in 1, 2:
        results, notes = batch.draw_folder(tmp_path / "genres", tmp_path / f"out{jobs}", Settings(), jobs=jobs)
        assert notes == []
        assert [result.status for result in results] == ["drawn"] * 16
        assert [result.track for result in results] == tracks.find_tracks(tmp_path / "genres")[0]
    one, two = pictures(tmp_path / "out1"), pictures(tmp_path / "out2")
    assert len(one) == 16
    assert {name: row[0] for name, row in one.items()} == {name: row[0] for name, row in two.items()}


@pytest.mark.parametrize("kind", ["picture", "text"])
def test_a_picture_made_elsewhere_is_left_alone(genres, out, render, kind):
    path = out / "jazz/j.png"
    path.parent.mkdir(parents=True)
    if kind == "picture":
        Image.new("RGB", (432, 288)).save(path)
    else:
        path.write_bytes(b"notes")
    before = path.read_bytes()
    for _ in range(2):
        code, printed, complaints = render()
        assert code == 1
        assert printed.startswith("3 tracks: ")
        assert "1 failed" in printed
        (line,) = lines_about(complaints, genres / "jazz/j.au")
        assert str(path) in line
        assert "force" in line
        assert path.read_bytes() == before
    code, printed, _ = render("--force")
    assert code == 0
    assert printed.startswith("3 tracks: 3 drawn")
    assert about(path)["source"]["name"] == "j.au"


@pytest.mark.parametrize(
    "one, other",
    [
        ("jazz/a.wav", "jazz/a.WAV"),
        ("jazz/A.wav", "jazz/a.flac"),
        ("jazz/\u00fc.wav", "jazz/u\u0308.wav"),
        ("jazz/a.wav", "Jazz/a.wav"),
    ],
)
def test_two_sources_of_one_picture_are_both_named_and_none_drawn(genres, out, render, one, other):
    put(genres / one, make_sound(seed=5))
    if (genres / other).exists():
        pytest.skip("this file system holds the two names to be one")
    put(genres / other, make_sound(seed=6))
    code, printed, complaints = render()
    assert code == 1
    assert printed.startswith("5 tracks: 3 drawn, 0 fresh already, 2 failed")
    for path, rival in [(genres / one, genres / other), (genres / other, genres / one)]:
        (line,) = lines_about(complaints, path)
        assert str(rival) in line.removeprefix(f"failed: {path}: ")
    assert pictures(out).keys() == {"blues/blues.00000.png", "blues/cd 2/b.png", "jazz/j.png"}


def test_a_track_in_two_formats_is_drawn_once_and_named(genres, out, render):
    put(genres / "jazz/a.wav", make_sound(seed=5))
    put(genres / "jazz/a.au", make_sound(seed=5))
    code, printed, complaints = render()
    assert (code, printed[:19]) == (0, "4 tracks: 4 drawn, ")
    assert "a.wav" in complaints and "a.au" in complaints and complaints.count("\n") == 1
    assert png.read(out / "jazz/a.png")[1]["source"]["name"] == "a.wav"


def test_folders_of_artists_and_albums_are_kept(genres, out, render):
    for number, folder in enumerate(["Artist A", "Artist B", "Artist B/CD 2"]):
        put(genres / "jazz" / folder / "01 Track.wav", make_sound(seed=number))
    assert render()[0] == 0
    found = {name for name in pictures(out) if "Artist" in name}
    assert found == {f"jazz/{folder}/01 Track.png" for folder in ("Artist A", "Artist B", "Artist B/CD 2")}


def test_a_rival_that_comes_later_leaves_the_picture(genres, out, render):
    render()
    before = pictures(out)
    put(genres / "jazz/J.wav")
    assert render()[0] == 1
    assert render("--force")[0] == 1
    assert pictures(out)["jazz/j.png"] == before["jazz/j.png"]


def nan_sound():
    y = make_sound(1.0)
    y[SR // 2] = np.nan
    return y


def test_what_cannot_be_drawn_is_listed_and_the_rest_drawn(genres, out, render):
    noise = np.random.default_rng(0).bytes(5000)
    half = put(genres / "rock/half.wav", make_sound(1.0)).read_bytes()[:20000]
    bad = {
        put(genres / "rock/half.wav", half): "truncated",
        put(genres / "rock/noise.wav", noise): "cannot be decoded",
        put(genres / "rock/empty.wav", b""): "empty",
        put(genres / "rock/no frames.wav", make_sound(0)): "no samples",
        put(genres / "rock/short.wav", make_sound(0.05)): "0.050 s long, shorter than one window",
        put(genres / "rock/nan.wav", nan_sound(), subtype="FLOAT"): "first at 0.500 s",
    }
    code, printed, complaints = render()
    assert code == 1
    assert printed.startswith("9 tracks: 3 drawn, 0 fresh already, 6 failed")
    assert len(complaints.splitlines()) == len(bad)
    for path, why in bad.items():
        (line,) = lines_about(complaints, path)
        assert line.startswith("failed: ")
        assert why in line
    assert pictures(out).keys() == {"blues/blues.00000.png", "blues/cd 2/b.png", "jazz/j.png"}
    assert render()[1].startswith("9 tracks: 0 drawn, 3 fresh already, 6 failed")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_values_too_large_to_square_are_refused(genres, out, render):
    path = put(genres / "rock/huge.wav", make_sound() * 1e25, subtype="FLOAT")
    code, _, complaints = render()
    assert code == 1
    assert len(lines_about(complaints, path)) == 1
    assert not (out / "rock/huge.png").exists()


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_a_dangling_link_is_one_failure(genres, out, render):
    link = genres / "jazz/gone.wav"
    link.symlink_to("nowhere.wav")
    code, printed, complaints = render()
    assert (code, printed[:18]) == (1, "4 tracks: 3 drawn,")
    assert len(lines_about(complaints, link)) == 1


def test_silence_is_drawn_at_the_lowest_level_and_noted(genres, out, render):
    path = put(genres / "jazz/silent.wav", np.zeros(SR))
    for status in "4 drawn, 0 fresh", "0 drawn, 4 fresh":
        code, printed, complaints = render()
        assert code == 0
        assert status in printed
        (line,) = lines_about(complaints, path)
        assert line.startswith("note: ")
        assert "silent" in line
    with Image.open(out / "jazz/silent.png") as image:
        assert image.size == (44, 128)
        assert not np.asarray(image).any()
    assert "silent" not in about(out / "jazz/j.png")


def test_many_channels_and_high_rates_are_drawn(genres, out, render):
    put(genres / "jazz/eight.wav", make_sound(0.5, channels=8))
    put(genres / "jazz/fast.wav", make_sound(0.5, sr=192000, channels=2), 192000, subtype="PCM_24")
    code, _, complaints = render()
    assert (code, complaints) == (0, "")
    for name in "eight", "fast":
        y, _ = librosa.load(genres / f"jazz/{name}.wav", sr=SR)
        expected = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=SR), ref=np.max)
        assert np.abs(png.read(out / f"jazz/{name}.png")[0] - expected).max() <= 80 / 510 + 0.01


@pytest.mark.parametrize("how", ["damaged", "removed while running", "growing"])
def test_a_source_that_goes_bad_keeps_its_earlier_picture(genres, out, render, monkeypatch, how):
    render()
    before = pictures(out)
    source = genres / "blues/blues.00000.wav"
    put(source, make_sound(0.4, seed=8))
    decode = audio.decode

    def meanwhile(path, **kwargs):
        if how == "removed while running":
            path.unlink()
        yield from decode(path, **kwargs)
        if how == "growing":
            put(path, path.read_bytes() + bytes(100))

    monkeypatch.setattr(audio, "decode", meanwhile)
    if how == "damaged":
        put(source, b"no audio" * 1000)
    code, printed, complaints = render()
    assert code == 1
    assert printed.startswith("3 tracks: 0 drawn, 2 fresh already, 1 failed")
    (line,) = lines_about(complaints, source)
    assert "its earlier picture is kept" in line
    assert pictures(out) == before


class PoisonPath(type(Path())):
    """A file that kills whoever draws it, as a bug in a decoder's C code would."""

    def stat(self, **kwargs):
        os._exit(7)


def make_task(path, out, force=False):
    return tracks.Track("g", path.stem, path), out, Settings(), "magma", png.palette("magma"), force


def test_a_track_drawn_apart_is_drawn_or_blamed(tmp_path):
    good = put(tmp_path / "g/good.wav")
    result = workers.call_in_process(batch.draw, make_task(good, tmp_path / "out"))
    assert result == batch.Result(make_task(good, None)[0], "drawn")
    assert about(tmp_path / "out/g/good.png")["source"]["name"] == "good.wav"
    lost = workers.call_in_process(batch.draw, make_task(PoisonPath(put(tmp_path / "g/bad.wav")), tmp_path / "out"))
    assert isinstance(lost, workers.TaskFailed)
    assert "exit code 7" in lost.reason


@pytest.mark.slow
def test_a_track_that_kills_its_worker_costs_only_itself(tmp_path):
    paths = [put(tmp_path / f"g/{number:02}.wav", make_sound(seed=number)) for number in range(21)]
    paths[9] = PoisonPath(paths[9])
    results = list(workers.run(batch.draw, [make_task(path, tmp_path / "out") for path in paths], jobs=2))
    assert sorted(number for number, _ in results) == list(range(21)), "each exactly once"
    lost = {number: result for number, result in results if isinstance(result, workers.TaskFailed)}
    assert lost.keys() == {9}
    assert "exit code 7" in lost[9].reason
    assert pictures(tmp_path / "out").keys() == {f"g/{number:02}.png" for number in range(21) if number != 9}


def test_a_lost_track_is_a_listed_failure(tmp_path, monkeypatch):
    def run(function, tasks, jobs, **kwargs):
        return [(0, workers.TaskFailed("died")), (1, function(*tasks[1]))]

    monkeypatch.setattr(workers, "run", run)
    for name in "ab":
        put(tmp_path / f"genres/g/{name}.wav")
    results, _ = batch.draw_folder(tmp_path / "genres", tmp_path / "out", Settings())
    assert [(result.status, result.message) for result in results] == [("failed", "died"), ("drawn", "")]


def test_a_full_disk_loses_nothing_and_leaves_nothing(genres, out, render, monkeypatch):
    render()
    before = pictures(out)
    put(genres / "jazz/new.wav")

    def save(self, file, *args, **kwargs):
        file.write(b"\x89PNG half of")
        file.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", save)
        code, printed, complaints = render("--top-db", 60)
    assert code == 1
    assert printed.startswith("4 tracks: 0 drawn, 0 fresh already, 4 failed")
    assert complaints.count("No space left on device") == 4
    assert complaints.count("its earlier picture is kept") == 3
    assert pictures(out) == before
    assert render("--top-db", 60)[1].startswith("4 tracks: 4 drawn")


def test_leftovers_of_killed_runs_are_cleared_once_old(out, render):
    old = put(out / "jazz" / f"{atomic.PREFIX}0123.part", b"half")
    young = put(out / "jazz" / f"{atomic.PREFIX}4567.part", b"half")
    foreign = put(out / "jazz" / "notes.part", b"mine")
    for path in old, foreign:
        os.utime(path, (time.time() - 7200,) * 2)
    assert render()[0] == 0
    assert (old.exists(), young.exists(), foreign.exists()) == (False, True, True)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_run_leaves_whole_pictures_and_the_next_does_the_rest(tmp_path, jobs):
    n_tracks = 60
    sound = put(tmp_path / "genres/g/0.wav", make_sound(4.0))
    for number in range(1, n_tracks):
        os.link(sound, tmp_path / f"genres/g/{number}.wav")
    out = tmp_path / "out"
    call = [sys.executable, "-m", "render", str(tmp_path / "genres"), "-o", str(out)]
    process = subprocess.Popen(
        [*call, f"-j{jobs}"], cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    while len(list(out.glob("g/*.png"))) < 5 and process.poll() is None:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it had ended already: make more tracks"
    done = {path.name for path in out.rglob("*.png")}
    assert 5 <= len(done) < n_tracks
    for name in done:
        png.read(out / "g" / name)
    again = subprocess.run([*call, "-j1"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert again.stdout.startswith(
        f"{n_tracks} tracks: {n_tracks - len(done)} drawn, {len(done)} fresh already, 0 failed"
    )
    assert again.stderr == ""
    assert len({path.read_bytes()[-1000:] for path in out.glob("g/*.png")}) == 1, "all have the same levels"


REAL_SETTINGS = [
    Settings(),
    Settings(sr=16000, n_fft=1024, hop_length=256, n_mels=64),
    Settings(sr=44100, n_mels=256),
    Settings(win_length=1024, window="hamming", htk=True),
    Settings(fmin=50.0, fmax=8000.0, power=1.0, top_db=40.0),
    Settings(offset=7.5, duration=10.0),
    Settings(ref=100.0),
]


@needs_data
@pytest.mark.parametrize("settings", REAL_SETTINGS, ids=range(len(REAL_SETTINGS)))
@pytest.mark.parametrize("track", ["classical/classical.00002", "metal/metal.00001"])
def test_real_tracks_are_as_librosa_draws_them(track, settings):
    path = DATA / "gtzan_audio" / f"{track}.wav"
    S_db, silent = compute(path, settings)
    y, sr = librosa.load(path, sr=settings.sr, offset=settings.offset, duration=settings.duration)
    S = librosa.feature.melspectrogram(
        y=y, sr=sr, n_fft=settings.n_fft, hop_length=settings.hop_length, win_length=settings.win_length,
        window=settings.window, power=settings.power, n_mels=settings.n_mels, fmin=settings.fmin,
        fmax=settings.fmax, htk=settings.htk,
    )  # fmt: skip
    if settings.ref == "max":
        expected = librosa.power_to_db(S, ref=np.max, top_db=settings.top_db)
    else:
        expected = librosa.power_to_db(S, ref=settings.ref, top_db=None).clip(-settings.top_db, 0)
    assert not silent
    np.testing.assert_allclose(S_db, expected, rtol=0, atol=0.01)

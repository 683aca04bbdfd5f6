"""Predicting many files: several processes, parts, a cluster, and going on after a kill."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from render.worker_process import Limits
from tests.conftest import rows_of
from tests.render.test_cluster import cluster, starting  # noqa: F401, fixtures
from vision import predict
from vision.inference.many_files import UnfinishedTable, predict_parallel
from vision.inference.predictor import Prediction, Predictor

ROOT = Path(__file__).parents[2]

#: Ten seconds pass before a process is taken to hang.
LIMITS_OF_A_TEST = Limits(cpu_seconds=600.0, wall_seconds=10.0, memory_bytes=16 << 30)


def library(trained, folder, n):
    """So many copies of the pictures, and one that is none."""
    pictures = sorted((trained / "images").rglob("*.png"))
    folder.mkdir()
    for number in range(n):
        shutil.copy(pictures[number % len(pictures)], folder / f"{number:04d}.png")
    (folder / "zz.png").write_bytes(b"no picture")
    return folder


@pytest.mark.slow
def test_several_processes_say_what_one_says(trained, tmp_path, capsys):
    songs = library(trained, tmp_path / "songs", 40)
    tables = []
    for name, flags in (("one", []), ("two", ["--jobs", "2"])):
        call = [trained / "run", songs, "--device", "cpu", "--csv", tmp_path / f"{name}.csv", *flags]
        assert predict.main(list(map(str, call))) == 1
        printed = capsys.readouterr()
        assert "zz.png: " in printed.err
        assert len(printed.out.splitlines()) == 40
        tables.append(rows_of(tmp_path / f"{name}.csv"))
    assert len(tables[0]) == 41
    assert tables[0] == tables[1]
    assert sorted(path.name for path in tmp_path.glob("*.csv*")) == ["one.csv", "two.csv"], "nothing else is left"


@pytest.mark.slow
def test_a_file_that_ends_its_process_costs_itself_only(trained, tmp_path, monkeypatch):
    """The process is killed again and again: each time the file that it reads is the same one."""
    songs = library(trained, tmp_path / "songs", 20)
    bad = songs / "0003.png"
    bad.unlink()
    os.mkfifo(bad)  # whoever opens it waits for ever
    monkeypatch.setattr("vision.inference.many_files.LIMITS", LIMITS_OF_A_TEST)
    predictor = Predictor(trained / "run", "cpu")
    files = sorted(songs.glob("0*.png"))
    found = {each.path.name: each for each in predict_parallel(predictor, trained / "run", files, jobs=2)}
    assert len(found) == 20
    assert [name for name, each in found.items() if each.error] == ["0003.png"]


def test_parts_are_all_files_once(trained, tmp_path):
    songs = library(trained, tmp_path / "songs", 11)
    seen = []
    for part in ("1/3", "2/3", "3/3"):
        table = tmp_path / f"{part[0]}.csv"
        predict.main([str(trained / "run"), str(songs), "--device", "cpu", "--shard", part, "--csv", str(table)])
        seen += [row["file"] for row in rows_of(table)]
    assert sorted(seen) == sorted(map(str, songs.iterdir()))


@pytest.mark.slow
def test_a_killed_run_goes_on(trained, tmp_path, capsys):
    songs = library(trained, tmp_path / "songs", 300)
    table = tmp_path / "genres.csv"
    flags = [str(trained / "run"), str(songs), "--device", "cpu", "--csv", str(table)]
    process = subprocess.Popen(
        [sys.executable, "-m", "vision.predict", *flags], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 120
    while not (written := [path for path in tmp_path.glob("genres.csv.unfinished-*") if lines(path) > 5]):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    if table.exists():
        pytest.skip("it was done before it was killed")
    n_before = lines(written[0]) - 1
    assert predict.main(flags) == 1
    assert "predicted before a stop" in (printed := capsys.readouterr()).err
    assert len(printed.out.splitlines()) <= 300 - n_before + 1
    assert not list(tmp_path.glob("genres.csv.*"))
    assert predict.main([*flags[:-1], str(tmp_path / "whole.csv")]) == 1
    assert table.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def lines(path):
    return path.read_bytes().count(b"\n")


def test_a_table_that_cannot_be_written_is_refused_before_predicting(trained, tmp_path, capsys):
    songs = library(trained, tmp_path / "songs", 2)
    (tmp_path / "file").write_text("")
    for table, named in ((tmp_path, "is a folder"), (tmp_path / "file" / "t.csv", "file")):
        assert predict.main([str(trained / "run"), str(songs), "--csv", str(table)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert named in printed.err
        assert "another process" not in printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "songs"]
    assert not list(tmp_path.parent.glob("*.lock"))


def test_damaged_rows_are_predicted_again(trained, tmp_path):
    predictor = Predictor(trained / "run", "cpu")
    files = sorted(library(trained, tmp_path / "songs", 4).glob("0*.png"))
    table = UnfinishedTable(tmp_path / "t.csv", trained / "run", predictor.classes)
    for prediction in predictor.predict(files):
        table.add(prediction)
    table._lock.release()
    [unfinished] = tmp_path.glob("t.csv.unfinished-*")
    header, first, second, third, last = unfinished.read_text().splitlines()
    second = second.replace("0.", "x.")
    third = third.replace(third.split(",")[4], "nan")
    unfinished.write_text("\r\n".join([header, first + ",more", second, third, last, ""]))
    again = UnfinishedTable(tmp_path / "t.csv", trained / "run", predictor.classes)
    assert [again.prediction(file) is not None for file in files] == [False, False, False, True]


def test_what_failed_or_changed_is_predicted_again(trained, tmp_path):
    predictor = Predictor(trained / "run", "cpu")
    files = sorted(library(trained, tmp_path / "songs", 2).iterdir())
    table = UnfinishedTable(tmp_path / "t.csv", trained / "run", predictor.classes)
    for prediction in predictor.predict(files):
        table.add(prediction)
    with pytest.raises(Exception, match="another process"):
        UnfinishedTable(tmp_path / "t.csv", trained / "run", predictor.classes)
    table._lock.release()
    again = UnfinishedTable(tmp_path / "t.csv", trained / "run", predictor.classes)
    assert isinstance(again.prediction(files[0]), Prediction)
    assert again.prediction(files[2]) is None, "it failed"
    os.utime(files[0], (1, 1))
    assert again.prediction(files[0]) is None, "it is another file now"
    other = UnfinishedTable(tmp_path / "t2.csv", trained / "run", predictor.classes, "asked otherwise")
    other.add(predictor.predict(files[0]))
    assert list(tmp_path.glob("t2*"))[0].name != list(tmp_path.glob("t.csv.unf*"))[0].name.replace("t.", "t2.")
    again.finish(files)
    with open(tmp_path / "t.csv", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["file", *map(str, files)]


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_loses_no_file(trained, tmp_path, cluster):  # noqa: F811
    address, processes = cluster
    files = sorted(library(trained, tmp_path / "songs", 200).glob("0*.png"))
    predictor = Predictor(trained / "run", "cpu")
    found = {}
    for prediction in predict_parallel(predictor, trained / "run", files, scheduler=address):
        if not found:
            processes[0].kill()
        found[prediction.path] = prediction
    assert sorted(found) == files
    assert not [prediction.error for prediction in found.values() if prediction.error]

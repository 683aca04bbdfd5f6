"""The run folder: seeds, and the tracks that were trained on."""

import pytest

from render import atomic
from render.errors import MelvisionError
from vision.models import run_files

HEADER = ["split", "genre", "file"]
ROWS = [["train", "jazz", "/data/jazz/jazz.00001.png"], ["dev", "jazz", "/data/jazz/jazz.00002.png"]]


def test_tracks_of_a_run_of_its_model_and_of_seeds(tmp_path):
    atomic.write_csv(tmp_path / "run" / "split.csv", HEADER, ROWS)
    atomic.write_csv(tmp_path / "runs" / "seed-3" / "split.csv", HEADER, ROWS)
    for run in (tmp_path / "run", tmp_path / "run" / "model.pt", str(tmp_path / "runs")):
        assert run_files.trained_tracks(run) == {("jazz", "jazz00001")}


@pytest.mark.parametrize("content", [None, b"", b"a,b\n1,2\n"])
def test_an_unknown_training_set_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "split.csv").write_bytes(content)
    with pytest.raises(MelvisionError, match=r"split\.csv.*vision\.crossval"):
        run_files.trained_tracks(tmp_path)


def test_files_of_seeds_are_sorted(tmp_path):
    for seed in (3, 1):
        atomic.write_text(run_files.seed_folder(tmp_path, seed) / run_files.METRICS, "{}")
    paths = run_files.seed_files(tmp_path, run_files.METRICS)
    assert [path.parent.name for path in paths] == ["seed-1", "seed-3"]
    assert run_files.seed_files(tmp_path, run_files.MODEL) == []

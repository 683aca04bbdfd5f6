"""The command vision.predict."""

import json

import numpy as np
import pytest

from tests.conftest import spectrogram_of, write_picture
from tests.training.test_run import rows_of
from vision import predict


@pytest.fixture(scope="module")
def medley(tmp_path_factory):
    """30 s of blues, then of metal, then of jazz."""
    S_db = np.concatenate([spectrogram_of(genre, 0, 1292) for genre in ("blues", "metal", "jazz")], axis=1)
    return write_picture(tmp_path_factory.mktemp("medley") / "medley.png", S_db)


def test_timeline_on_the_command_line(trained, medley, tmp_path, capsys):
    other = tmp_path / "other" / "medley.png"
    other.parent.mkdir()
    other.write_bytes(medley.read_bytes())
    (tmp_path / "bad.png").write_bytes(b"no")
    run, plots_folder = str(trained / "run"), tmp_path / "over time"
    flags = [run, str(medley), str(other), str(tmp_path / "bad.png"), "--timeline", "--plots", str(plots_folder)]
    assert predict.main(flags) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 8
    assert [line[3] for line in lines[1:4]] == ["blues", "metal", "jazz"]
    assert lines[1][:2] == ["0:00", "-"]
    assert lines[3][2] == "1:30"
    names = {"medley.png.png", "medley.png.csv", "medley.png (2).png", "medley.png (2).csv"}
    assert {path.name for path in plots_folder.iterdir()} == names
    rows = rows_of(plots_folder / "medley.png.csv")
    assert list(rows[0]) == ["start", "end", "blues", "jazz", "metal"]
    assert predict.main([*flags, "--json"]) == 1
    output = json.loads(capsys.readouterr().out)
    assert [part["genre"] for part in output[0]["timeline"]] == ["blues", "metal", "jazz"]
    assert output[2]["error"]
    # The prediction for the whole file is that without --timeline.
    assert predict.main([run, str(medley), "--json"]) == 0
    [plain] = json.loads(capsys.readouterr().out)
    assert plain["probabilities"] == pytest.approx(output[0]["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to predict; expected"),
        (["a.wav", "--stdin"], "files and --stdin; expected"),
        (["a.wav", "--rate", "8000"], "--rate: goes with --stdin"),
        (["--stdin", "--csv", "x.csv"], "--csv: goes with"),
        (["--watch", ".", "--timeline"], "--timeline: goes with files"),
        (["a.wav", "--plots", "x"], "--plots: goes with --timeline"),
        (["--stdin", "--rate", "10"], "--rate 10: expected 1000 to 768000 Hz"),
        (["--watch", "nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_flags_that_do_not_go_together(trained, flags, message, capsys):
    assert predict.main([str(trained / "run"), *flags]) == 2
    assert message in capsys.readouterr().err

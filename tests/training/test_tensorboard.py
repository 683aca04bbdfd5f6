"""What is logged for TensorBoard, read back by TensorBoard's own reader."""

import builtins
import json

import pytest

from tests.training.runs import flags, history_of, interrupt, same_weights
from vision import crossval, train
from vision.training import loop

reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def logged(run):
    board = reader.EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    board.Reload()
    return board


def scalars(board, name):
    return {event.step: event.value for event in board.Scalars(name)}


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("tensorboard") / "run"
    assert train.main(flags(data, out, 4, "--log", "tensorboard")) == 0
    return out


def test_the_scalars_are_those_of_the_history(run):
    board = logged(run)
    rows = history_of(run)
    for column, tag in (("dev_loss", "loss/dev"), ("network_dev_accuracy", "accuracy/network_dev"), ("lr", "lr")):
        assert scalars(board, tag) == pytest.approx({int(row["epoch"]): row[column] for row in rows}, rel=1e-5)


def test_a_batch_of_inputs_and_the_confusions_are_pictures(run):
    board = logged(run)
    [inputs], [confusions] = board.Images("inputs"), board.Images("confusions")
    assert (inputs.width, inputs.height) == (8 * 32, 2 * 32)  # of the 12 train pictures, 8 in a row
    kept = json.loads((run / "metrics.json").read_text())["kept_epoch"]
    assert confusions.step == kept and confusions.width > 300


def test_logging_changes_nothing(run, whole):
    assert same_weights(run, whole)


def test_a_resumed_run_logs_every_epoch_once(data, run, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt(patch, loop, "train_one_epoch", after=2)
        assert train.main(flags(data, out, 4, "--log", "tensorboard")) == 130
    assert train.main(["--resume", str(out)]) == 0
    assert scalars(logged(out), "loss/dev") == scalars(logged(run), "loss/dev")


def test_folds_are_not_logged(data, tmp_path, capsys):
    assert crossval.main([str(data / "train"), "--out", str(tmp_path / "cv"), "--log", "tensorboard"]) == 2
    assert "--log" in capsys.readouterr().err


def test_without_the_extra_one_line_says_what_to_install(data, tmp_path, monkeypatch, capsys):
    real = builtins.__import__

    def missing(name, *args, **how):
        if name == "torch.utils.tensorboard":
            raise ImportError(name)
        return real(name, *args, **how)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert train.main(flags(data, tmp_path / "run", 1, "--log", "tensorboard")) == 2
    errors = capsys.readouterr().err.splitlines()
    assert '".[tensorboard]"' in errors[-1]
    assert not (tmp_path / "run").exists()

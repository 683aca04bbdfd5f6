"""How a model is trained: schedule, weights of genres, batches, and the epoch that is kept."""

import json

import numpy as np
import pytest
import torch

from tests.conftest import BANDS, spectrogram_of, write_picture
from tests.training.runs import flags, history_of, interrupt, same_runs
from vision import train
from vision.data.dataset import Pictures
from vision.data.pixel_store import PixelStore
from vision.data.preprocess import InputSpec
from vision.inference import device
from vision.inference.predictor import Predictor
from vision.inference.windows import predict_proba
from vision.models.classifier import create_model
from vision.models.svm import TextureSVM
from vision.training import loop, run
from vision.training.config import TrainConfig
from vision.training.loop import (
    RISE,
    START,
    Optimisation,
    RunContext,
    batches,
    learn,
    lr_factor,
    seed_everything,
    train_one_epoch,
)

pytestmark = pytest.mark.usefixtures("no_plots")


def pictures(levels, labels, n_classes):
    """Pictures of given levels, (n, height, width)."""
    classes, paths = [f"genre {n}" for n in range(n_classes)], [str(n) for n in range(len(levels))]
    return Pictures(PixelStore.of(levels[:, None]), torch.tensor(labels), paths, classes)


def trained_on(train_set, out, **settings):
    """A model trained on pictures, with nothing at random but the order."""
    plain = {"experts": "network", "window": 0.0, "size": 32, "batch_size": 8, "dropout": 0.0, "label_smoothing": 0.0}
    plain |= {"stretch": 0.0, "shift": 0.0, "random_eq": 0.0, "mixup": 0.0, "weight_decay": 0.0, "soft_labels": 0.0}
    config = TrainConfig(**plain | settings)
    spec = run.make_model_spec(config, train_set, InputSpec(32), {"precision": "fp32"})
    out.mkdir()
    return learn(config, spec, train_set, None, RunContext(out, torch.device("cpu")))[1]


def test_onecycle_rises_and_falls():
    done = np.linspace(0, 1, 201)[:-1]
    factors = np.array([lr_factor("onecycle", share) for share in done])
    assert factors[0] == pytest.approx(START)
    assert lr_factor("onecycle", RISE) == pytest.approx(1)
    assert factors.max() == pytest.approx(1)
    assert (np.diff(factors[done <= RISE]) > 0).all()
    assert (np.diff(factors[done >= RISE]) < 0).all()
    assert np.abs(np.diff(factors)).max() < 0.1, "without a jump"
    assert 0 < factors[-1] < 1e-3


def test_cosine_falls_and_constant_stays():
    factors = [lr_factor("cosine", share) for share in np.linspace(0, 1, 101)]
    assert factors[0] == 1
    assert (np.diff(factors) < 0).all()
    assert factors[50] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(0, abs=1e-9)
    assert {lr_factor("constant", share) for share in (0, 0.1, 0.5, 0.99)} == {1}


def test_the_rate_of_each_step_is_the_schedules(whole):
    """12 pictures in batches of 8: the second step of an epoch begins when half of it is done."""
    config = TrainConfig.from_recipe(epochs=4)
    expected = [config.lr * lr_factor("onecycle", (epoch + 0.5) / 4) for epoch in range(4)]
    assert [row["lr"] for row in history_of(whole)] == expected, "to the last bit"


@pytest.mark.slow
def test_class_weights_make_rare_genres_count(tmp_path):
    """Of pictures that tell nothing, a model learns how frequent genres are; weighted, that all are as likely."""
    level = torch.full((24, 32, 32), 90, dtype=torch.uint8)
    unequal = pictures(level, [0] * 18 + [1] * 6, 2)
    for weighted, expected in ((False, [0.75, 0.25]), (True, [0.5, 0.5])):
        model = trained_on(unequal, tmp_path / str(weighted), model="cnn2", epochs=12, lr=0.01, class_weights=weighted)
        assert predict_proba(model, unequal.x, [0])[0].tolist() == pytest.approx(expected, abs=0.06)


def test_weights_of_genres_are_the_inverse_of_their_share(tmp_path, monkeypatch):
    made = []
    real = torch.nn.CrossEntropyLoss
    monkeypatch.setattr(torch.nn, "CrossEntropyLoss", lambda *args, **how: made.append(args) or real(*args, **how))
    unequal = pictures(torch.randint(0, 256, (10, 32, 32), dtype=torch.uint8), [0] * 5 + [1] * 3 + [2] * 2, 3)
    trained_on(unequal, tmp_path / "run", model="cnn2", epochs=1, class_weights=True)
    [[weights]] = made
    assert weights.tolist() == pytest.approx([10 / 15, 10 / 9, 10 / 6])


def test_patience(misleading, tmp_path, monkeypatch, capsys):
    more = ["--patience", "2", "--schedule", "constant"]
    assert train.main(flags(misleading, tmp_path / "a", 20, *more)) == 0
    assert "stopped early: no better dev accuracy in 2 epochs" in capsys.readouterr().out
    kept = json.loads((tmp_path / "a" / "metrics.json").read_text())["kept_epoch"]
    assert len(history_of(tmp_path / "a")) == kept + 2 < 20
    # Interrupted after its last epoch, it goes on to the same end.
    interrupt(monkeypatch, run, "_finish", 0)
    assert train.main(flags(misleading, tmp_path / "b", 20, *more)) == 130
    monkeypatch.undo()
    capsys.readouterr()
    assert train.main(["--resume", str(tmp_path / "b")]) == 0
    printed = capsys.readouterr().out
    assert "stopped early" in printed and "\nepoch" not in printed
    assert same_runs(tmp_path / "a", tmp_path / "b")
    # And after its first.
    interrupt(monkeypatch, loop, "write_state", 1)
    assert train.main(flags(misleading, tmp_path / "c", 20, *more)) == 130
    monkeypatch.undo()
    assert train.main(["--resume", str(tmp_path / "c")]) == 0
    assert same_runs(tmp_path / "a", tmp_path / "c")


def test_the_kept_epoch_is_the_best_on_dev_and_scored_with_its_weights(misleading, tmp_path):
    assert train.main(flags(misleading, tmp_path / "run", 6, "--schedule", "constant")) == 0
    rows = history_of(tmp_path / "run")
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())
    kept = rows[scores["kept_epoch"] - 1]
    assert kept == max(rows, key=lambda row: (row["dev_accuracy"], -row["dev_loss"]))
    assert kept["epoch"] < 6
    assert scores["dev"]["loss"] == pytest.approx(kept["dev_loss"], rel=1e-4)
    assert scores["dev_last"]["loss"] == pytest.approx(rows[-1]["dev_loss"], rel=1e-4)
    assert scores["dev"]["loss"] < scores["dev_last"]["loss"]


@pytest.mark.parametrize(("schedule", "kept"), [("onecycle", 19), ("cosine", 19), ("constant", 2)])
def test_where_the_rate_falls_dev_chooses_one_of_the_last_epochs(schedule, kept):
    config = TrainConfig(epochs=20, schedule=schedule)
    accuracies = [0.5, 0.9, *[0.6] * 14, 0.85, 0.85, 0.8, 0.8]
    history = [{"epoch": n, "dev_accuracy": a, "dev_loss": n / 20} for n, a in enumerate(accuracies, 1)]
    assert loop.best(history, config) == kept
    assert loop.best(history[:5], config) == 2, "stopped before"
    assert loop.best([{"epoch": 1}, {"epoch": 2}], config) == 2, "no dev"


@pytest.mark.slow
def test_shuffled_labels_are_learned_by_heart_but_say_nothing_of_dev(tmp_path):
    rng = np.random.default_rng(0)
    genres = ["a", "b", "c", "d"]
    for split, n in (("train", 16), ("dev", 25)):
        for genre in genres:
            for number in range(n):
                S_db = spectrogram_of(rng.choice([*BANDS]), int(rng.integers(1 << 30)), 32)
                write_picture(tmp_path / "data" / split / genre / f"{genre}.{split}{number}.png", S_db)
    plain = [
        "--mixup",
        "0",
        "--random-eq",
        "0",
        "--stretch",
        "0",
        "--shift",
        "0",
        "--dropout",
        "0",
        "--soft-labels",
        "0",
    ]
    assert train.main(flags(tmp_path / "data", tmp_path / "run", 12, *plain)) == 0
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert history_of(tmp_path / "run")[-1]["train_accuracy"] > 0.6
    # 100 guesses among four are right 25 times, with a standard deviation of 4.3.
    assert abs(scores["dev_last"]["accuracy"] * 100 - 25) < 4 * 4.33


@pytest.mark.slow
def test_the_texture_svm_is_evaluated_as_often_for_any_number_of_epochs(data, tmp_path, monkeypatch):
    """Its dev probabilities are computed once. And the command keeps freed memory from the start."""
    evaluated, kept, real = [], [], TextureSVM.classify
    monkeypatch.setattr(TextureSVM, "classify", lambda self, x: evaluated.append(len(x)) or real(self, x))
    monkeypatch.setattr(device, "keep_freed_memory", lambda: kept.append(True))
    windows = []
    for epochs in (1, 3):
        evaluated.clear()
        assert train.main(flags(data, tmp_path / f"run-{epochs}", epochs, "--texture")) == 0
        windows.append(sum(evaluated))
    assert windows[0] == windows[1] > 0
    assert kept


def test_every_picture_is_used_once_and_no_batch_is_of_one():
    seen = []

    class Spy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 2)

        def forward(self, x):
            seen.append((x[:, 0, 0, 0] * 255).round().int().tolist())
            return self.layer(x[:, 0, 0])

    model = Spy()
    of_two_genres = pictures(torch.arange(17, dtype=torch.uint8).view(17, 1, 1), [0] * 17, 2)
    criterion = torch.nn.CrossEntropyLoss(reduction="sum")
    optimisation = Optimisation(criterion, torch.optim.SGD(model.parameters(), lr=0.0))
    train_one_epoch(model, of_two_genres, batches(torch.randperm(17), 4), optimisation)
    assert sorted(sum(seen, [])) == list(range(17))
    assert [len(batch) for batch in seen] == [4, 4, 4, 5]


def test_batches_are_large_enough_for_every_process():
    for n in (16, 17, 31, 33, 100):
        for world in (1, 2, 4):
            cut = batches(torch.arange(n), 16, world)
            assert torch.cat(cut).tolist() == list(range(n))
            shares = [len(batch[rank::world]) for batch in cut for rank in range(world)]
            assert min(shares) >= 2
            assert max(map(len, cut)) < 16 + 2 * world


def test_seeds_epochs_and_processes_draw_differently():
    drawn = set()
    for seed, epoch, rank in [(0, 1, 0), (0, 1, 1), (0, 2, 0), (0, 2, 1), (1, 1, 0), (1, 1, 1)]:
        seed_everything(seed, epoch, rank)
        drawn.add(torch.rand(1).item())
    assert len(drawn) == 6


def test_texture_alone_takes_no_epochs(data, tmp_path):
    run = tmp_path / "run"
    assert train.main(flags(data, run, 5, "--experts", "texture")) == 0
    assert [row["epoch"] for row in history_of(run)] == [0]
    scores = json.loads((run / "metrics.json").read_text())
    assert scores["dev"]["accuracy"] == scores["dev_last"]["accuracy"] and "experts" not in scores["dev"]
    predictor = Predictor(run, "cpu")
    assert predictor.experts == {"texture": 1.0} and not list(predictor.models[0].parameters())


def test_the_curves_are_of_the_network_alone(data, tmp_path):
    run = tmp_path / "run"
    assert train.main(flags(data, run, 3, "--experts", "network:0.2,texture:0.8", "--seed", "4")) == 0
    last, scores = history_of(run)[-1], json.loads((run / "metrics.json").read_text())
    predictor = Predictor(run, "cpu")
    assert last["dev_accuracy"] == pytest.approx(scores["dev_last"]["accuracy"])
    kept = history_of(run)[scores["kept_epoch"] - 1]
    name = predictor.model_spec.model["name"]
    assert kept["network_dev_accuracy"] == pytest.approx(scores["dev"]["experts"][name]["accuracy"])
    assert kept["network_dev_loss"] == pytest.approx(scores["dev"]["experts"][name]["loss"], abs=0.02)


def test_pretrained_layers_learn_later_and_slower():
    """``--head-epochs`` and ``--body-lr``: the last layer has the full rate from the first step."""
    config = TrainConfig(epochs=4, head_epochs=1, body_lr=0.25, schedule="constant", lr=0.01)
    model = create_model(3, name="cnn2", channels=1, size=32, mean=[0.5], std=[0.2], dropout=0.0, texture=0)
    optimizer = loop._make_optimizer(config, model, 3)
    scheduler = loop._make_scheduler(config, optimizer, 5)
    head = {id(p) for p in model.net[-1].parameters()}
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    for step in range(20):
        for group in optimizer.param_groups:
            of_head = {id(p) in head for p in group["params"]}
            assert len(of_head) == 1
            expected = 0.01 if of_head == {True} else 0.0025 * (step >= 5)
            assert group["lr"] == pytest.approx(expected)
        optimizer.step()
        scheduler.step()
    usual = loop._make_optimizer(TrainConfig(), model, 3)
    assert len(usual.param_groups) == 2  # as earlier versions stored it

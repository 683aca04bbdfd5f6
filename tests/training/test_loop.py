"""How a model learns: schedule, weights, augmentation of train only, and going on after any interruption."""

import csv
import json
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
import torch

from render.errors import MelvisionError
from tests.conftest import BANDS, spectrogram_of, write_picture, write_tree
from vision import train
from vision.data.dataset import Pictures
from vision.data.pixel_store import PixelStore
from vision.data.preprocess import InputSpec
from vision.inference.windows import predict_proba
from vision.models import checkpoint
from vision.models.svm import TextureSVM
from vision.training import loop, run
from vision.training.augment import WIDEST_MASK, mask, mixup, random_eq
from vision.training.config import TrainConfig
from vision.training.loop import RISE, START, learn, learning_rate
from vision.training.state import read_state, write_state

QUICK = ["--size", "32", "--batch-size", "8", "--threads", "1", "--device", "cpu", "--precision", "fp32"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Train, dev and test of 3 genres."""
    root = tmp_path_factory.mktemp("learning")
    for split, n, start in (("train", 4, 0), ("dev", 2, 4), ("test", 1, 6)):
        write_tree(root / split, n, start=start)
    return root


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run of 4 epochs that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert train.main(flags(data, out)) == 0
    return out


def flags(data, out, epochs=4, *more):
    return ["--data", str(data), "--out", str(out), "--epochs", str(epochs), *QUICK, *more]


def history_of(folder):
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def same_runs(one, other):
    """Whether two run folders hold the same, to the last bit of the weights; seconds aside."""
    a, b = (checkpoint.read(folder / "model.pt")["weights"] for folder in (one, other))
    weights = a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    rows = [[{**row, "seconds": 0} for row in history_of(folder)] for folder in (one, other)]
    scores = [json.loads((folder / "metrics.json").read_text()) for folder in (one, other)]
    return weights and rows[0] == rows[1] and scores[0] == scores[1]


def interrupt(monkeypatch, owner, name, after):
    """Make a function end in Ctrl-C when it has been called so many times, before it does anything."""
    real, calls = getattr(owner, name), []

    def stop(*args, **how):
        calls.append(name)
        if len(calls) > after:
            raise KeyboardInterrupt
        return real(*args, **how)

    monkeypatch.setattr(owner, name, stop)


def pictures(levels, labels, n_classes):
    """Pictures of given levels (n, 32, width)."""
    classes, paths = [f"genre {n}" for n in range(n_classes)], [str(n) for n in range(len(levels))]
    return Pictures(PixelStore.of(levels[:, None]), torch.tensor(labels), paths, classes)


def taught(out, train_set, **settings):
    """The model after learning from pictures, with nothing at random but the order."""
    plain = {"texture": False, "window": 0.0, "size": 32, "batch_size": 8, "dropout": 0.0, "label_smoothing": 0.0}
    plain |= {"stretch": 0.0, "shift": 0.0, "colour": 0.0, "mixup": 0.0, "weight_decay": 0.0}
    config = TrainConfig(**plain | settings)
    recipe = run.make_model_spec(config, train_set, InputSpec(32), {"precision": "fp32"})
    out.mkdir()
    _, model = learn(config, recipe, train_set, None, out, torch.device("cpu"), say=lambda line: None)
    return model


def test_onecycle_rises_and_falls():
    config = TrainConfig(lr=0.01, schedule="onecycle")
    shares = np.linspace(0, 1, 201)[:-1]
    rates = np.array([learning_rate(config, share) for share in shares])
    assert rates[0] == pytest.approx(0.01 * START)
    assert learning_rate(config, RISE) == pytest.approx(0.01)
    assert rates.max() == pytest.approx(0.01)
    assert (np.diff(rates[shares <= RISE]) > 0).all()
    assert (np.diff(rates[shares >= RISE]) < 0).all()
    assert np.abs(np.diff(rates)).max() < 0.001, "without a jump"
    assert 0 < rates[-1] < 1e-5


def test_cosine_falls_and_constant_stays():
    rates = [learning_rate(TrainConfig(lr=0.01, schedule="cosine"), share) for share in np.linspace(0, 1, 101)]
    assert rates[0] == 0.01
    assert (np.diff(rates) < 0).all()
    assert rates[50] == pytest.approx(0.005)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    constant = TrainConfig(lr=0.01, schedule="constant")
    assert {learning_rate(constant, share) for share in (0, 0.1, 0.5, 0.99)} == {0.01}


def test_the_rate_of_each_step_is_the_schedules(whole):
    """12 pictures in batches of 8: the second step of an epoch begins when half of it is done."""
    config = TrainConfig.from_recipe(epochs=4)
    expected = [learning_rate(config, (epoch + 0.5) / 4) for epoch in range(4)]
    assert [row["lr"] for row in history_of(whole)] == pytest.approx(expected)


def test_class_weights_make_rare_genres_count(tmp_path):
    """Of pictures that tell nothing, a model learns how frequent genres are; weighted, that all are as likely."""
    level = torch.full((24, 32, 32), 90, dtype=torch.uint8)
    unequal = pictures(level, [0] * 18 + [1] * 6, 2)
    for weighted, expected in ((False, [0.75, 0.25]), (True, [0.5, 0.5])):
        model = taught(tmp_path / str(weighted), unequal, model="cnn2", epochs=12, lr=0.01, class_weights=weighted)
        assert predict_proba(model, unequal.x, [0])[0].tolist() == pytest.approx(expected, abs=0.06)


def test_weights_of_genres_are_the_inverse_of_their_share(tmp_path, monkeypatch):
    made = []
    real = torch.nn.CrossEntropyLoss
    monkeypatch.setattr(torch.nn, "CrossEntropyLoss", lambda *args, **how: made.append(args) or real(*args, **how))
    unequal = pictures(torch.randint(0, 256, (10, 32, 32), dtype=torch.uint8), [0] * 5 + [1] * 3 + [2] * 2, 3)
    taught(tmp_path / "run", unequal, model="cnn2", epochs=1, class_weights=True)
    [[weights]] = made
    assert weights.tolist() == pytest.approx([10 / 15, 10 / 9, 10 / 6])


@pytest.fixture(scope="module")
def misleading(tmp_path_factory):
    """A dev folder in which each genre holds another one's pictures: the more is learned, the worse."""
    root = tmp_path_factory.mktemp("misleading")
    write_tree(root / "train", 4)
    for genre, other in zip(BANDS, [*BANDS][1:] + [*BANDS][:1], strict=True):
        write_picture(root / "dev" / genre / "1.png", spectrogram_of(other, 4))
    return root


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
    told = capsys.readouterr().out
    assert "stopped early" in told and "\nepoch" not in told
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


def test_mixup_blends_pictures_and_targets_alike():
    torch.manual_seed(0)
    n = 500
    values, target = torch.rand(n, 1, 2, 3), torch.eye(n)
    for alpha, least, most in ((0.1, 0.9, 0.99), (1.0, 0.7, 0.8), (100.0, 0.5, 0.55)):
        x, found = mixup(values, target, alpha)
        assert torch.allclose(found.sum(dim=1), torch.ones(n))
        assert (found > 0).sum(dim=1).max() == 2
        share = found.diagonal()
        assert share.min() >= 0.5
        assert least < share.mean() < most
        assert torch.allclose(x.flatten(1), found @ values.flatten(1), atol=1e-6)
    assert mixup(values, target, 0) == (values, target)


def test_colour_bends_the_balance_of_rows_and_leaves_silence():
    torch.manual_seed(0)
    x = torch.full((300, 2, 64, 5), 0.5)
    x[:, :, 10:20, 2] = 0
    x[:, :, 30:40, 3] = 1
    found = random_eq(x, 4.0)
    assert (found[x == 0] == 0).all()
    assert found.aminmax() == (0, 1)
    curve = found[:, :1, :, :1] - 0.5
    middle = x == 0.5
    assert torch.allclose((found - 0.5)[middle], curve.expand_as(x)[middle]), "at all times and in all channels alike"
    assert curve.std() * 80 == pytest.approx(4.0, rel=0.1)
    assert curve.diff(dim=2).abs().max() < 0.05, "smooth"
    assert not torch.allclose(curve[0], curve[1], atol=0.01), "another for each picture"
    assert random_eq(x, 0) is x


def test_masks_hide_stretches_behind_the_mean():
    torch.manual_seed(0)
    x = torch.rand(200, 2, 40, 50)
    found = mask(x, 1)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    hidden = found != x
    assert (found == mean)[hidden].all()
    assert (hidden[:, 0] == hidden[:, 1]).all(), "in all channels"
    rows, columns = hidden[:, 0].all(dim=2), hidden[:, 0].all(dim=1)
    assert torch.equal(hidden[:, 0], rows[:, :, None] | columns[:, None])
    for lines in (rows, columns):
        assert (lines.int().diff(dim=1) == 1).sum(dim=1).max() <= 1, "one stretch"
        size = lines.sum(dim=1)
        assert 0.15 * lines.shape[1] < size.max() <= WIDEST_MASK * lines.shape[1] + 1
        assert lines.any(dim=0)[1:-1].all(), "anywhere"
    assert (mask(x, 3) != x).sum() > 2 * hidden.sum()
    assert mask(x, 0) is x


def test_only_train_is_augmented(data, tmp_path, monkeypatch):
    """Random windows are cut of the train pictures only, of each once an epoch; dev and test are seen as they are."""
    used, sets = [], {}
    real, read = PixelStore.random_windows, run.read_data

    def spy(self, chosen, *how):
        used.append((self, chosen.tolist(), how))
        return real(self, chosen, *how)

    def keep(*args, **how):
        found = read(*args, **how)
        sets.update(found[0])
        return found

    monkeypatch.setattr(PixelStore, "random_windows", spy)
    monkeypatch.setattr(run, "read_data", keep)
    assert train.main(flags(data, tmp_path / "run", 2, "--window", "1", "--stretch", "0.2", "--masks", "2")) == 0
    assert {id(x) for x, _, _ in used} == {id(sets["train"].x)}
    assert {how for _, _, how in used} == {(0.2, 0.025)}
    numbers = [number for _, chosen, _ in used for number in chosen]
    assert sorted(numbers[:12]) == sorted(numbers[12:]) == list(range(12))
    assert numbers[:12] != numbers[12:], "another order"
    model, _ = checkpoint.load(tmp_path / "run")
    x = sets["dev"].x
    assert x.widths.min() > 32
    used.clear()
    found = predict_proba(model, x)
    torch.rand(1)
    assert torch.equal(predict_proba(model, x), found)
    assert not used
    # The mean over windows that cover the track.
    windows = x.cut([0] * len(x.starts(0)), x.starts(0))
    assert torch.allclose(found[0], model(windows.float() / 255).exp().mean(dim=0), atol=1e-5)
    assert torch.allclose(predict_proba(model, x, [3, 0]), found[[3, 0]], atol=1e-6)


def test_shuffled_labels_are_learned_by_heart_but_say_nothing_of_dev(tmp_path):
    rng = np.random.default_rng(0)
    genres = ["a", "b", "c", "d"]
    for split, n in (("train", 16), ("dev", 25)):
        for genre in genres:
            for number in range(n):
                S_db = spectrogram_of(rng.choice([*BANDS]), int(rng.integers(1 << 30)), 32)
                write_picture(tmp_path / "data" / split / genre / f"{genre}.{split}{number}.png", S_db)
    plain = ["--mixup", "0", "--colour", "0", "--stretch", "0", "--shift", "0", "--no-texture", "--dropout", "0"]
    assert train.main(flags(tmp_path / "data", tmp_path / "run", 12, *plain)) == 0
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert history_of(tmp_path / "run")[-1]["train_accuracy"] > 0.6
    # 100 guesses among four are right 25 times, with a standard deviation of 4.3.
    assert abs(scores["dev_last"]["accuracy"] * 100 - 25) < 4 * 4.33


def damage_by_cutting(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_by_emptying(path):
    path.write_bytes(b"")


def damage_by_a_bit(path):
    """Somewhere in the middle, where weights are."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [damage_by_cutting, damage_by_emptying, damage_by_a_bit])
def test_a_damaged_state_is_told_and_the_one_before_it_used(data, whole, tmp_path, monkeypatch, capsys, damage):
    out = tmp_path / "run"
    interrupt(monkeypatch, loop, "write_state", 3)
    assert train.main(flags(data, out)) == 130
    monkeypatch.undo()
    damage(out / "last.pt")
    assert train.main(["--resume", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"failed: {out}/last.pt: is no checkpoint or damaged" in told
    assert "resumed after epoch 2 of 4" in told
    assert same_runs(whole, out)


def test_two_damaged_states(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    interrupt(monkeypatch, loop, "write_state", 2)
    assert train.main(flags(data, out)) == 130
    for name in ("last.pt", "before.pt"):
        damage_by_cutting(out / name)
    capsys.readouterr()
    assert train.main(["--resume", str(out)]) == 2
    error = capsys.readouterr().err
    assert "is no checkpoint or damaged" in error and error.count("\n") == 1


def test_the_good_state_outlives_the_damaged_one(data, whole, tmp_path, monkeypatch):
    """Interrupted again just when the next state is being stored."""
    out = tmp_path / "run"
    interrupt(monkeypatch, loop, "write_state", 2)
    assert train.main(flags(data, out)) == 130
    monkeypatch.undo()
    damage_by_cutting(out / "last.pt")
    interrupt(monkeypatch, checkpoint, "write", 0)
    monkeypatch.setattr(checkpoint, "save", lambda *_: None)
    assert train.main(["--resume", str(out)]) == 130
    monkeypatch.undo()
    assert train.main(["--resume", str(out)]) == 0
    assert same_runs(whole, out)


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (checkpoint, "save", 2),
        (loop, "write_csv", 2),
        (checkpoint, "write", 5),
        (os, "replace", 12),
        (run, "_finish", 0),
    ],
)
def test_interrupted_between_any_two_files(data, whole, tmp_path, monkeypatch, owner, name, after):
    out = tmp_path / "run"
    interrupt(monkeypatch, owner, name, after)
    assert train.main(flags(data, out)) == 130
    monkeypatch.undo()
    assert not (out / "metrics.json").exists()
    assert train.main(["--resume", str(out)]) == 0
    assert same_runs(whole, out)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


def test_killed_at_random_moments(data, tmp_path):
    """By SIGKILL, which nothing can catch; the run goes on each time and ends as if nothing had been."""
    out, whole = tmp_path / "run", tmp_path / "whole"
    small = ["--model", "cnn2", "--no-texture"]
    assert train.main(flags(data, whole, 14, *small)) == 0
    # Its server imports once for all.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vision.training.run", "vision.train", "sklearn.metrics"])
    chance, rows, kills = random.Random(0), [], 0
    for arguments in [flags(data, out, 14, *small)] + [["--resume", str(out)]] * 2:
        process = context.Process(target=train.main, args=(arguments,))
        process.start()
        before = len(rows)
        while process.is_alive() and len(rows) < before + 2:  # the first takes long
            time.sleep(0.001)
            rows = history_of(out) if (out / "history.csv").exists() else []
        time.sleep(chance.uniform(0, 2) * rows[-1]["seconds"])
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        rows = history_of(out)
    assert kills >= 2
    if not (out / "metrics.json").exists():
        assert train.main(["--resume", str(out)]) == 0
    assert same_runs(whole, out)


@pytest.fixture
def threads():
    """Set the threads that torch computes on; put back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("given", [[], ["--threads", "2"]])
def test_a_resumed_run_computes_on_as_many_threads(data, tmp_path, monkeypatch, capsys, threads, given):
    """Whether they were asked for or torch's own choice, which another machine or day may make differently."""
    out = tmp_path / "run"
    arguments = ["--data", str(data), "--out", str(out), "--epochs", "2", "--size", "32", "--device", "cpu", *given]
    arguments += ["--model", "cnn2", "--no-texture"]
    threads(1 if given else 2)
    interrupt(monkeypatch, loop, "write_state", 1)
    assert train.main(arguments) == 130
    monkeypatch.undo()
    assert json.loads((out / "config.json").read_text())["threads"] == 2
    threads(1)
    capsys.readouterr()
    assert train.main(["--resume", str(out)]) == 0
    assert "2 threads" in capsys.readouterr().out
    assert torch.get_num_threads() == 2
    assert json.loads((out / "config.json").read_text())["config"]["threads"] == (2 if given else None)


@pytest.mark.parametrize(
    ("name", "other", "told"),
    [
        ("device", "cuda", "device was cpu"),
        ("precision", "bf16", "precision was fp32"),
        ("threads", 3, "threads was 1"),
        ("processes", 2, "processes was 1"),
        ("pictures", "", "the pictures were others"),
    ],
)
def test_a_run_does_not_go_on_under_other_conditions(tmp_path, name, other, told):
    about = {"config": {}, "device": "cpu", "precision": "fp32", "threads": 1, "processes": 1, "pictures": "a"}
    model = torch.nn.Linear(1, 1)
    write_state(tmp_path, model, torch.optim.SGD(model.parameters()), [], about)
    assert read_state(tmp_path, about, print)["history"] == []
    with pytest.raises(MelvisionError, match=told) as error:
        read_state(tmp_path, about | {name: other}, print)
    assert "--out" in str(error.value)


def test_texture_is_asked_as_often_however_long_it_learns(data, tmp_path, monkeypatch):
    """Nothing in it is trained: dev's is computed once. And freed memory is kept from the start."""
    asked, kept, real = [], [], TextureSVM.forward
    monkeypatch.setattr(TextureSVM, "forward", lambda self, x: asked.append(len(x)) or real(self, x))
    monkeypatch.setattr(run, "keep_freed_memory", lambda: kept.append(True))
    windows = []
    for epochs in (1, 3):
        asked.clear()
        assert train.main(flags(data, tmp_path / f"run-{epochs}", epochs)) == 0
        windows.append(sum(asked))
    assert windows[0] == windows[1] > 0
    assert kept

"""Several processes train as one: each picture once, the gradients of the whole batch, files written by the first."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from render import atomic
from render.errors import ParameterError
from tests.conftest import rows_of, spectrogram_of, write_picture, write_tree
from tests.training.runs import write_text_only
from vision import train
from vision.data import dataset
from vision.data.dataset import Pictures
from vision.data.pixel_store import PixelStore
from vision.inference import predictor
from vision.inference.predictor import Predictor
from vision.models import checkpoint
from vision.models.classifier import GenreClassifier, create_model
from vision.models.fitted import fit_experts
from vision.training import loop, run
from vision.training.config import TrainConfig
from vision.training.distributed import Distributed
from vision.training.loop import Optimisation, batches, train_one_epoch

ROOT = Path(__file__).parents[2]
QUICK = ["--size", "32", "--batch-size", "7", "--threads", "1", "--device", "cpu", "--precision", "fp32"]
QUICK += ["--no-texture"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """17 pictures to train on, 5 to choose by, 3 to test."""
    root = tmp_path_factory.mktemp("parallel")
    write_tree(root / "train", 5)
    write_tree(root / "train", 2, ["jazz"], start=5)
    write_tree(root / "dev", 2, ["jazz", "metal"], start=7)
    write_tree(root / "dev", 1, ["blues"], start=7)
    write_tree(root / "test", 1, start=9)
    return root


def flags(data, out, epochs=2, *more):
    return ["--data", str(data), "--out", str(out), "--epochs", str(epochs), *QUICK, *more]


def as_rank(rank, world, port, output, function, *args):
    """Be one of several processes, as torchrun would have started it; what it prints goes to a file."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    sys.stdout, sys.stderr = (open(f"{output}{rank}.{name}", "w") for name in ("out", "err"))  # noqa: SIM115
    torch.set_num_threads(1)
    if function is not watched:
        run.write_run = write_text_only
    sys.exit(function(*args))


class Together:
    """Two processes that train together, forked from a server that has imported everything: torchrun is slower."""

    def __init__(self, folder):
        self.output, self.processes = folder / "rank", []
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([__name__, "sklearn.metrics"])

    def start(self, function, *args):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        given = [(rank, 2, port, str(self.output), function, *args) for rank in range(2)]
        self.processes = [self.context.Process(target=as_rank, args=one) for one in given]
        for process in self.processes:
            process.start()

    def kill(self):
        for process in self.processes:
            process.kill()
            process.join()

    def __call__(self, function, *args):
        """Run to the end; returns both exit codes."""
        self.start(function, *args)
        for process in self.processes:
            process.join(120)
        codes = [process.exitcode for process in self.processes]
        self.kill()
        return codes

    def read(self, rank, name):
        return Path(f"{self.output}{rank}.{name}").read_text()


@pytest.fixture
def together(tmp_path):
    processes = Together(tmp_path)
    yield processes
    processes.kill()


@pytest.mark.slow
def test_torchrun(data, tmp_path):
    """The command of the README, and all that it leaves."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "vision.train"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = torchrun + flags(data, tmp_path / "run")
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "17 train, 5 dev, 3 test pictures of 3 genres; cpu, fp32, 1 thread, 2 processes"
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["1/2", "2/2"]
    assert len([line for line in lines if line.startswith("report: ")]) == 1
    assert lines[-1].startswith("test accuracy: ")
    expected = "config.json split.csv history.csv metrics.json model.pt evaluation_report.txt accuracy_plot.png"
    expected += " loss_plot.png confusion_matrix.png predictions.csv report.html"
    assert {path.name for path in (tmp_path / "run").iterdir()} == set(expected.split())
    assert json.loads((tmp_path / "run" / "config.json").read_text())["processes"] == 2
    history = rows_of(tmp_path / "run" / "history.csv")
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert all(0 < float(row["train_loss"]) < 3 and 0 <= float(row["dev_accuracy"]) <= 1 for row in history)
    files = [row["file"] for row in rows_of(tmp_path / "run" / "predictions.csv") if row["split"] != "dev_last"]
    assert sorted(files) == sorted(map(str, data.rglob("*.png")))
    found = Predictor(tmp_path / "run", "cpu").predict(data / "test" / "jazz" / "jazz.00009.png")
    assert found.p.sum() == pytest.approx(1)


def watched(arguments, folder):
    """Train, and note which pictures this process was given, what it wrote and what it ended with."""
    rank = os.environ["RANK"]
    noted = {"train": [], "scored": [], "written": []}
    windows, score, write, learn = PixelStore.random_windows, loop.predict_proba, atomic.replacing, run.learn

    def random_windows(self, chosen, **how):
        noted["train"].append(chosen.tolist())
        return windows(self, chosen, **how)

    def predict_proba(model, x, numbers=None, **how):
        noted["scored"].append(list(range(len(x)) if numbers is None else numbers))
        return score(model, x, numbers, **how)

    def replacing(path, *args, **how):
        noted["written"].append(Path(path).name)
        return write(path, *args, **how)

    def keep(*args, **how):
        history, model = learn(*args, **how)
        torch.save(model.state_dict(), folder / f"weights{rank}.pt")
        return history, model

    PixelStore.random_windows = random_windows
    for module in (loop, run, predictor):
        module.predict_proba = predict_proba
    atomic.replacing, run.learn = replacing, keep
    code = train.main(arguments)
    (folder / f"noted{rank}.json").write_text(json.dumps(noted))
    return code


@pytest.mark.slow
def test_each_picture_is_used_and_scored_once_an_epoch(data, tmp_path, together):
    assert together(watched, flags(data, tmp_path / "run", 3), tmp_path) == [0, 0]
    one, other = (json.loads((tmp_path / f"noted{rank}.json").read_text()) for rank in range(2))
    # 17 in batches of 7, 7 and 3, of which the last is too small for two.
    assert [len(batch) for batch in one["train"]] == [4, 5] * 3
    assert [len(batch) for batch in other["train"]] == [3, 5] * 3
    epochs = [sum(one["train"][at : at + 2] + other["train"][at : at + 2], []) for at in (0, 2, 4)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(17))] * 3
    assert epochs[0] != epochs[1], "in another order"
    # After each epoch the network is scored on train and dev, each process taking its share. Then rank 0 alone
    # scores the kept epoch on all three sets and the last one on dev, and measures what prediction costs.
    assert one["scored"][:6] == [list(range(0, 17, 2)), [0, 2, 4]] * 3
    assert [len(numbers) for numbers in one["scored"][6:10]] == [17, 5, 3, 5]
    assert other["scored"] == [list(range(1, 17, 2)), [1, 3]] * 3
    assert other["written"] == []
    assert one["written"].count("last.pt") == one["written"].count("history.csv") == 3
    assert {one["written"].count(name) for name in ("config.json", "split.csv", "metrics.json", "report.html")} == {1}
    # After each epoch they agree, on the means of batch norm too.
    weights = [torch.load(tmp_path / f"weights{rank}.pt") for rank in range(2)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    printed = [together.read(rank, "out") for rank in range(2)]
    assert printed[0].count("\nepoch") == 3
    assert printed[1] == together.read(1, "err") == ""
    assert [line.split(":")[0] for line in together.read(0, "err").splitlines()] == ["note"], "few tracks"


def reading(arguments, folder, *hosts):
    """Train, and note which pictures this process decoded; `hosts` are the numbers of each process's machine."""
    rank = int(os.environ["RANK"])
    if hosts:
        os.environ["GROUP_RANK"] = str(hosts[rank])
    decoded, attempt = [], dataset._attempt

    def noted(path, preprocessor):
        decoded.append(str(path))
        return attempt(path, preprocessor)

    dataset._attempt = noted
    code = train.main(arguments)
    (folder / f"decoded{rank}.json").write_text(json.dumps(decoded))
    return code


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [[], [0, 0], [0, 1]])
def test_each_picture_is_decoded_once_a_host(data, tmp_path, together, hosts):
    assert together(reading, flags(data, tmp_path / "run", 1), tmp_path, *hosts) == [0, 0], together.read(0, "err")
    one, other = (json.loads((tmp_path / f"decoded{rank}.json").read_text()) for rank in range(2))
    assert sorted(one) == sorted(map(str, data.rglob("*.png")))
    assert other == (one if hosts == [0, 1] else [])
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    sets, _ = run.read_data(TrainConfig(**about["config"]))
    assert about["pictures"] == run.fingerprint(sets), "the same as one process reads"
    assert not list((tmp_path / "run").glob(".*")), "nothing is left of the files between the processes"


class Still(GenreClassifier):
    """Batch norm does not depend on the rest of the batch."""

    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                module.eval()
        return self


def train_small(path=None):
    """Weights, loss and accuracy after an epoch of 13 pictures in batches of 9 and 4."""
    torch.manual_seed(0)
    x = PixelStore.of(torch.randint(0, 256, (13, 1, 32, 32), dtype=torch.uint8))
    pictures = Pictures(x, torch.arange(13) % 3, [str(number) for number in range(13)], ["a", "b", "c"])
    model = create_model(3, name="vgg", channels=1, size=32, mean=[0.5], std=[0.3], dropout=0.0, texture=13)
    model.__class__ = Still
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    fit_experts(model, x, pictures.y)
    weight, cpu = torch.tensor([0.5, 1.0, 2.0]), torch.device("cpu")
    criterion = torch.nn.CrossEntropyLoss(weight, reduction="sum", label_smoothing=0.1)
    optimisation = Optimisation(criterion, torch.optim.SGD(model.parameters(), lr=0.1))
    with Distributed() as distributed:
        steps = batches(torch.randperm(13), 9, distributed.world)
        wrapped = distributed.wrap(model, cpu)
        means = train_one_epoch(wrapped, pictures, steps, optimisation, distributed=distributed)
        means = distributed.mean(means, sum(map(len, map(distributed.shard, steps))), cpu)
    if path:
        torch.save((model.state_dict(), means), f"{path}{distributed.rank}.pt")
    return model.state_dict(), means


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path, together):
    """The gradient is the mean over the whole batch, although one process has more of it than the other."""
    alone, (loss, accuracy) = train_small()
    assert together(train_and_save, str(tmp_path / "weights")) == [0, 0], together.read(0, "err")
    torch.manual_seed(0)
    fresh = create_model(3, name="vgg", channels=1, size=32, mean=[0.5], std=[0.3], dropout=0.0, texture=13)
    for rank in range(2):
        weights, found = torch.load(tmp_path / f"weights{rank}.pt")
        assert found == pytest.approx([loss, accuracy], abs=1e-5)
        for name, value in fresh.named_parameters():
            assert torch.allclose(weights[name], alone[name], atol=1e-5), name
            assert not torch.allclose(value, alone[name], atol=1e-5), f"{name} did not learn"


def train_and_save(path):
    train_small(path)
    return 0


@pytest.mark.slow
def test_a_killed_run_goes_on_by_two_processes_and_not_by_one(data, tmp_path, together, capsys):
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert together(train.main, flags(data, whole, 6)) == [0, 0], together.read(0, "err")
    together.start(train.main, flags(data, out, 6))
    while not (out / "history.csv").exists() or len(rows_of(out / "history.csv")) < 3:
        assert all(process.is_alive() for process in together.processes)
        time.sleep(0.01)
    together.kill()
    assert together.processes[0].exitcode == -signal.SIGKILL
    assert train.main(["--resume", str(out)]) == 2
    assert "processes was 2 when this run began" in capsys.readouterr().err
    (out / "last.pt").write_bytes(b"damaged as well")
    assert together(train.main, ["--resume", str(out)]) == [0, 0], together.read(0, "err")
    assert together.read(0, "err").count("last.pt: is no checkpoint or damaged") == 1
    assert together.read(0, "out").count("resumed after epoch") == 1
    weights = [checkpoint.read(folder / "model.pt")["weights"] for folder in (whole, out)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert (whole / "metrics.json").read_text() == (out / "metrics.json").read_text()


@pytest.mark.slow
def test_fewer_dev_pictures_than_processes(data, tmp_path, together):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(data / "train")
    write_picture(tmp_path / "data" / "dev" / "jazz" / "1.png", spectrogram_of("jazz", 50))
    assert together(train.main, flags(tmp_path / "data", tmp_path / "run", 1)) == [0, 0], together.read(0, "err")
    assert rows_of(tmp_path / "run" / "history.csv")[0]["dev_accuracy"] in ("0.0", "1.0")


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--data", "nowhere"], "nowhere: there is no such folder"), (["--batch-size", "3"], "expected 4 or more")],
)
def test_mistakes_end_all_processes(data, tmp_path, together, more, message):
    codes = together(train.main, flags(data, tmp_path / "run", 1, *more))
    assert codes[0] == 2 and codes[1] not in (0, None)
    error = together.read(0, "err")
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_pictures_that_cannot_be_used_end_all_processes(data, tmp_path, together):
    """Only one of the processes reads them."""
    (tmp_path / "data" / "dev" / "jazz").mkdir(parents=True)
    (tmp_path / "data" / "train").symlink_to(data / "train")
    (tmp_path / "data" / "dev" / "jazz" / "1.png").write_bytes(b"no picture")
    assert together(train.main, flags(tmp_path / "data", tmp_path / "run", 1)) == [2, 2]
    assert "none of its 1 pictures can be used" in together.read(0, "err")
    assert not (tmp_path / "run").exists()


def once_in_turns(folder):
    """Call functions through `once`, in all processes, and note what each process got and called."""
    called, rank = [], os.environ["RANK"]

    def make():
        called.append(rank)
        return {"rank": rank}

    def refuse():
        raise ParameterError("size", 7, "32")

    with Distributed() as distributed:
        got = distributed.once(make)
        with Distributed() as inner:
            nested = [inner.rank, inner.world, inner.gather(rank)]
        try:
            distributed.once(refuse)
        except ParameterError as error:
            refused = error.as_flag()
        distributed.wait()
    (folder / f"once{rank}.json").write_text(json.dumps([got, called, refused, nested]))
    return 0


def test_what_the_first_process_makes_or_refuses_reaches_all(tmp_path, together):
    assert together(once_in_turns, tmp_path) == [0, 0], together.read(0, "err")
    one, other = (json.loads((tmp_path / f"once{rank}.json").read_text()) for rank in range(2))
    refused = "--size 7: expected 32"
    assert one == [{"rank": "0"}, ["0"], refused, [0, 2, ["0", "1"]]]
    assert other == [{"rank": "0"}, [], refused, [1, 2, ["0", "1"]]]


def test_a_single_process_is_the_same_object():
    with Distributed() as alone:
        assert (alone.rank, alone.world, alone.is_first) == (0, 1, True)
        assert alone.gather("mine") == ["mine"]
        assert alone.mean([1.0, 2.0], 3, torch.device("cpu")) == [1.0, 2.0]
        assert alone.shard([1, 2, 3]) == [1, 2, 3]
        assert alone.once(lambda: 5) == alone.once_per_host(lambda: 5) == 5
        model = torch.nn.Linear(1, 1)
        assert alone.wrap(model, torch.device("cpu")) is model
        assert alone.local_device(torch.device("cuda")) == torch.device("cuda")
        alone.broadcast_buffers(model)
        alone.wait()

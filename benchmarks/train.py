"""How fast `vision.train` trains, against the usual training loop.

    python -m benchmarks.train DATA [--parts speed accuracy epoch] [--size 224] [--rounds 3]

All in one run over the same train pictures, in turns, so that a busy machine slows all alike, and each in a
process of its own, so that none has another's settings:

speed     images a second of training a VGG (`vgg_dense`, one channel, Adam, batches of 32), three ways:
          (a) torchvision's ImageFolder decodes every PNG again in every epoch, greyscale, 2 workers, fp32; ReLU
          before pooling, as usual (the same outputs and gradients)
          (a') the same with three channels, as coloured pictures are mostly given to a network
          (b) ours: decoded once beforehand, the precision that pays on this machine, memory as `vision.train` keeps it
accuracy  seconds until dev accuracy first reaches --accuracy, everything included but the imports:
          (a) as above with dev scored after each epoch; (c) `vision.fit` with the standard recipe, its
          network, windows, schedule and files of a run folder; (d) the same without the texture SVM,
          which is fitted before the first epoch: the network alone. A seed a round.
epoch     what an epoch of the standard recipe is made of: input (windows cut, stretched and brought to
          floats), augmentation, the network alone on windows cut beforehand, and the rest
"""

import argparse
import contextlib
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy, one_hot

from benchmarks.timing import in_turns, machine, spread
from vision.data.dataset import list_pictures, read_folder
from vision.data.pixel_store import to_pixels
from vision.data.preprocess import Preprocessor, learn_input_spec
from vision.inference.device import autocast, keep_freed_memory, pick_device, pick_precision, use_threads
from vision.models import checkpoint
from vision.models.classifier import create_model
from vision.models.fitted import fit_experts
from vision.splits.leaks import train_splits
from vision.training import run
from vision.training.augment import make_augmentations, window_options
from vision.training.config import TrainConfig
from vision.training.loop import Optimisation, batches, train_one_epoch

BATCH, WORKERS = 32, 2


class Usual:
    """The usual loop: files to batches by torchvision, anew in every epoch.

    Parameters
    ----------
    folders : dict of str to Path
        Train and dev.
    channels : int
        1 for greyscale, 3 for colours.
    size : int
        Height and width of the network's input.
    lr : float
        Of Adam.
    device : torch.device
    """

    def __init__(self, folders, channels, *, size, lr, device):
        from torch.utils.data import DataLoader
        from torchvision import transforms
        from torchvision.datasets import ImageFolder

        grey = [transforms.Grayscale()] if channels == 1 else []
        transform = transforms.Compose([*grey, transforms.Resize((size, size)), transforms.ToTensor()])
        sets = {split: ImageFolder(folder, transform) for split, folder in folders.items()}
        self.n, self.device = len(sets["train"]), device
        # Workers that stay spare it a start in every epoch.
        how = {"batch_size": BATCH, "num_workers": WORKERS, "persistent_workers": True}
        self.loaders = {split: DataLoader(folder, shuffle=split == "train", **how) for split, folder in sets.items()}
        self.model = relu_first(vgg(len(sets["train"].classes), channels, size)).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr)

    def epoch(self):
        """Train on every picture once."""
        self.model.train()
        for x, y in self.loaders["train"]:
            self.optimizer.zero_grad()
            loss = cross_entropy(self.model(x.to(self.device)), y.to(self.device))
            loss.backward()
            self.optimizer.step()
            loss.item()  # as everybody adds it up

    @torch.no_grad()
    def accuracy(self):
        """Share of the dev pictures that are right."""
        self.model.eval()
        right = n = 0
        for x, y in self.loaders["dev"]:
            right += (self.model(x.to(self.device)).argmax(dim=1).cpu() == y).sum().item()
            n += len(y)
        return right / n


def vgg(n_classes, channels, size):
    """The network of the classic recipe."""
    mean, std = [0.5] * channels, [0.25] * channels
    how = {"name": "vgg_dense", "dropout": 0.5, "texture": 0}
    return create_model(n_classes, channels=channels, size=size, mean=mean, std=std, **how)


def relu_first(model):
    """The network with ReLU before each pooling."""
    layers = list(model.net.features)
    for number, layer in enumerate(layers[:-1]):
        if isinstance(layer, torch.nn.MaxPool2d):
            layers[number : number + 2] = layers[number + 1], layer
    model.net.features = torch.nn.Sequential(*layers)
    return model


class Ours:
    """Training as `vision.train` does, without its augmentation: arguments as for `Usual`.

    Attributes
    ----------
    decoded : float
        Seconds that it took to decode the train pictures.
    """

    def __init__(self, folders, channels, *, size, lr, device):
        keep_freed_memory()
        start = time.perf_counter()
        spec = learn_input_spec(list_pictures(folders["train"]), size=size, channels=channels)
        self.train = read_folder(folders["train"], Preprocessor(spec))
        self.decoded = time.perf_counter() - start
        model = vgg(len(self.train.classes), channels, size)
        self.model = model.to(device, memory_format=torch.channels_last)
        criterion, optimizer = torch.nn.CrossEntropyLoss(reduction="sum"), torch.optim.Adam(self.model.parameters(), lr)
        self.optimisation = Optimisation(criterion, optimizer, precision=pick_precision("auto", device))

    def epoch(self):
        """Train on every picture once."""
        steps = batches(torch.randperm(len(self.train.y)), BATCH)
        train_one_epoch(self.model, self.train, steps, self.optimisation)


def process(threads):
    """A process of its own, that computes what is submitted to it."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=spawn, initializer=use_threads, initargs=(threads,))


_there = []


def _begin(kind, args, how):
    _there.append(kind(*args, **how))
    return getattr(_there[0], "decoded", None)


def _epoch():
    _there[0].epoch()


def speed(args, folders, device):
    """Images a second, the usual loop against ours, one network."""
    n = len(list_pictures(folders["train"]))
    train, how = {"train": folders["train"]}, {"size": args.size, "lr": args.lr, "device": device}
    ours = f"(b) ours: decoded once, {pick_precision('auto', device)}"
    kinds = {
        "(a) usual: decoding each epoch, grey, fp32": (Usual, (train, 1)),
        "(a') usual, three channels": (Usual, (train, 3)),
        ours: (Ours, (train, 1)),
    }
    with contextlib.ExitStack() as stack:
        pools = {name: stack.enter_context(process(args.threads)) for name in kinds}
        decoded = {name: pools[name].submit(_begin, *kind, how).result() for name, kind in kinds.items()}[ours]
        calls = {name: lambda pool=pool: pool.submit(_epoch).result() for name, pool in pools.items()}
        times = in_turns(calls, args.rounds)
    print(f"\nTraining vgg_dense at {args.size}x{args.size} on {n} pictures, images a second")
    for name, seconds in times.items():
        print(f"{name:44} {spread([n / value for value in seconds])}")
    a, coloured, b = (statistics.median(seconds) for seconds in times.values())
    print(f"(b) / (a): {a / b:.2f}    (b) / (a'): {coloured / b:.2f}")
    print(f"(b)'s pictures were decoded beforehand in {decoded:.1f} s, {decoded / a:.2f} epochs of (a)")


class _Enough(Exception):
    """Dev accuracy is reached, or it took too long."""


def usual_until(args, folders, device, seed):
    """Train by the usual loop; returns seconds, epochs and the best dev accuracy."""
    start = time.perf_counter()
    torch.manual_seed(seed)
    usual = Usual(folders, 1, size=args.size, lr=args.lr, device=device)
    accuracies = []
    while len(accuracies) < args.epochs and time.perf_counter() - start < args.seconds:
        usual.epoch()
        accuracies.append(usual.accuracy())
        if accuracies[-1] >= args.accuracy:
            break
    return time.perf_counter() - start, len(accuracies), max(accuracies)


def ours_until(args, seed, texture=True):
    """As `usual_until`, by `vision.fit` with or without the texture SVM."""
    keep_freed_memory()
    start = time.perf_counter()
    rows = []

    def stop_when_reached(row):
        rows.append(row)
        seconds = time.perf_counter() - start
        if row["dev_accuracy"] >= args.accuracy or len(rows) >= args.epochs or seconds > args.seconds:
            raise _Enough

    config = TrainConfig.from_recipe(
        "standard",
        data=str(args.data),
        seed=seed,
        device=args.device,
        experts=TrainConfig.experts if texture else "network",
    )
    with tempfile.TemporaryDirectory() as out, contextlib.suppress(_Enough):
        run.fit(config, out, on_epoch=stop_when_reached)
    return time.perf_counter() - start, len(rows), max(row["dev_accuracy"] for row in rows)


def until_accuracy(args, folders, device):
    """Seconds to a dev accuracy, the usual loop against the standard recipe."""
    print(f"\nSeconds to dev accuracy {args.accuracy}, decoding and scoring included, a seed a round")
    runs = {"(a) usual: vgg_dense, grey, fp32": [], "(c) ours: the standard recipe": [], "(d) ours: --no-texture": []}
    for seed in range(args.rounds):
        todo = (usual_until, args, folders, device, seed), (ours_until, args, seed), (ours_until, args, seed, False)
        for name, call in zip(runs, todo, strict=True):
            with process(args.threads) as pool:
                runs[name].append(pool.submit(*call).result())
    for name, results in runs.items():
        seconds, epochs, accuracies = zip(*results, strict=True)
        short = sum(value < args.accuracy for value in accuracies)
        missed = f"; NOT REACHED in {short} of {len(results)}" if short else ""
        print(f"{name:36} {spread(seconds)} s, {spread(epochs, 0)} epochs, reached {spread(accuracies, 3)}{missed}")
    a, c, d = (statistics.median(seconds for seconds, _, _ in results) for results in runs.values())
    print(f"(a) / (c): {a / c:.2f}    (a) / (d): {a / d:.2f}")


def epoch_shares(args, device):
    """Where an epoch of the standard recipe goes."""
    keep_freed_memory()
    config = TrainConfig.from_recipe("standard", data=str(args.data))
    precision = pick_precision("auto", device)
    sets, spec = run.read_data(config)
    train, n_classes = sets["train"], len(sets["train"].classes)
    model = checkpoint.build(run.make_model_spec(config, train, spec, {}))
    model = model.to(device, memory_format=torch.channels_last)
    fit_experts(model, train.x, train.y)
    optimizer = torch.optim.AdamW(model.parameters(), config.lr / 10)
    criterion = torch.nn.CrossEntropyLoss(reduction="sum", label_smoothing=config.label_smoothing)
    optimisation, augmentations = Optimisation(criterion, optimizer, precision=precision), make_augmentations(config)
    order = torch.randperm(len(train.y))
    todo = batches(order, BATCH)
    windows = [to_pixels(train.x.random_windows(part), device) for part in todo]
    targets = [one_hot(train.y[part], n_classes).float().to(device) for part in todo]
    options = window_options(augmentations)

    def finish():
        if device.type == "cuda":
            torch.cuda.synchronize()

    def whole():
        train_one_epoch(model, train, todo, optimisation, augmentations)

    def read():
        for part in todo:
            to_pixels(train.x.random_windows(part, **options), device)
        finish()

    def change():
        for pixels, target in zip(windows, targets, strict=True):
            for augmentation in augmentations:
                pixels, target = augmentation.pixels(pixels, target)
            pixels.contiguous(memory_format=torch.channels_last)
        finish()

    def network():
        model.train()
        for pixels, target in zip(windows, targets, strict=True):
            with autocast(device, precision):
                logits = model(pixels)
            optimisation.step(criterion(logits.float(), target) / len(pixels))
        finish()

    calls = {"whole epoch": whole, "input": read, "augmentation": change, "network alone": network}
    times = in_turns(calls, args.rounds)
    rest = zip(*times.values(), strict=True)
    times["the rest"] = [whole - sum(parts) for whole, *parts in rest]
    middle = statistics.median(times["whole epoch"])
    print(f"\nAn epoch of the standard recipe, {len(train.y)} tracks, {len(todo)} steps, {precision}: ms, share")
    for name, seconds in times.items():
        shown = spread([value * 1000 for value in seconds])
        print(f"{name:14} {shown:28} {statistics.median(seconds) / middle:7.1%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train and dev in it")
    parts = ("speed", "accuracy", "epoch")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts, help="(default: all)")
    parser.add_argument("--size", type=int, default=224, help="side of the usual network's input (default: 224)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accuracy", type=float, default=0.5, help="dev accuracy to reach (default: 0.5)")
    parser.add_argument("--epochs", type=int, default=30, help="give up after so many (default: 30)")
    parser.add_argument("--seconds", type=float, default=1800, help="or after so many seconds (default: 1800)")
    parser.add_argument("--lr", type=float, default=5e-4, help="of the usual loop (default: the classic recipe's)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="(default: torch's choice)")
    args = parser.parse_args()
    use_threads(args.threads)
    device = pick_device(args.device)
    folders = {split: folder for split, folder in train_splits(args.data).items() if split != "test"}
    print(machine(device, pick_precision("auto", device)))
    if "speed" in args.parts:
        speed(args, folders, device)
    if "accuracy" in args.parts:
        until_accuracy(args, folders, device)
    if "epoch" in args.parts:
        epoch_shares(args, device)


if __name__ == "__main__":
    main()

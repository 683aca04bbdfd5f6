"""A model learns: epoch after epoch, each of them stored, so that an interrupted run can go on."""

import csv
import json
import math
import os
import time

import torch

from render import atomic
from render.cli import InputError, progress
from vision import checkpoint, engine, metrics, parallel, second

HISTORY = ["epoch", "train_loss", "train_accuracy", "dev_loss", "dev_accuracy", "lr", "seconds"]
#: Share of a run in which the rate of ``onecycle`` rises, and what it begins with, as a share of its peak.
RISE, START = 0.2, 0.04


def learn(config, recipe, train, dev, out, device, *, state=None, say=print, rank=0, world=1):
    """Train the model of a recipe; ``model.pt`` in `out` gets its weights.

    Parameters
    ----------
    config : Config
        What to do.
    recipe : checkpoint.Recipe
        What to build.
    train : Pictures
    dev : Pictures or None
        Chooses the epoch that is kept; without one it is the last.
    out : Path
        Run folder.
    device : torch.device
    state : dict, optional
        What ``last.pt`` holds of an interrupted run.
    say : callable
        Takes a line of text for the user.
    rank, world : int
        As `parallel.group` gives them.

    Returns
    -------
    history : list of dict
        A row an epoch, as in ``history.csv``.
    model : nn.Module
        With the weights of the last epoch.
    """
    precision, n_classes = recipe.about["precision"], len(recipe.classes)
    torch.manual_seed(config.seed)
    try:
        model = checkpoint.build(recipe, weights=config.weights or None)
    except ValueError as error:
        raise InputError(error) from None
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = _make_optimizer(config, model)
    weight = None
    if config.class_weights:
        counts = train.y.bincount(minlength=n_classes).float()
        weight = (len(train.y) / (n_classes * counts)).to(device)
    criterion = torch.nn.CrossEntropyLoss(weight, reduction="sum", label_smoothing=config.label_smoothing)
    history = []
    if state:
        model.load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        history = state["history"]
        say(f"resumed after epoch {len(history)} of {config.epochs}")
    else:
        second.fit(model, train.x, train.y, weight)
    wrapped = parallel.wrap(model, device, world)
    mine = range(rank, len(dev.y), world) if dev else ()
    opinions = second.opinions(model, dev.x, mine) if dev else None
    for epoch in range(len(history) + 1, config.epochs + 1):
        if config.patience and dev and history and len(history) - best(history) >= config.patience:
            say(f"stopped early: no better dev accuracy in {config.patience} epochs")
            break
        start = time.perf_counter()
        # Seeded anew each epoch, so that resuming needs no generator states. The order is the same in
        # every process, what is drawn after it is not.
        engine.seed_everything(config.seed, epoch)
        order = torch.randperm(len(train.y))
        engine.seed_everything(config.seed, epoch, rank)

        def bar(todo, epoch=epoch):
            return todo if rank else progress(todo, total=len(todo), desc=f"epoch {epoch}", unit="step")

        def set_lr(share, epoch=epoch):
            for entry in optimizer.param_groups:
                entry["lr"] = learning_rate(config, (epoch - 1 + share) / config.epochs)

        found = engine.train_one_epoch(
            wrapped, train.x, train.y, order=order, batch_size=config.batch_size, criterion=criterion,
            optimizer=optimizer, n_classes=n_classes, precision=precision, stretch=config.stretch, shift=config.shift,
            colour=config.colour, mixup=config.mixup, masks=config.masks, set_lr=set_lr, step=bar,
            rank=rank, world=world,
        )  # fmt: skip
        loss, accuracy = parallel.mean(found, len(order[rank::world]), world, device)
        row = {"epoch": epoch, "train_loss": loss, "train_accuracy": accuracy}
        if dev:
            parallel.share_buffers(model, world)
            found = engine.predict_proba(model, dev.x, mine, precision=precision, second=opinions)
            parts = parallel.gather((list(mine), found), world)
            probabilities = torch.empty(len(dev.y), n_classes)
            for numbers, part in parts:
                if numbers:  # a process may have had nothing to do
                    probabilities[numbers] = part
            scores = metrics.score(dev.y, probabilities)
            row |= {"dev_loss": scores["loss"], "dev_accuracy": scores["accuracy"]}
        history.append(row | {"lr": optimizer.param_groups[0]["lr"], "seconds": time.perf_counter() - start})
        if rank == 0:
            if not dev or best(history) == epoch:
                recipe.about["kept_epoch"] = epoch
                checkpoint.save(out / "model.pt", model, recipe)
            write_csv(out / "history.csv", [name for name in HISTORY if name in history[0]], history)
            write_state(out, model, optimizer, history, recipe.about)
        told = f"  dev loss {row['dev_loss']:.3f} acc {row['dev_accuracy']:.3f}" if dev else ""
        say(
            f"epoch {epoch:3}/{config.epochs}  train loss {loss:.3f} acc {accuracy:.3f}{told}  "
            f"{history[-1]['seconds']:.1f} s"
        )
    return history, model


def _make_optimizer(config, model):
    # Batch norm's scales and all biases are not decayed: that only changes the effective learning rate.
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)
    return {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.optimizer](groups, lr=config.lr)


def learning_rate(config, share):
    """The learning rate after a share of the run, in [0, 1).

    ``onecycle`` is after Smith and Topin, "Super-Convergence" (2018); half a cosine after Loshchilov
    and Hutter, "SGDR" (2017), without restarts.
    """
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "onecycle":
        if share < RISE:
            return config.lr * (START + (1 - START) * 0.5 * (1 - math.cos(math.pi * share / RISE)))
        share = (share - RISE) / (1 - RISE)
    return config.lr * 0.5 * (1 + math.cos(math.pi * share))


def best(history):
    """The epoch of highest dev accuracy; of several, the one of least dev loss; the last without dev."""
    if "dev_accuracy" not in history[-1]:
        return history[-1]["epoch"]
    return max(history, key=lambda row: (row["dev_accuracy"], -row["dev_loss"]))["epoch"]


def write_state(out, model, optimizer, history, about):
    """Write ``last.pt``, keeping the one before it: a disk may damage what was written whole."""
    if (out / "last.pt").exists():
        os.replace(out / "last.pt", out / "before.pt")
    state = {"weights": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
    checkpoint.write(out / "last.pt", {"format": checkpoint.FORMAT, "about": json.dumps(about), **state})


def threads_before(out):
    """The thread count that an interrupted run computed with: its last bits depend on it."""
    try:
        return int(json.loads((out / "config.json").read_text("utf-8"))["threads"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_state(out, about, say):
    """What the last finished epoch left; None where the run was cut off in its first."""
    if (out / "metrics.json").exists():
        raise InputError(f"{out}: is complete already; train into another folder with --out")
    there = [out / name for name in ("last.pt", "before.pt") if (out / name).exists()]
    if not there:
        return None
    try:
        state = checkpoint.read(there[0])
    except InputError as error:
        if len(there) == 1:
            raise
        say(f"failed: {error}; going on from the epoch before it")
        state = checkpoint.read(there[1])
        there[0].unlink()  # or the next epoch's state would put it in the place of the good one
    before = json.loads(state["about"])
    for name in ("pictures", "config", "device", "precision", "threads", "processes"):
        if before[name] != about[name]:
            told = "the pictures were others" if name == "pictures" else f"{name} was {before[name]}"
            raise InputError(f"{out}: {told} when this run began; train anew into another folder with --out")
    return state


def write_csv(path, names, rows):
    """Write a list of dicts as CSV, whole or not at all."""
    with atomic.replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)

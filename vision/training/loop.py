"""A model learns: epochs, schedule of the learning rate, and the epoch that is kept."""

import math
import time

import torch

from render.atomic import write_csv
from render.cli import progress
from render.errors import MelvisionError
from vision.data.pixel_store import to_pixels
from vision.inference.device import autocast
from vision.inference.windows import predict_proba
from vision.models import checkpoint
from vision.models.svm import fit_texture, texture_probabilities
from vision.reports import metrics
from vision.training import augment
from vision.training.distributed import gather, mean_over_ranks, share_buffers, wrap
from vision.training.state import write_state

HISTORY = ["epoch", "train_loss", "train_accuracy", "dev_loss", "dev_accuracy", "lr", "seconds"]

#: Share of a run in which the rate of ``onecycle`` rises, and what it begins with, as a share of its peak.
RISE, START = 0.2, 0.04


def learn(config, spec, train, dev, out, device, *, state=None, say=print, rank=0, world=1):
    """Train the model of a spec; ``model.pt`` in `out` gets its weights.

    Parameters
    ----------
    config : Config
        What to do.
    spec : ModelSpec
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
    precision, n_classes = spec.about["precision"], len(spec.classes)
    torch.manual_seed(config.seed)
    try:
        model = checkpoint.build(spec, weights=config.weights or None)
    except ValueError as error:
        raise MelvisionError(error) from None
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
        fit_texture(model, train.x, train.y, weight)
    wrapped = wrap(model, device, world)
    mine = range(rank, len(dev.y), world) if dev else ()
    opinions = texture_probabilities(model, dev.x, mine) if dev else None
    for epoch in range(len(history) + 1, config.epochs + 1):
        if config.patience and dev and history and len(history) - best(history) >= config.patience:
            say(f"stopped early: no better dev accuracy in {config.patience} epochs")
            break
        start = time.perf_counter()
        # Seeded anew each epoch, so that resuming needs no generator states. The order is the same in
        # every process, what is drawn after it is not.
        seed_everything(config.seed, epoch)
        order = torch.randperm(len(train.y))
        seed_everything(config.seed, epoch, rank)

        def bar(todo, epoch=epoch):
            return todo if rank else progress(todo, total=len(todo), desc=f"epoch {epoch}", unit="step")

        def set_lr(share, epoch=epoch):
            for entry in optimizer.param_groups:
                entry["lr"] = learning_rate(config, (epoch - 1 + share) / config.epochs)

        found = train_one_epoch(
            wrapped, train.x, train.y, order=order, batch_size=config.batch_size, criterion=criterion,
            optimizer=optimizer, n_classes=n_classes, precision=precision, stretch=config.stretch, shift=config.shift,
            colour=config.colour, mixup=config.mixup, masks=config.masks, set_lr=set_lr, step=bar,
            rank=rank, world=world,
        )  # fmt: skip
        loss, accuracy = mean_over_ranks(found, len(order[rank::world]), world, device)
        row = {"epoch": epoch, "train_loss": loss, "train_accuracy": accuracy}
        if dev:
            share_buffers(model, world)
            found = predict_proba(model, dev.x, mine, precision=precision, second=opinions)
            parts = gather((list(mine), found), world)
            probabilities = torch.empty(len(dev.y), n_classes)
            for numbers, part in parts:
                if numbers:  # a process may have had nothing to do
                    probabilities[numbers] = part
            scores = metrics.score(dev.y, probabilities)
            row |= {"dev_loss": scores["loss"], "dev_accuracy": scores["accuracy"]}
        history.append(row | {"lr": optimizer.param_groups[0]["lr"], "seconds": time.perf_counter() - start})
        if rank == 0:
            if not dev or best(history) == epoch:
                spec.about["kept_epoch"] = epoch
                checkpoint.save(out / "model.pt", model, spec)
            columns = [name for name in HISTORY if name in history[0]]
            write_csv(out / "history.csv", columns, ([row[name] for name in columns] for row in history))
            write_state(out, model, optimizer, history, spec.about)
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


def batches(order, batch_size, world=1):
    """Cut an order into batches, of which none is too small to be shared out.

    Parameters
    ----------
    order : torch.Tensor, shape (n,), int64
        The order to take pictures in.
    batch_size : int
        Pictures a step.
    world : int
        Processes that share each batch.

    Returns
    -------
    batches : list of torch.Tensor
        Batch norm needs two a process: a smaller last batch joins the one before.
    """
    cut = list(order.split(batch_size))
    if len(cut) > 1 and len(cut[-1]) < 2 * world:
        cut[-2:] = [torch.cat(cut[-2:])]
    return cut


def train_one_epoch(
    model, x, y, *, order, batch_size, criterion, optimizer, n_classes,
    precision="fp32", stretch=0.0, shift=0.0, colour=0.0, mixup=0.0, masks=0, set_lr=None, step=iter, rank=0, world=1,
):  # fmt: skip
    """Train on a random window of every picture once.

    Parameters
    ----------
    model : nn.Module
        On its device, in which memory format one likes. Its logits are (B, n_classes).
    x : Store
        Pictures.
    y : torch.Tensor, shape (n,), int64
        Labels.
    order : torch.Tensor, shape (n,), int64
        The order to take them in; the same in every process.
    batch_size : int
        Pictures a step, over all processes.
    criterion : callable
        Logits (B, n_classes) and targets (B, n_classes) to a summed loss.
    optimizer : torch.optim.Optimizer
        Of the model's parameters.
    n_classes : int
        Genres.
    precision : str
        ``"fp32"`` or ``"bf16"``.
    stretch, shift : float
        As in `Store.random_windows`.
    colour, mixup : float
    masks : int
        As in `augment`.
    set_lr : callable, optional
        Takes the share of the epoch that is done, before each step.
    step : callable
        Wraps the list of batches, for a progress bar.
    rank, world : int
        Which of how many processes this is; each takes its share of every batch.

    Returns
    -------
    loss, accuracy : float
        Means over this process's share of the epoch, as the network was while it learned (dropout
        on, pictures blended, no second opinion).
    """
    model.train()
    device = next(model.parameters()).device
    todo = batches(order, batch_size, world)
    total = torch.zeros(3, device=device)
    for number, chosen in enumerate(step(todo)):
        if set_lr:
            set_lr(number / len(todo))
        mine = chosen[rank::world]
        labels = y[mine].to(device)
        target = torch.nn.functional.one_hot(labels, n_classes).float()
        pixels = augment.random_eq(to_pixels(x.random_windows(mine, stretch, shift), device), colour)
        pixels, target = augment.mixup(pixels, target, mixup)
        pixels = augment.mask(pixels, masks).contiguous(memory_format=torch.channels_last)
        with autocast(device, precision):
            logits = model(pixels)
        # The mean over the whole batch: processes average their gradients afterwards.
        loss = criterion(logits.float(), target) * world / len(chosen)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        correct = (logits.detach().argmax(dim=1) == labels).sum()
        total += torch.stack([loss.detach() * len(chosen) / world, correct.float(), torch.ones_like(loss) * len(mine)])
    loss, correct, n = total.tolist()
    return loss / n, correct / n


def seed_everything(seed, epoch, rank=0):
    """Seed torch for one epoch, so that a resumed run draws what an uninterrupted one would have."""
    torch.manual_seed((seed * 100003 + epoch + rank * 7919 * 100003) % (1 << 63))

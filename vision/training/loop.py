"""The training loop: steps, epochs, the schedule of the learning rate, and the epoch that is kept."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from render.atomic import write_csv
from render.cli import progress as progress_bar
from vision.data.dataset import Pictures
from vision.data.pixel_store import to_pixels
from vision.inference.device import autocast
from vision.inference.windows import predict_proba
from vision.models import checkpoint, run_files
from vision.models.classifier import GenreClassifier
from vision.models.fitted import fit_experts, texture_statistics
from vision.models.initial import last_layer, take_weights
from vision.models.spec import ModelSpec
from vision.models.svm import out_of_fold
from vision.reports import metrics
from vision.training.augment import Augmentation, make_augmentations, window_options
from vision.training.config import TrainConfig
from vision.training.distributed import Distributed
from vision.training.state import write_state
from vision.training.tensorboard import SHOWN, Board

HISTORY = [
    "epoch", "train_loss", "train_accuracy", "dev_loss", "dev_accuracy", "network_train_loss",
    "network_train_accuracy", "network_dev_loss", "network_dev_accuracy", "texture_dev_loss", "texture_dev_accuracy",
    "musicnn_dev_loss", "musicnn_dev_accuracy", "lr", "seconds",
]  # fmt: skip

#: Epochs that are scored, about: each of a short run, and every so many of a long one.
SCORED_EPOCHS = 40

#: Train pictures that the network's curve is measured on, at most.
TRAIN_SAMPLE = 200

#: Share of a run, at its end, of which dev chooses an epoch, where the learning rate falls.
LATE = 0.1

#: Fraction of a run in which the rate of ``onecycle`` rises, and the fraction of its peak that it begins with.
RISE, START = 0.2, 0.04


@dataclass
class RunContext:
    """What a run needs besides settings and pictures.

    Attributes
    ----------
    out : Path
        The run folder.
    device : torch.device
    distributed : Distributed
        The processes that train together.
    progress : callable, optional
        Takes a line of text for the user; by default it goes to `logging`, and no bar is drawn.
    on_epoch : callable, optional
        Called with each new row of ``history.csv``, in the first process.
    """

    out: Path
    device: torch.device
    distributed: Distributed = field(default_factory=Distributed)
    progress: Callable[[str], None] | None = None
    on_epoch: Callable[[dict[str, Any]], None] | None = None

    def say(self, line: str) -> None:
        """Give the user a line of text, once for all processes."""
        if self.distributed.is_first:
            (self.progress or logging.getLogger(__name__).info)(line)

    def bar(self, steps: Sequence, epoch: int) -> Iterable:
        """Go through the steps of an epoch, with a progress bar where progress is shown."""
        if self.progress is None or not self.distributed.is_first:
            return steps
        return progress_bar(steps, total=len(steps), desc=f"epoch {epoch}", unit="step")


@dataclass
class Optimisation:
    """How a model follows its gradients.

    Attributes
    ----------
    criterion : callable
        Logits (B, n_classes) and targets (B, n_classes) to a summed loss.
    optimizer : torch.optim.Optimizer
        Of the model's parameters.
    scheduler : torch.optim.lr_scheduler.LRScheduler, optional
        Stepped after each batch; by default the learning rate stays.
    precision : str
        ``"fp32"`` or ``"bf16"``.
    lr : float
        The learning rate of the last step.
    """

    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    precision: str = "fp32"
    lr: float = 0.0

    def step(self, loss: torch.Tensor) -> None:
        """Take one step against the gradient of a loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.lr = self.optimizer.param_groups[0]["lr"]
        if self.scheduler:
            self.scheduler.step()


def learn(
    config: TrainConfig,
    spec: ModelSpec,
    train: Pictures,
    dev: Pictures | None,
    context: RunContext,
    state: dict[str, Any] | None = None,
    groups: Sequence[int] | None = None,
) -> tuple[list[dict[str, Any]], nn.Module]:
    """Train the model that a specification describes; ``model.pt`` in the run folder gets its weights.

    Parameters
    ----------
    config : TrainConfig
        What to do.
    spec : ModelSpec
        What to build.
    train : Pictures
    dev : Pictures or None
        Chooses the epoch that is kept; without one it is the last.
    context : RunContext
        Where, and on what hardware.
    state : dict, optional
        What ``last.pt`` holds of an interrupted run.
    groups : sequence of int, optional
        The group of each train picture, for soft labels; by default each is one of its own.

    Returns
    -------
    history : list of dict
        A row an epoch, as in ``history.csv``.
    model : nn.Module
        With the weights of the last epoch.

    Raises
    ------
    MelvisionError
        When there is no such model, or it does not take such pictures.
    """
    distributed, device = context.distributed, context.device
    torch.manual_seed(config.seed)
    model = (
        checkpoint.build(spec, config.weights or None, pretrained=state is None)
        .to(device)
        .to(memory_format=torch.channels_last)
    )
    class_weight = _class_weight(train).to(device) if config.class_weights else None
    history: list[dict[str, Any]] = []
    if model.network_name is None:
        return _learn_without_epochs(spec, train, dev, context, model, class_weight)
    optimizer = _make_optimizer(config, model, len(spec.classes))
    statistics = texture_statistics(model, train.x) if config.soft_labels or not state else None
    if state:
        model.load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        history = state["history"]
        context.say(f"resumed after epoch {len(history)} of {config.epochs}")
    else:
        if config.init:
            context.say(take_weights(model, spec, config.init))
        fit_experts(model, train.x, train.y, class_weight, statistics)
    n_steps = len(batches(torch.arange(len(train.y)), config.batch_size, distributed.world))
    optimisation = Optimisation(
        nn.CrossEntropyLoss(class_weight, reduction="sum", label_smoothing=config.label_smoothing),
        optimizer,
        _make_scheduler(config, optimizer, n_steps, epochs_done=len(history)),
        spec.about["precision"],
    )
    augmentations, wrapped = make_augmentations(config), distributed.wrap(model, device)
    scorer = Scorer(train, dev, model, distributed, optimisation.precision) if dev else None
    targets = _targets(config, train, groups, statistics)
    every = max(1, config.epochs // SCORED_EPOCHS)
    watchers = _watchers(config, train, context, targets, augmentations, len(history))
    for epoch in range(len(history) + 1, config.epochs + 1):
        if config.patience and dev and history and len(history) - best(history, config) >= config.patience:
            context.say(f"stopped early: no better dev accuracy in {config.patience} epochs")
            break
        start = time.perf_counter()
        # Seeded anew each epoch, so that resuming needs no generator states. The order is the same in
        # every process, what is drawn after it is not.
        seed_everything(config.seed, epoch)
        order = torch.randperm(len(train.y))
        seed_everything(config.seed, epoch, distributed.rank)
        steps = context.bar(batches(order, config.batch_size, distributed.world), epoch)
        means = train_one_epoch(wrapped, train, steps, optimisation, augmentations, distributed, targets)
        loss, accuracy = distributed.mean(means, len(distributed.shard(order)), device)
        row = {"epoch": epoch, "train_loss": loss, "train_accuracy": accuracy}
        if scorer and (epoch % every == 0 or epoch in (1, config.epochs)):
            row |= scorer.score()
        history.append(row | {"lr": optimisation.lr, "seconds": time.perf_counter() - start})
        if distributed.is_first:
            _write_epoch(context.out, config, model, optimizer, history, spec)
        context.say(_epoch_line(history[-1], config.epochs))
        for watch in watchers:
            watch(history[-1])
    return history, model


def _watchers(
    config: TrainConfig,
    train: Pictures,
    context: RunContext,
    targets: torch.Tensor,
    augmentations: Sequence[Augmentation],
    epochs_done: int,
) -> list[Callable[[dict[str, Any]], None]]:
    """What is called with each new row of ``history.csv``, in the first process."""
    if not context.distributed.is_first:
        return []
    watchers = [context.on_epoch] if context.on_epoch else []
    if config.log == "tensorboard":
        board = Board(context.out, epochs_done)
        if not epochs_done:  # every epoch is seeded anew: what is drawn here changes nothing
            shown = torch.linspace(0, len(train.y) - 1, min(SHOWN, len(train.y))).long()
            board.inputs(make_batch(train, shown, targets[shown], augmentations, context.device)[0])
        watchers.append(board.epoch)
    return watchers


def _learn_without_epochs(
    spec: ModelSpec,
    train: Pictures,
    dev: Pictures | None,
    context: RunContext,
    model: GenreClassifier,
    class_weight: torch.Tensor | None,
) -> tuple[list[dict[str, Any]], nn.Module]:
    """Fit the expert on texture alone: there is nothing to train by epochs, and the history is one row, epoch 0."""
    start = time.perf_counter()
    fit_experts(model, train.x, train.y, class_weight)
    row: dict[str, Any] = {"epoch": 0}
    if dev:
        scores = metrics.score(dev.y, predict_proba(model, dev.x), dev.tracks)
        row |= {"dev_loss": scores["loss"], "dev_accuracy": scores["accuracy"]}
    row["seconds"] = time.perf_counter() - start
    if context.distributed.is_first:
        spec.about["kept_epoch"] = 0
        checkpoint.save(context.out / run_files.MODEL, model, spec)
        columns = [name for name in HISTORY if name in row]
        write_csv(context.out / run_files.HISTORY, columns, [[row[name] for name in columns]])
    return [row], model


def _targets(
    config: TrainConfig, train: Pictures, groups: Sequence[int] | None, statistics: torch.Tensor | None
) -> torch.Tensor:
    """What the network is to answer for each train picture, (n, n_classes).

    With soft labels, a part of it is what texture SVMs say of the picture that have not seen its group. They know from
    statistics that nobody has to learn which genres a track is like: after Hinton, Vinyals and Dean, "Distilling the
    Knowledge in a Neural Network" (2015).
    """
    n_classes = len(train.classes)
    hard = nn.functional.one_hot(train.y, n_classes).float()
    if not config.soft_labels or statistics is None:
        return hard
    own = range(len(train.y)) if groups is None else groups
    soft = out_of_fold(train.x, train.y, own, statistics, n_classes=n_classes, seed=config.seed)
    return hard if soft is None else (1 - config.soft_labels) * hard + config.soft_labels * soft


def _class_weight(train: Pictures) -> torch.Tensor:
    """Weights of the genres, (n_classes,): the inverse of their share, times their number."""
    n_classes = len(train.classes)
    counts = train.y.bincount(minlength=n_classes).float()
    return len(train.y) / (n_classes * counts)


def _write_epoch(
    out: Path,
    config: TrainConfig,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, Any]],
    spec: ModelSpec,
) -> None:
    epoch = history[-1]["epoch"]
    if best(history, config) == epoch:
        spec.about["kept_epoch"] = epoch
        checkpoint.save(out / run_files.MODEL, model, spec)
    columns = [name for name in HISTORY if name in history[0]]
    # Blank where an epoch was not scored.
    write_csv(out / run_files.HISTORY, columns, ([row.get(name, "") for name in columns] for row in history))
    write_state(out, model, optimizer, history, spec.about)


def _epoch_line(row: dict[str, Any], epochs: int) -> str:
    dev = f"  dev loss {row['dev_loss']:.3f} acc {row['dev_accuracy']:.3f}" if "dev_loss" in row else ""
    train = f"train loss {row['train_loss']:.3f} acc {row['train_accuracy']:.3f}"
    return f"epoch {row['epoch']:3}/{epochs}  {train}{dev}  {row['seconds']:.1f} s"


class Scorer:
    """Scores a model after an epoch; each process takes its share of the pictures.

    Parameters
    ----------
    train : Pictures
        A sample of them shows how well the network has learned what it was shown.
    dev : Pictures
    model : GenreClassifier
        Its other experts are fitted already: nothing in them changes, so their probabilities are computed once, here.
    distributed : Distributed
    precision : str
        ``"fp32"`` or ``"bf16"``.
    """

    def __init__(
        self, train: Pictures, dev: Pictures, model: GenreClassifier, distributed: Distributed, precision: str
    ):
        self.model, self.distributed, self.precision = model, distributed, precision
        assert model.network_name is not None
        self.name = model.network_name
        self.network = model.alone(self.name)
        step = -(-len(train.y) // TRAIN_SAMPLE)
        self.train, self.dev = _Part(train, range(0, len(train.y), step)), _Part(dev, range(len(dev.y)))
        self.fitted = {name: self._probabilities(model.alone(name), self.dev) for name in model.fitted}

    def score(self) -> dict[str, float]:
        """Return the scores of the network alone on train and dev, and of the whole on dev, as ``history.csv``."""
        self.distributed.broadcast_buffers(self.model)
        row: dict[str, float] = {}
        for split, part in (("train", self.train), ("dev", self.dev)):
            probabilities = self._probabilities(self.network, part)
            row |= self._scores(f"network_{split}", part, probabilities)
        if self.fitted:
            probabilities = self.model.experts[self.name] * probabilities
            for name, of_expert in self.fitted.items():
                row |= self._scores(f"{name}_dev", self.dev, of_expert)
                probabilities = probabilities + self.model.experts[name] * of_expert
        return self._scores("dev", self.dev, probabilities) | row

    def _probabilities(self, model: nn.Module, part: "_Part") -> torch.Tensor:
        """Mean probabilities over the windows of each picture of a part, (n, n_classes)."""
        mine = self.distributed.shard(range(len(part.numbers)))
        found = predict_proba(model, part.pictures.x, [part.numbers[place] for place in mine], precision=self.precision)
        probabilities = torch.empty(len(part.numbers), len(part.pictures.classes))
        for places, values in self.distributed.gather((list(mine), found)):
            if places:  # a process may have had nothing to do
                probabilities[places] = values
        return probabilities

    @staticmethod
    def _scores(name: str, part: "_Part", probabilities: torch.Tensor) -> dict[str, float]:
        tracks = [part.pictures.tracks[number] for number in part.numbers]
        scores = metrics.score(part.pictures.y[list(part.numbers)], probabilities, tracks)
        return {f"{name}_loss": scores["loss"], f"{name}_accuracy": scores["accuracy"]}


class _Part(NamedTuple):
    """Some pictures of a set."""

    pictures: Pictures
    numbers: range


def _make_optimizer(config: TrainConfig, model: GenreClassifier, n_classes: int) -> torch.optim.Optimizer:
    """The optimizer, with groups of the last layer and of the others where these learn at another rate."""
    assert model.net is not None
    apart = config.head_epochs or config.body_lr != 1
    head = f"{last_layer(model.net, n_classes)}." if apart else ""
    learned = [(name, p) for name, p in model.net.named_parameters() if p.requires_grad]
    groups = []
    for is_head in (True, False):  # the learning rate that is shown is that of the first
        own = [p for name, p in learned if name.startswith(head) == is_head]
        matrices, vectors = [p for p in own if p.ndim > 1], [p for p in own if p.ndim <= 1]
        if own:
            # Batch norm's scales and all biases are not decayed: that only changes the effective learning rate.
            groups += [{"params": matrices, "weight_decay": config.weight_decay, "is_head": is_head}]
            groups += [{"params": vectors, "weight_decay": 0.0, "is_head": is_head}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)
    return {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.optimizer](groups, lr=config.lr)


def _make_scheduler(
    config: TrainConfig, optimizer: torch.optim.Optimizer, n_steps: int, epochs_done: int = 0
) -> torch.optim.lr_scheduler.LambdaLR:
    """The schedule of a run with `n_steps` steps an epoch; it depends on the step alone, so none of it is stored."""

    def factor(step: int, is_head: bool) -> float:
        epoch, step = divmod(step, n_steps)
        of_layer = 1.0 if is_head else config.body_lr * (epoch >= config.head_epochs)
        return of_layer * lr_factor(config.schedule, (epoch + step / n_steps) / config.epochs)

    for group in optimizer.param_groups:
        group["initial_lr"] = config.lr
    factors: list[Callable[[int], float]] = [
        partial(factor, is_head=group["is_head"]) for group in optimizer.param_groups
    ]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factors, last_epoch=epochs_done * n_steps - 1)


def lr_factor(schedule: str, done: float) -> float:
    """The learning rate, as a fraction of the highest, when a fraction of the run is done.

    Parameters
    ----------
    schedule : str
        ``"onecycle"``, after Smith and Topin, "Super-Convergence" (2018); ``"cosine"``, half a cosine after
        Loshchilov and Hutter, "SGDR" (2017), without restarts; ``"constant"``.
    done : float, in [0, 1]
    """
    if schedule == "constant":
        return 1.0
    if schedule == "onecycle":
        if done < RISE:
            return START + (1 - START) * 0.5 * (1 - math.cos(math.pi * done / RISE))
        done = (done - RISE) / (1 - RISE)
    return 0.5 * (1 + math.cos(math.pi * done))


def best(history: list[dict[str, Any]], config: TrainConfig) -> int:
    """The epoch that is kept: the one of highest dev accuracy, of several the one of least dev loss.

    Under a schedule that falls, of the last epochs only (`LATE`), once there are any. Before, each step moves the
    weights far, and an epoch that has luck on dev is no better elsewhere: see docs/recipe.md. Without dev, the last.
    """
    scored = [row for row in history if "dev_accuracy" in row]
    if not scored:
        return history[-1]["epoch"]
    if config.schedule != "constant":
        scored = [row for row in scored if row["epoch"] > (1 - LATE) * config.epochs] or scored
    return max(scored, key=lambda row: (row["dev_accuracy"], -row["dev_loss"]))["epoch"]


def batches(order: torch.Tensor, batch_size: int, world: int = 1) -> list[torch.Tensor]:
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
        Batch norm needs two pictures a process: a smaller last batch joins the one before.
    """
    cut = list(order.split(batch_size))
    if len(cut) > 1 and len(cut[-1]) < 2 * world:
        cut[-2:] = [torch.cat(cut[-2:])]
    return cut


def train_one_epoch(
    model: nn.Module,
    pictures: Pictures,
    steps: Iterable[torch.Tensor],
    optimisation: Optimisation,
    augmentations: Sequence[Augmentation] = (),
    distributed: Distributed | None = None,
    targets: torch.Tensor | None = None,
) -> tuple[float, float]:
    """Train on a random window of each picture, batch by batch.

    Parameters
    ----------
    model : nn.Module
        On its device, in any memory format. Its logits are (B, n_classes).
    pictures : Pictures
        The training set.
    steps : iterable of torch.Tensor, int64
        The pictures of each step, over all processes; the same in every process. See `batches`.
    optimisation : Optimisation
    augmentations : sequence of Augmentation
        Applied in this order.
    distributed : Distributed, optional
        Processes that share each batch; by default there is one.
    targets : torch.Tensor, shape (n, n_classes), optional
        What is to be answered for each picture; by default its label.

    Returns
    -------
    loss, accuracy : float
        Means over this process's share of the epoch, as the network was while it learned (dropout
        on, pictures blended).
    """
    distributed = distributed or Distributed()
    model.train()
    device = next(model.parameters()).device
    if targets is None:
        targets = nn.functional.one_hot(pictures.y, len(pictures.classes)).float()
    total = torch.zeros(3, device=device)
    for chosen in steps:
        mine = distributed.shard(chosen)
        labels = pictures.y[mine].to(device)
        x, target = make_batch(pictures, mine, targets[mine], augmentations, device)
        with autocast(device, optimisation.precision):
            logits = model(x.contiguous(memory_format=torch.channels_last))
        # The mean over the whole batch: processes average their gradients afterwards.
        loss = optimisation.criterion(logits.float(), target) * distributed.world / len(chosen)
        optimisation.step(loss)
        correct = (logits.detach().argmax(dim=1) == labels).sum()
        summed = loss.detach() * len(chosen) / distributed.world
        total += torch.stack([summed, correct.float(), torch.ones_like(summed) * len(mine)])
    loss, correct, n = total.tolist()
    return loss / n, correct / n


def make_batch(
    pictures: Pictures,
    chosen: torch.Tensor,
    target: torch.Tensor,
    augmentations: Sequence[Augmentation],
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut a random window out of each chosen picture and change it at random.

    Parameters
    ----------
    pictures : Pictures
        The training set.
    chosen : torch.Tensor, shape (B,), int64
        Which pictures.
    target : torch.Tensor, shape (B, n_classes)
        What is to be answered for each of them.
    augmentations : sequence of Augmentation
        Applied in this order.
    device : torch.device

    Returns
    -------
    x : torch.Tensor, shape (B, C, H, W)
        Pixels in [0, 1], on the device.
    target : torch.Tensor, shape (B, n_classes)
        Blended where the pictures are.
    """
    target = target.to(device)
    x = to_pixels(pictures.x.random_windows(chosen, **window_options(augmentations)), device)
    for augmentation in augmentations:
        x, target = augmentation.pixels(x, target)
    return x, target


def seed_everything(seed: int, epoch: int, rank: int = 0) -> None:
    """Seed torch for one epoch, so that a resumed run draws what an uninterrupted one would have."""
    torch.manual_seed((seed * 100003 + epoch + rank * 7919 * 100003) % (1 << 63))

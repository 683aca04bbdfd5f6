"""Train one model from a data folder into a run folder."""

import csv
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from render import atomic
from render.cli import InputError, progress
from vision import checkpoint, engine, metrics, report
from vision.leaks import train_splits
from vision.pictures import fit_border, list_pictures, read_folder

HISTORY = ["epoch", "train_loss", "train_accuracy", "dev_loss", "dev_accuracy", "lr", "seconds"]


@dataclass
class Config:
    """Everything a run's result depends on, besides the pictures. Each field is a flag of ``vision.train``.

    Attributes
    ----------
    data : str
        Holds train, dev and perhaps test folders.
    recipe : str
        ``"classic"``: whole track, VGG, Adam, cross entropy, no augmentation.
    seed, epochs, batch_size : int
        Of training.
    lr, weight_decay, dropout : float
        Of Adam and the classifier.
    schedule : str
        ``"cosine"``: the learning rate falls to zero over the run; ``"constant"``.
    size : int
        Height and width of the network's input, in pixels; a multiple of 32.
    input : str
        ``"levels"``, ``"rgb"``, or ``"auto"``: levels where the colours of every train picture are known.
    track_seconds : float
        Length that pictures without melvision's text chunk are taken to span.
    device, precision : str
        ``"auto"``, or one to insist on.
    threads : int or None
        CPU threads; None is torch's choice.
    note : str
        Shown on top of the report.
    """

    data: str = "data"
    recipe: str = "classic"
    seed: int = 0
    epochs: int = 25
    batch_size: int = 32
    lr: float = 5e-4
    weight_decay: float = 0.0
    dropout: float = 0.5
    schedule: str = "cosine"
    size: int = 224
    input: str = "auto"
    track_seconds: float = 30.0
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    note: str = ""

    def check(self):
        """Raise InputError where a value is out of its range; the message names the flag."""
        rules = [
            ("epochs", 1 <= self.epochs <= 100000, "from 1 to 100000"),
            ("batch_size", 2 <= self.batch_size <= 65536, "2 or more (batch norm needs two)"),
            ("lr", 0 < self.lr < 10, "more than 0"),
            ("weight_decay", 0 <= self.weight_decay < 1, "from 0 to 1"),
            ("dropout", 0 <= self.dropout < 1, "from 0 to below 1"),
            ("size", self.size % 32 == 0 and 32 <= self.size <= 1024, "a multiple of 32, from 32 to 1024"),
            ("track_seconds", 0 < self.track_seconds < 1e6, "more than 0"),
            ("threads", self.threads is None or 1 <= self.threads <= 1024, "1 or more"),
            ("seed", 0 <= self.seed < 1 << 31, "from 0 to 2147483647"),
        ]
        for name, good, expected in rules:
            if not good:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: expected {expected}")


def read_data(config):
    """Read the train, dev and test folders.

    Returns
    -------
    sets : dict of str to Pictures
        Train, dev and, where there is one, test; with one list of classes and as many channels.
    remove_border : transforms.RemoveBorder
        Fitted on the train pictures.
    problems, notes : list of str
        Of all folders.
    """
    folders = train_splits(config.data)
    remove_border = fit_border(list_pictures(folders["train"]))
    channels = {"auto": None, "levels": 1, "rgb": 3}[config.input]
    sets, classes = {}, None
    for split, folder in folders.items():
        sets[split] = read_folder(
            folder, size=config.size, remove_border=remove_border, classes=classes, channels=channels
        )
        classes, channels = sets[split].classes, sets[split].x.shape[1]
    if len(classes) < 2:
        raise InputError(f"{folders['train']}: one genre only ({classes[0]}); expected at least two to tell apart")
    absent = [name for label, name in enumerate(classes) if not (sets["train"].y == label).any()]
    if absent:
        raise InputError(f"{folders['train']}: no usable picture of {', '.join(absent)}; add some or delete the folder")
    problems = [line for pictures in sets.values() for line in pictures.problems]
    notes = [line for pictures in sets.values() for line in pictures.notes]
    return sets, remove_border, problems, notes


def _recipe(config, train, remove_border, about):
    """Describe the model for this data; pixel figures are those of the train pictures."""
    x = train.x.float().div_(255)
    channels = x.shape[1]
    model = {
        "channels": channels,
        "size": config.size,
        "mean": x.mean(dim=(0, 2, 3)).tolist(),
        "std": x.std(dim=(0, 2, 3)).clamp_min(1e-3).tolist(),
        "dropout": config.dropout,
    }
    seconds = train.seconds or config.track_seconds
    return checkpoint.Recipe(train.classes, model, remove_border.frames, train.render, seconds, train.drawn, about)


def _fingerprint(sets):
    """A hash of every pixel and label: a resumed run must go on with the pictures it began with."""
    digest = hashlib.blake2b(digest_size=16)
    for split, pictures in sets.items():
        digest.update(f"{split} {pictures.classes} {pictures.y.tolist()}".encode(errors="surrogateescape"))
        digest.update(pictures.x.numpy())
    return digest.hexdigest()


def fit(config, out, *, resume=False, say=print):
    """Train a model and write its run folder.

    Parameters
    ----------
    config : Config
        What to do.
    out : str or Path
        The run folder. It must not hold a run unless `resume`.
    resume : bool
        Go on where an interrupted run in `out` stopped; the result is that of an uninterrupted one.
    say : callable
        Takes a line of text for the user.

    Returns
    -------
    scores : dict
        What ``metrics.json`` holds.
    problems : list of str
        Pictures that could not be used.

    Raises
    ------
    InputError
        When the data cannot be trained on, or `out` does not fit.
    """
    config.check()
    out = Path(out)
    threads = engine.use_threads(config.threads)
    try:
        device = engine.pick_device(config.device)
    except ValueError as error:
        raise InputError(error) from None
    precision = engine.pick_precision(config.precision, device)
    sets, remove_border, problems, notes = read_data(config)
    for line in [*(f"note: {note}" for note in notes), *(f"failed: {problem}" for problem in problems)]:
        say(line)
    train, dev = sets["train"], sets["dev"]
    counts = ", ".join(f"{len(pictures.y)} {split}" for split, pictures in sets.items())
    say(f"{counts} pictures of {len(train.classes)} genres; {device}, {precision}, {threads} threads")
    about = {"config": asdict(config), "device": str(device), "precision": precision, "threads": threads}
    about |= {"pictures": _fingerprint(sets), "versions": engine.versions()}
    torch.manual_seed(config.seed)
    recipe = _recipe(config, train, remove_border, about)
    model = checkpoint.build(recipe).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    criterion = torch.nn.CrossEntropyLoss()
    history = []
    state = _resume_state(out, about) if resume else None
    if state:
        model.load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        history = state["history"]
        say(f"resumed after epoch {len(history)} of {config.epochs}")
    else:
        out.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(out / "config.json", "w", encoding="utf-8") as file:
            json.dump(about, file, indent=1)
        _write_split(out, sets)
    for epoch in range(len(history) + 1, config.epochs + 1):
        start = time.perf_counter()
        # Seeded anew each epoch, so that resuming needs no generator states.
        engine.seed_everything(config.seed, epoch)
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(config, epoch)

        def bar(batches, epoch=epoch):
            return progress(batches, total=len(batches), desc=f"epoch {epoch}", unit="step")

        loss, accuracy = engine.train_one_epoch(
            model, train.x, train.y, order=torch.randperm(len(train.y)), batch_size=config.batch_size,
            criterion=criterion, optimizer=optimizer, precision=precision, step=bar,
        )  # fmt: skip
        scores = metrics.score(dev.y, engine.predict_proba(model, dev.x, precision=precision))
        row = [epoch, loss, accuracy, scores["loss"], scores["accuracy"], _learning_rate(config, epoch)]
        history.append(dict(zip(HISTORY, [*row, time.perf_counter() - start], strict=True)))
        if _best(history) == epoch:
            recipe.about["kept_epoch"] = epoch
            checkpoint.save(out / "model.pt", model, recipe)
        _write_csv(out / "history.csv", HISTORY, history)
        state = {"weights": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
        checkpoint.write(out / "last.pt", {"format": checkpoint.FORMAT, "about": json.dumps(about), **state})
        say(
            f"epoch {epoch:3}/{config.epochs}  train loss {loss:.3f} acc {accuracy:.3f}  "
            f"dev loss {scores['loss']:.3f} acc {scores['accuracy']:.3f}  {history[-1]['seconds']:.1f} s"
        )
    return _finish(config, out, device, sets, history), problems


def _learning_rate(config, epoch):
    if config.schedule == "constant":
        return config.lr
    # Half a cosine over the epochs, from lr to nearly nothing (Loshchilov and Hutter, 2017, no restarts).
    return config.lr * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * (epoch - 1) / config.epochs)).item())


def _best(history):
    """The epoch of highest dev accuracy; of several, the one of least dev loss."""
    return max(history, key=lambda row: (row["dev_accuracy"], -row["dev_loss"]))["epoch"]


def _resume_state(out, about):
    """What the last finished epoch left; None where the run was cut off in its first."""
    if not (out / "last.pt").exists():
        if (out / "metrics.json").exists():
            raise InputError(f"{out}: is complete already; train into another folder with --out")
        return None
    state = checkpoint.read(out / "last.pt")
    before = json.loads(state["about"])
    for name in ("pictures", "config", "device", "precision", "threads"):
        if before[name] != about[name]:
            told = "the pictures were others" if name == "pictures" else f"{name} was {before[name]}"
            raise InputError(f"{out}: {told} when this run began; train anew into another folder with --out")
    return state


def _finish(config, out, device, sets, history):
    """Score the kept epoch once, in fp32, and write all reports."""
    model, recipe = checkpoint.load(out)
    model.to(device)
    probabilities = {split: engine.predict_proba(model, pictures.x).numpy() for split, pictures in sets.items()}
    scores = {split: metrics.score(sets[split].y.numpy(), p) for split, p in probabilities.items()}
    scores["kept_epoch"] = _best(history)
    scores["last_epoch_dev_accuracy"] = history[-1]["dev_accuracy"]
    judged = "test" if "test" in sets else "dev"
    report.write_run(
        out, classes=recipe.classes, scores=scores, history=history, about=recipe.about, judged=judged,
        sets={split: (pictures.paths, pictures.y.numpy(), probabilities[split]) for split, pictures in sets.items()},
    )  # fmt: skip
    with atomic.replacing(out / "metrics.json", "w", encoding="utf-8") as file:
        json.dump(scores, file, indent=1)
    (out / "last.pt").unlink(missing_ok=True)
    return scores


def _write_csv(path, names, rows):
    with atomic.replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _write_split(out, sets):
    rows = [
        {"split": split, "genre": pictures.classes[label], "file": path}
        for split, pictures in sets.items()
        for path, label in zip(pictures.paths, pictures.y.tolist(), strict=True)
    ]
    _write_csv(out / "split.csv", ["split", "genre", "file"], rows)

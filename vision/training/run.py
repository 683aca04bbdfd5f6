"""One epoch of training, and probabilities for pictures. No files, no printing."""

import contextlib
import hashlib
import json
import os
import platform
from dataclasses import asdict, replace
from pathlib import Path

import torch

from render import atomic
from render.errors import MelvisionError
from vision.attribution.occlusion import saliency
from vision.data.dataset import list_pictures, read_folder
from vision.data.preprocess import Preprocessor, learn_input_spec
from vision.inference.device import keep_freed_memory, pick_device, pick_precision, use_threads
from vision.inference.predictor import Predictor
from vision.inference.windows import predict_proba
from vision.models import checkpoint
from vision.models.spec import ModelSpec
from vision.models.svm import train_windows
from vision.reports import metrics
from vision.splits.leaks import train_splits
from vision.training.calibration import calibrate
from vision.training.distributed import gather, local_device, once_a_host, wait
from vision.training.loop import best, learn
from vision.training.report import RunResult, write_run
from vision.training.state import read_state, threads_before


def versions():
    """Return what a result depends on besides its settings: a dict of versions and hardware."""
    import torchvision

    from render import __version__

    return {
        "melvision": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


#: The dev pictures as the last epoch's weights see them: nothing was chosen on them.
LAST = "dev_last"


def input_spec(config, paths):
    """Learn from the train pictures how the input is made, as a config asks for it: `InputSpec`."""
    return learn_input_spec(
        paths,
        size=config.size,
        window=config.window or None,
        track_seconds=config.track_seconds,
        channels={"auto": None, "levels": 1, "rgb": 3}[config.input],
    )


def read_data(config, cache=None, share=None):
    """Read the train, dev and test folders.

    Parameters
    ----------
    config : Config
        Says which and how.
    cache : Path, optional
        Folder for what does not fit into memory.
    share : str, optional
        Put all of it into files there, whose names begin so, for other processes.

    Returns
    -------
    sets : dict of str to Pictures
        Train, dev and, where there is one, test; with one list of classes and as many channels.
    spec : InputSpec
        How they were read, learned from the train pictures.
    """
    folders = train_splits(config.data)
    spec = input_spec(config, list_pictures(folders["train"]))
    classes, sets = None, {}
    for split, folder in folders.items():
        path = cache / f"{share}{split}" if share else None
        sets[split] = read_folder(folder, Preprocessor(spec), classes=classes, cache=cache, share=path)
        classes, spec = sets[split].classes, replace(spec, channels=sets[split].x.channels)
    check_genres(sets["train"], folders["train"])
    return sets, spec


def _read_once(config, out, rank, world):
    """As `read_data`, once a host: its first process decodes into files, the others map them."""
    share = f".pictures-{rank}-" if world > 1 else None
    try:
        found = once_a_host(lambda: read_data(config, out, share), rank, world)
        wait(world)
        return found
    finally:
        # A file stays mapped without its name, and nothing is left of it, however the run ends.
        for path in out.glob(f"{share}*") if share else ():
            with contextlib.suppress(PermissionError):  # Windows keeps what is mapped
                path.unlink()


def check_genres(train, folder):
    """Raise MelvisionError unless there is a picture of each of at least two genres to train on."""
    if len(train.classes) < 2:
        raise MelvisionError(f"{folder}: one genre only ({train.classes[0]}); expected at least two to tell apart")
    absent = [name for label, name in enumerate(train.classes) if not (train.y == label).any()]
    if absent:
        raise MelvisionError(f"{folder}: no usable picture of {', '.join(absent)}; add some or delete the folder")


def make_model_spec(config, train, spec, about):
    """Describe the model for this data; the mean and deviation of pixels are those of the train pictures."""
    mean, std = train.x.mean_and_std()
    texture = len(train_windows(train.x)) if config.texture else 0
    model = {"name": config.model, "mean": mean, "std": std, "dropout": config.dropout, "texture": texture}
    return ModelSpec(train.classes, model, spec, about)


def fingerprint(sets):
    """A hash of every pixel and label: a resumed run must go on with the pictures it began with."""
    digest = hashlib.blake2b(digest_size=16)
    for split, pictures in sets.items():
        told = f"{split} {pictures.classes} {pictures.y.tolist()} {pictures.x.widths.tolist()}"
        digest.update(told.encode(errors="surrogateescape"))
        for number in range(len(pictures.x)):
            digest.update(pictures.x[number].numpy())
    return digest.hexdigest()


def pick_hardware(config):
    """The device, precision and threads that a config gets on this machine.

    Raises
    ------
    MelvisionError
        When it insists on a device that is not there.
    """
    keep_freed_memory()
    threads = use_threads(config.threads)
    try:
        device = local_device(pick_device(config.device))
    except ValueError as error:
        raise MelvisionError(error) from None
    return device, pick_precision(config.precision, device), threads


def fit(config, out, *, resume=False, say=print, rank=0, world=1):
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
    rank, world : int
        As `parallel.group` gives them.

    Returns
    -------
    scores : dict or None
        What ``metrics.json`` holds; None in all but the first of several processes.
    problems : list of str
        Pictures that could not be used.

    Raises
    ------
    MelvisionError
        When the data cannot be trained on, or `out` does not fit.
    """
    out = Path(out)
    if resume and config.threads is None:
        use_threads(threads_before(out))
    config.check(world)
    device, precision, threads = pick_hardware(config)
    out.mkdir(parents=True, exist_ok=True)
    sets, spec = _read_once(config, out, rank, world)
    for pictures in sets.values():
        for line in [*(f"note: {note}" for note in pictures.notes), *(f"failed: {line}" for line in pictures.problems)]:
            say(line)
    counts = ", ".join(f"{len(pictures.y)} {split}" for split, pictures in sets.items())
    together = f", {world} processes" if world > 1 else ""
    genres = len(sets["train"].classes)
    say(f"{counts} pictures of {genres} genres; {device}, {precision}, {threads} threads{together}")
    about = {"config": asdict(config), "device": device.type, "precision": precision, "threads": threads}
    about |= {"processes": world, "pictures": fingerprint(sets), "versions": versions()}
    spec = make_model_spec(config, sets["train"], spec, about)
    # The first process reads for all: it may put a damaged file out of the way.
    state = gather(read_state(out, about, say) if resume and rank == 0 else None, world)[0]
    if state is None and rank == 0:
        with atomic.replacing(out / "config.json", "w", encoding="utf-8") as file:
            json.dump(about, file, indent=1)
        _write_split(out, sets)
    train, dev = sets["train"], sets["dev"]
    history, last = learn(config, spec, train, dev, out, device, state=state, say=say, rank=rank, world=world)
    scores = _finish(out, device, sets, history, last) if rank == 0 else None
    wait(world)
    return scores, [line for pictures in sets.values() for line in pictures.problems]


def _finish(out, device, sets, history, last):
    """Score the kept epoch once, and the last one on dev, in fp32, and write all reports."""
    model, spec = checkpoint.load(out)
    spec.about["temperature"] = calibrate(model.to(device), sets["dev"].x, sets["dev"].y)
    checkpoint.save(out / "model.pt", model, spec)
    predictor = Predictor(out, str(device))
    probabilities = {split: predictor.probabilities(pictures.x) for split, pictures in sets.items()}
    probabilities[LAST] = predict_proba(last, sets["dev"].x).numpy()
    scores = {split: metrics.score(sets.get(split, sets["dev"]).y.numpy(), p) for split, p in probabilities.items()}
    scores["kept_epoch"] = best(history)
    result = RunResult(
        scores, history, predictor.about, sets, probabilities, lambda x, label: saliency(predictor, x, label)
    )
    write_run(out, result)
    with atomic.replacing(out / "metrics.json", "w", encoding="utf-8") as file:
        json.dump(scores, file, indent=1)
    for name in ("last.pt", "before.pt"):
        (out / name).unlink(missing_ok=True)
    return scores


def _write_split(out, sets):
    rows = [
        [split, pictures.classes[label], path]
        for split, pictures in sets.items()
        for path, label in zip(pictures.paths, pictures.y.tolist(), strict=True)
    ]
    atomic.write_csv(out / "split.csv", ["split", "genre", "file"], rows)

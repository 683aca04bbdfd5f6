"""From settings to a run folder: read the pictures, train, score, report."""

import contextlib
import hashlib
import os
import platform
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from render import atomic
from render.cli import note_and_failure_lines, plural
from render.errors import MelvisionError
from vision.attribution.occlusion import saliency
from vision.data.dataset import Pictures, list_pictures, read_folder
from vision.data.folder_lock import locked, require_unlocked
from vision.data.orientation import STEEP, TURNED
from vision.data.pixel_store import PixelStore
from vision.data.preprocess import InputSpec, Preprocessor, learn_input_spec
from vision.inference.device import pick_device, pick_precision, use_threads
from vision.inference.predictor import Predictor
from vision.inference.windows import predict_proba
from vision.models import checkpoint, run_files
from vision.models.classifier import MUSICNN, TEXTURE, create_model
from vision.models.initial import read_initial
from vision.models.pretrained import pixel_statistics
from vision.models.spec import ModelSpec
from vision.models.svm import train_windows
from vision.reports.scoring import count_trained_on
from vision.reports.tables import SplitPredictions
from vision.splits.folder import named_pieces, split_groups
from vision.splits.folds import picture_groups, select_pictures
from vision.splits.leaks import train_splits
from vision.splits.tracks import missing_genres, number_tracks, small_genres
from vision.training.calibration import calibrate, learn_thresholds
from vision.training.config import TrainConfig
from vision.training.distributed import Distributed
from vision.training.loop import RunContext, learn
from vision.training.report import RunResult, write_run
from vision.training.state import read_state, threads_before
from vision.training.tensorboard import Board, require_tensorboard

#: The dev pictures as the last epoch's weights see them: nothing was chosen on them.
LAST = "dev_last"

#: Train tracks that the kept epoch is scored on, at most; of 5000 chance leaves 1.4 %.
SCORED_TRAIN = 5000


def read_spec(config: TrainConfig, paths: Sequence[str]) -> InputSpec:
    """Learn from the train pictures how the input is made, as a config asks for it: `InputSpec`."""
    return learn_input_spec(
        paths,
        size=config.size,
        window=config.window or None,
        track_seconds=config.track_seconds,
        channels={"auto": None, "levels": 1, "rgb": 3}[config.input],
    )


def read_data(
    config: TrainConfig, cache: Path | None = None, share: str | None = None
) -> tuple[dict[str, Pictures], InputSpec]:
    """Read the train, dev and test folders.

    Parameters
    ----------
    config : TrainConfig
        Which and how.
    cache : Path, optional
        Folder for what does not fit into memory.
    share : str, optional
        Put all of it into files there whose names begin with this, for other processes to map.

    Returns
    -------
    sets : dict of str to Pictures
        Train, dev and, where there is one, test; with one list of classes and as many channels.
    spec : InputSpec
        How they were read, learned from the train pictures.
    """
    folders, pieces = train_splits(config.data), named_pieces(config.data)
    spec = read_spec(config, list_pictures(folders["train"]))
    classes, sets = None, {}
    for split, folder in folders.items():
        path = cache / f"{share}{split}" if cache and share else None
        sets[split] = read_folder(folder, Preprocessor(spec), classes=classes, cache=cache, share=path)
        classes, spec = sets[split].classes, replace(spec, channels=sets[split].x.channels)
        if split == "train":
            spec = replace(spec, tilt=sets[split].tilt)
        sets[split].tracks = number_tracks(sets[split], pieces=pieces)
    check_genres(sets["train"], folders["train"])
    return sets, spec


def read_together(
    config: TrainConfig, folders: Sequence[str | Path], classes: Sequence[str]
) -> tuple[Pictures, InputSpec]:
    """Read several folders of genres as one set of pictures; also returns how they were read.

    Parameters
    ----------
    config : TrainConfig
        How, and the data folder that the folders are in.
    folders : sequence of str or Path
        Such as train and dev.
    classes : sequence of str
        Genres in the order of their labels.

    Raises
    ------
    MelvisionError
        When a folder holds other genres.
    """
    spec = read_spec(config, [path for folder in folders for path in list_pictures(folder)])
    parts = [read_folder(folder, Preprocessor(spec), classes=classes) for folder in folders]
    channels = max(part.x.channels or 1 for part in parts)
    if any(part.x.channels != channels for part in parts):  # colours in one of them only
        spec = replace(spec, channels=channels)
        parts = [read_folder(folder, Preprocessor(spec), classes=classes) for folder in folders]
    every = (part.x[number] for part in parts for number in range(len(part.x)))
    pictures = Pictures(
        PixelStore.collect(every, channels=channels, height=parts[0].x.height),
        torch.cat([part.y for part in parts]),
        [path for part in parts for path in part.paths],
        list(classes),
        [problem for part in parts for problem in part.problems],
        [note for part in parts for note in part.notes],
    )
    pictures.tracks = number_tracks(pictures, pieces=named_pieces(config.data))
    pictures.tilt = float(np.mean([part.tilt for part in parts]))
    return pictures, replace(spec, channels=channels, tilt=pictures.tilt)


def _read_once(config: TrainConfig, out: Path, distributed: Distributed) -> tuple[dict[str, Pictures], InputSpec]:
    """As `read_data`, once per host: its first process decodes into files, the others map them."""
    share = f".pictures-{distributed.rank}-" if distributed.world > 1 else None
    try:
        data = distributed.once_per_host(lambda: read_data(config, out, share))
        distributed.wait()
        return data
    finally:
        # A file stays mapped without its name, and nothing is left of it, however the run ends.
        for path in out.glob(f"{share}*") if share else ():
            with contextlib.suppress(PermissionError):  # Windows keeps what is mapped
                path.unlink()


def check_genres(train: Pictures, folder: str | Path) -> None:
    """Raise MelvisionError unless there is a picture of each of at least two genres to train on."""
    if len(train.classes) < 2:
        raise MelvisionError(f"{folder}: one genre only ({train.classes[0]}); expected at least two to tell apart")
    absent = [name for label, name in enumerate(train.classes) if not (train.y == label).any()]
    if absent:
        raise MelvisionError(f"{folder}: no usable picture of {', '.join(absent)}; add some or delete the folder")


def has_musicnn(config: TrainConfig) -> bool:
    """Whether musicnn is one of the fitted experts, and not the network that is trained."""
    return MUSICNN in config.expert_weights and config.model != MUSICNN


def check_model(config: TrainConfig) -> None:
    """Raise MelvisionError where there is no such model, or it cannot take pictures of this size.

    It is called before pictures are read, which may take long.
    """
    require_tensorboard(config)
    if config.init:
        read_initial(config.init, config.model)
    experts, musicnn = config.expert_weights, has_musicnn(config)
    if config.model in experts or musicnn:
        own = [name for name in experts if name != TEXTURE]
        create_model(
            2, name=config.model, channels=1, size=config.size, mean=[0.0], std=[1.0], dropout=config.dropout,
            texture=0, experts=dict.fromkeys(own, 1 / len(own)), musicnn=musicnn, weights=config.weights or None,
            pretrained=True,
        )  # fmt: skip


def make_model_spec(config: TrainConfig, train: Pictures, spec: InputSpec, about: dict[str, Any]) -> ModelSpec:
    """Describe the model for this data.

    The mean and deviation of pixels are those of the train pictures, or what pretrained weights were trained with.
    """
    mean, std = train.x.mean_and_std()
    if config.model == MUSICNN:  # it makes decibels of the pixels
        mean, std = [0.0], [1.0]
    elif config.weights:
        mean, std = pixel_statistics(config.model, config.weights)
    experts = config.expert_weights
    points = len(train_windows(train.x))
    texture, space = (points, 0) if TEXTURE in experts else (0, points)
    model = {"name": config.model, "mean": mean, "std": std, "dropout": config.dropout, "texture": texture}
    model |= {"experts": experts, "space": space, "musicnn": has_musicnn(config)}
    return ModelSpec(train.classes, model, spec, about)


def fingerprint(sets: dict[str, Pictures]) -> str:
    """A hash of every pixel and label: a resumed run must go on with the pictures it began with."""
    digest = hashlib.blake2b(digest_size=16)
    for split, pictures in sets.items():
        labels = f"{split} {pictures.classes} {pictures.y.tolist()} {pictures.x.widths.tolist()}"
        digest.update(labels.encode(errors="surrogateescape"))
        for number in range(len(pictures.x)):
            digest.update(pictures.x[number].numpy().data)
    return digest.hexdigest()


class Hardware(NamedTuple):
    """What a run computes on; its last bits depend on it."""

    device: torch.device
    precision: str
    threads: int


def pick_hardware(config: TrainConfig, distributed: Distributed | None = None) -> Hardware:
    """The device, precision and threads that a config gets on this machine.

    Raises
    ------
    MelvisionError
        When it insists on a device that is not there.
    """
    threads = use_threads(config.threads)
    device = (distributed or Distributed()).local_device(pick_device(config.device))
    return Hardware(device, pick_precision(config.precision, device), threads)


def versions() -> dict[str, str]:
    """Versions and hardware: what a result depends on besides its settings and pictures."""
    import torchvision

    from render import __version__

    return {
        "melvision": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def describe_run(
    config: TrainConfig, hardware: Hardware, sets: dict[str, Pictures], processes: int = 1
) -> dict[str, Any]:
    """All that a run's result depends on but versions, for ``config.json``; a resumed run must have the same."""
    about = {"config": asdict(config), "device": hardware.device.type, "precision": hardware.precision}
    return about | {"threads": hardware.threads, "processes": processes, "pictures": fingerprint(sets)}


def require_new(out: str | Path) -> None:
    """Raise MelvisionError unless a folder is empty or not there: no run may be overwritten."""
    out = Path(out)
    require_unlocked(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MelvisionError(f"{out}: exists already; choose another folder, or resume the run if it was interrupted")


def _make_run_folder(name: str, out: str | Path | None, resume: bool) -> Path:
    if out is not None:
        if not resume:
            require_new(out)
        Path(out).mkdir(parents=True, exist_ok=True)
        return Path(out)
    number = 1
    while True:
        folder = Path("runs") / f"{name}-{number:03}"
        try:
            folder.mkdir(parents=True)  # two runs that start together must not get the same one
            return folder
        except FileExistsError:
            number += 1


@contextlib.contextmanager
def run_folder(
    config: TrainConfig, out: str | Path | None, resume: bool, distributed: Distributed, name: str = ""
) -> Iterator[Path]:
    """Make the folder of a run for the length of a block; it goes again if nothing was written into it.

    Parameters
    ----------
    config : TrainConfig
        Its recipe names the folder where `out` is None: the first of ``runs/<recipe>-001`` and so on that is free.
    out : str or Path, optional
        The folder.
    resume : bool
        Whether it may hold an interrupted run.
    distributed : Distributed
        The first of these processes makes it.
    name : str
        Stands for the recipe in the folder's name.

    Yields
    ------
    folder : Path

    Raises
    ------
    MelvisionError
        When it holds something and `resume` is false.
    """
    folder = distributed.once(lambda: _make_run_folder(name or config.recipe, out, resume))
    with contextlib.ExitStack() as stack:
        distributed.once(lambda: stack.enter_context(locked(folder, "training")))
        try:
            yield folder
        except KeyboardInterrupt as stop:
            if (folder / run_files.STATE).exists() or (folder / run_files.SEEDS).exists():
                # The folder of several seeds is around those of its runs, so it is named last.
                stop.args = (f"to go on: python -m vision.train --resume {shlex.quote(str(folder))}",)
            raise


@dataclass
class TrainResult:
    """What `fit` returns.

    Attributes
    ----------
    run : Path
        The run folder.
    scores : dict or None
        What ``metrics.json`` holds; None in all but the first of several processes.
    history : list of dict
        The rows of ``history.csv``.
    problems : list of str
        Pictures that could not be used.
    notes : list of str
        What else the user should know of the pictures.
    """

    run: Path
    scores: dict[str, Any] | None
    history: list[dict[str, Any]]
    problems: list[str]
    notes: list[str]


def fit(
    config: TrainConfig,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    progress: Callable[[str], None] | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> TrainResult:
    """Train a model and write its run folder.

    Under ``torchrun``, all processes call it and train together.

    Parameters
    ----------
    config : TrainConfig
        What to do.
    out : str or Path, optional
        The run folder; by default the first of ``runs/<recipe>-001`` and so on that is free.
    resume : bool
        Go on where an interrupted run in `out` stopped; the result is that of an uninterrupted one.
    progress : callable, optional
        Takes a line of text for the user, such as `print`. By default lines go to `logging`.
    on_epoch : callable, optional
        Called after each epoch with its row of ``history.csv``.

    Returns
    -------
    result : TrainResult

    Raises
    ------
    MelvisionError
        When a setting is out of range, the data cannot be trained on, or `out` is in use.
    """
    with Distributed() as distributed:
        config.check(distributed.world)
        with run_folder(config, out, resume, distributed) as folder:
            if resume and config.threads is None:
                use_threads(threads_before(folder))
            hardware = pick_hardware(config, distributed)
            context = RunContext(folder, hardware.device, distributed, progress, on_epoch)
            return _fit(config, context, hardware, resume)


def _fit(config: TrainConfig, context: RunContext, hardware: Hardware, resume: bool) -> TrainResult:
    out, distributed = context.out, context.distributed
    check_model(config)
    sets, input_spec = _read_once(config, out, distributed)
    notes = [note for pictures in sets.values() for note in pictures.notes]
    scored = {split: pictures.y.tolist() for split, pictures in sets.items() if split != "train"}
    notes += missing_genres(sets["train"].classes, scored)
    notes += _seen_by_initial(config, sets)
    notes += small_genres(sets["train"], train_splits(config.data)["train"])
    if sets["train"].tilt <= -STEEP:
        notes.append(
            f"{train_splits(config.data)['train']}: most pictures are louder in high bands than in low ones, which "
            f"music is not; if it is music, they are {TURNED}, and recordings will be predicted wrong"
        )
    problems = [problem for pictures in sets.values() for problem in pictures.problems]
    for line in note_and_failure_lines(notes, problems):
        context.say(line)
    counts = _counts(sets)
    where = f"{hardware.device}, {hardware.precision}, {plural(hardware.threads, 'thread')}"
    where += f", {distributed.world} processes" if distributed.world > 1 else ""
    context.say(f"{counts} of {len(sets['train'].classes)} genres; {where}")
    about = describe_run(config, hardware, sets, distributed.world) | {"versions": versions()}
    spec = make_model_spec(config, sets["train"], input_spec, about)
    # The first process reads for all: it may put a damaged file out of the way.
    state = distributed.once(lambda: read_state(out, about, context.say) if resume else None)
    if state is None and distributed.is_first:
        atomic.write_json(out / run_files.CONFIG, about)
        write_split(out, sets)
    groups = picture_groups_of(config, sets["train"]) if config.soft_labels else None
    history, last = learn(config, spec, sets["train"], sets["dev"], context, state, groups)
    scores = _finish(out, hardware.device, sets, history, last) if distributed.is_first else None
    distributed.wait()
    return TrainResult(out, scores, history, problems, notes)


def _seen_by_initial(config: TrainConfig, sets: dict[str, Pictures]) -> list[str]:
    """A line for each split that is scored and holds tracks that the run of ``--init`` was trained on."""
    notes = []
    for split in ("dev", "test") if config.init else ():
        if split in sets:
            first, pieces = sorted(set(sets[split].tracks)), named_pieces(config.data)
            n = count_trained_on(config.init, sets[split], first, pieces=pieces)
            if n is None:
                notes.append(f"{config.init}: does not say what it was trained on; it may have been {split} tracks")
            elif n:
                seen = f"{config.init} was trained on {n} of the {len(first)} {split} tracks"
                notes.append(f"LEAK: {seen}, so their score is too high")
    return notes


def _counts(sets: dict[str, Pictures]) -> str:
    """How many pictures there are, and of how many tracks where some are of one."""
    counts = ", ".join(f"{len(pictures.y)} {split}" for split, pictures in sets.items()) + " pictures"
    tracks = {split: len(set(pictures.tracks)) for split, pictures in sets.items()}
    if sum(tracks.values()) < sum(len(pictures.y) for pictures in sets.values()):
        counts += f" of {', '.join(f'{n} {split}' for split, n in tracks.items())} tracks"
    return counts


def picture_groups_of(config: TrainConfig, train: Pictures) -> list[int]:
    """The group of each train picture: what the data folder was split by."""
    return picture_groups(train, groups=split_groups(config.data), pieces=named_pieces(config.data))


def _finish(
    out: Path, device: torch.device, sets: dict[str, Pictures], history: list[dict[str, Any]], last: nn.Module
) -> dict[str, Any]:
    """Score the kept epoch, and the last one on dev, in fp32, and write all reports."""
    model, spec = checkpoint.load_model(out)
    spec.about["temperature"] = calibrate(model.to(device), sets["dev"].x, sets["dev"].y, sets["dev"].tracks)
    checkpoint.save(out / run_files.MODEL, model, spec)
    predictor = Predictor(out, str(device))
    scored = sets | {"train": some_tracks(sets["train"], SCORED_TRAIN)}
    answers = {split: predictor.answers(pictures.x) for split, pictures in scored.items()}
    spec.thresholds = learn_thresholds(sets["dev"], answers["dev"])
    checkpoint.save(out / run_files.MODEL, model, spec)

    def predictions_of(split: str, p: np.ndarray) -> SplitPredictions:
        pictures = scored[split]
        return SplitPredictions(pictures.paths, pictures.y.numpy(), p, pictures.tracks)

    predictions = {split: predictions_of(split, answer.p) for split, answer in answers.items()}
    predictions[LAST] = predictions_of("dev", predict_proba(last, sets["dev"].x).numpy())
    scores: dict[str, Any] = {split: one.score() for split, one in predictions.items()}
    for split in set(sets) & {"dev", "test"} if len(model.experts) > 1 else ():
        scores[split]["experts"] = {
            name: {"weight": model.experts[name]} | predictions_of(split, p).score()
            for name, p in answers[split].experts.items()
        }
    scores["kept_epoch"] = spec.about["kept_epoch"]
    result = RunResult(
        scores,
        history,
        predictor.about,
        sets,
        predictions,
        lambda x, label: saliency(predictor, x, label),
        spec.input,
        spec.thresholds,
    )
    write_run(out, result)
    if predictor.about["config"]["log"] == "tensorboard":
        board = Board(out)
        board.picture("confusions", out / run_files.CONFUSION_PLOT, scores["kept_epoch"])
        board.close()
    atomic.write_json(out / run_files.METRICS, scores)
    for name in (run_files.STATE, run_files.OLDER_STATE):
        (out / name).unlink(missing_ok=True)
    return scores


def some_tracks(pictures: Pictures, most: int) -> Pictures:
    """Return the pictures of tracks evenly taken out of a set: of `most` tracks at most."""
    tracks = sorted(set(pictures.tracks))
    if len(tracks) <= most:
        return pictures
    taken = set(tracks[:: -(-len(tracks) // most)])
    return select_pictures(pictures, [number for number, track in enumerate(pictures.tracks) if track in taken])


def write_split(out: Path, sets: dict[str, Pictures]) -> None:
    """Write ``split.csv``: which pictures a model was trained and scored on."""
    rows = [
        [split, pictures.classes[label], path]
        for split, pictures in sets.items()
        for path, label in zip(pictures.paths, pictures.y.tolist(), strict=True)
    ]
    atomic.write_csv(out / run_files.SPLIT, ["split", "genre", "file"], rows)

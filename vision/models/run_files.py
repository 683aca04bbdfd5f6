"""A run folder: the names of its files and settings, the runs of several seeds, and the tracks that were trained on."""

import unicodedata
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec

from render.errors import MelvisionError
from vision.data.validate import Count, Share, one_of, read_json, read_rows
from vision.splits.keys import picture_key

# Of one run.
CONFIG = "config.json"  # settings, hardware and versions
SPLIT = "split.csv"  # the pictures of train, dev and test
HISTORY = "history.csv"  # a row an epoch
METRICS = "metrics.json"  # scores; its presence marks a run as complete
MODEL = "model.pt"  # weights and input spec of the kept epoch
STATE, OLDER_STATE = "last.pt", "before.pt"  # to resume from; deleted at the end

# Of its report; those of several runs together have the same names.
TEXT_REPORT = "evaluation_report.txt"
PAGE = "report.html"
PREDICTIONS = "predictions.csv"
ACCURACY_PLOT = "accuracy_plot.png"
LOSS_PLOT = "loss_plot.png"
CONFUSION_PLOT = "confusion_matrix.png"
RELIABILITY_PLOT = "reliability_plot.png"
SPREAD_PLOT = "spread_plot.png"  # of experts, seeds or folds

# Of several runs.
SEEDS = "seeds.json"  # settings and seeds; its presence marks a folder of runs
SUMMARY = "summary.json"  # scores; its presence marks all runs as complete
FOLD = "done.json"  # predictions of a complete fold of a cross-validation
BEST = "best.json"  # settings of the best trial of a search, for ``vision.train --config``
TRIALS = "trials.csv"  # a row a trial

# Of a folder of runs.
RUNS = "runs"  # its name, unless the user chose another one
INDEX = "index.html"  # a page that lists them

#: Settings by name, as they stand in a file: `vision.training.config` checks the values.
Settings = dict[str, str | int | float | bool | None]

#: What to do about a file of a run that cannot be read.
TODO = "expected it as training wrote it: restore it, or train again"


class ConfigFile(TypedDict):
    """``config.json``."""

    config: Settings
    threads: NotRequired[Annotated[int, msgspec.Meta(ge=1, le=1024)]]
    like: NotRequired[str]


class Scores(TypedDict):
    """The scores of a split; see `vision.reports.metrics.score`."""

    accuracy: Share
    interval: tuple[Share, Share]
    n: Count
    macro_f1: Share
    loss: Annotated[float, msgspec.Meta(ge=0)]


class MetricsFile(TypedDict):
    """``metrics.json`` of a run, or of a final model, which has `like` and `measured`."""

    dev: NotRequired[Scores]
    dev_last: NotRequired[Scores]
    test: NotRequired[Scores]
    kept_epoch: NotRequired[Count]
    like: NotRequired[str]
    measured: NotRequired[dict[str, Scores]]


class SeedsFile(TypedDict):
    """``seeds.json``."""

    config: Settings
    seeds: list[Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]]


class Spread(TypedDict):
    """Accuracies over seeds or folds."""

    values: Annotated[list[Share], msgspec.Meta(min_length=1)]


class SummaryAbout(TypedDict):
    """How several runs were made."""

    config: Settings
    seeds: NotRequired[list[int]]
    folds: NotRequired[int]
    repeats: NotRequired[int]
    fold_seed: NotRequired[int]
    groups: NotRequired[list[str]]


class SummaryFile(TypedDict):
    """``summary.json`` of several seeds or of folds."""

    pooled: Scores
    about: SummaryAbout
    accuracy: NotRequired[Spread]
    judged: NotRequired[Annotated[str, one_of("test", "dev_last")]]
    test: NotRequired[Spread]
    dev_last: NotRequired[Spread]


class FoldFile(TypedDict):
    """``done.json`` of a fold."""

    about: dict[str, Any]
    probabilities: list[list[Share]]


class SplitRow(TypedDict):
    """A row of a run's ``split.csv``."""

    split: Annotated[str, one_of("train", "dev", "test")]
    genre: Annotated[str, msgspec.Meta(min_length=1)]
    file: Annotated[str, msgspec.Meta(min_length=1)]


def read_config_file(run: str | Path) -> ConfigFile:
    """Read ``config.json`` of a run folder; raises MelvisionError when it is missing or damaged."""
    return read_json(Path(run) / CONFIG, ConfigFile, f"{run} is no run to resume; restore it, or train again")


#: Settings that had another name in earlier versions: their flags and config.json files are still read.
OLD_NAMES = {"colour": "random_eq"}


def current_names(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings that an earlier version wrote under the names that they have now."""
    settings = {OLD_NAMES.get(name, name): value for name, value in settings.items()}
    if "texture" in settings:  # before the experts had weights of their own
        weights = {"experts": "network:0.3,texture:0.7" if settings.pop("texture") else "network", "soft_labels": 0.0}
        settings |= weights | {"model": "vgg_small" if settings.get("model") == "vgg" else settings.get("model")}
    return settings


def seed_folder(folder: str | Path, seed: int) -> Path:
    """The run folder of one seed in a folder of runs."""
    return Path(folder) / f"seed-{seed}"


def seed_files(folder: str | Path, name: str) -> list[Path]:
    """The files of one name, such as `MODEL`, that the seeds of a folder of runs have, sorted."""
    return sorted(Path(folder).glob(f"seed-*/{name}"))


def known_runs(folder: str | Path = RUNS) -> list[str]:
    """The finished runs in a folder of runs, the newest last: what a command could be given."""
    runs = [path for path in Path(folder).glob("*") if (path / MODEL).is_file() or (path / SUMMARY).is_file()]
    return [path.as_posix() for path in sorted(runs, key=lambda path: path.stat().st_mtime)]


def runs_here() -> str:
    """The newest of the runs in this folder's ``runs``, in words, to end a message with."""
    found = known_runs()
    if not found:
        return "there is none in runs yet: python -m vision.train makes one"
    return f"in runs there are {', '.join(found[-5:])}" if len(found) > 1 else f"in runs there is {found[0]}"


def read_split(run: str | Path, todo: str = TODO) -> list[SplitRow]:
    """Read ``split.csv`` of a run folder, or of the first of several seeds: all are trained on the same split.

    Parameters
    ----------
    run : str or Path
        The folder.
    todo : str
        As of `read_json`.

    Raises
    ------
    MelvisionError
        When it is missing or damaged, or names no train picture.
    """
    path = next(iter(seed_files(run, SPLIT)), Path(run) / SPLIT)
    rows = read_rows(path, SplitRow, todo)
    if not any(row["split"] == "train" for row in rows):
        raise MelvisionError(f"{path}: names no train picture; {todo}")
    return rows


def trained_tracks(run: str | Path, *, pieces: bool = False) -> set[tuple[str, str]]:
    """Return the tracks that a model was trained on.

    Parameters
    ----------
    run : str or Path
        Run folder, its ``model.pt``, or a folder of several seeds.
    pieces : bool
        As of `keys.track_key`.

    Returns
    -------
    tracks : set of (str, str)
        Genre, in composed Unicode form, and `keys.picture_key`.

    Raises
    ------
    MelvisionError
        When ``split.csv`` of the run is missing or damaged.
    """
    folder = Path(run) if Path(run).is_dir() else Path(run).parent
    if not Path(run).exists() and not (folder / SPLIT).exists():
        raise MelvisionError(f"{run}: there is no such run; expected a run folder of vision.train")
    todo = (
        "so it is unknown what the model was trained on, and it cannot judge the labels of its own training set; use "
        "the predictions of vision.crossval (--predictions)"
    )
    rows = [row for row in read_split(folder, todo) if row["split"] == "train"]
    keys = ((row["genre"], picture_key(row["genre"], row["file"], pieces=pieces)) for row in rows)
    return {(unicodedata.normalize("NFC", genre), key) for genre, key in keys}

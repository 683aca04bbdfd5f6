"""One training for each of several seeds, or for each fold of a cross-validation."""

import logging
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from render import atomic
from render.cli import note_and_failure_lines
from render.errors import MelvisionError, ParameterError
from vision.data.dataset import Pictures, list_pictures, read_folder
from vision.data.folder_lock import locked
from vision.data.preprocess import Preprocessor
from vision.data.validate import read_json
from vision.inference.windows import predict_proba
from vision.models import run_files
from vision.reports import metrics
from vision.reports.scoring import count_trained_on
from vision.reports.tables import (
    SplitPredictions,
    accuracy_text,
    read_split_predictions,
    share_right,
    summary_line,
    tracks_right,
)
from vision.splits.folds import make_folds, picture_groups, select_pictures
from vision.splits.groups import merge_groups, read_groups
from vision.splits.keys import possible_pieces
from vision.splits.leaks import find_splits
from vision.splits.tracks import missing_genres, number_tracks, small_genres
from vision.training.config import TrainConfig, command_of, parse_seeds
from vision.training.distributed import Distributed
from vision.training.loop import RunContext, learn
from vision.training.report import PooledResult, write_pooled
from vision.training.run import (
    LAST,
    check_genres,
    check_model,
    describe_run,
    fit,
    make_model_spec,
    pick_hardware,
    read_spec,
    run_folder,
    versions,
)  # fmt: skip
from vision.training.state import read_state


@dataclass
class CrossValidationResult:
    """What `cross_validate` returns.

    Attributes
    ----------
    run : Path
        Folder of the results.
    accuracy : dict
        Mean, standard deviation and interval over the folds, and their values; see `metrics.mean_and_interval`.
    scores : dict
        Of all held-out tracks together; see `metrics.score`.
    problems : list of str
        Pictures that could not be used.
    notes : list of str
        What else the user should know of the pictures.
    """

    run: Path
    accuracy: dict[str, Any]
    scores: dict[str, Any]
    problems: list[str]
    notes: list[str]


def cross_validate(
    images: str | Path,
    config: TrainConfig,
    *,
    folds: int = 10,
    repeats: int = 1,
    fold_seed: int = 0,
    groups: Sequence[str | Path] = (),
    pieces: bool = False,
    out: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> CrossValidationResult:
    """Train a model for each fold of a folder of pictures, and score it on the tracks held out.

    Every model is trained for its whole schedule: no epoch is chosen on what it is scored on. Called again with the
    same arguments, it goes on where it was interrupted.

    Parameters
    ----------
    images : str or Path
        Folder of genre folders.
    config : TrainConfig
        Its `data` is not used.
    folds : int
        At least 2. Pictures of one track, equal pictures and pictures of one group are in one fold.
    repeats : int
        How many whole cross-validations, with other folds each.
    fold_seed : int
        Seed of the assignment to folds.
    groups : sequence of str or Path
        Files of groups, such as artists; see `read_groups`.
    pieces : bool
        Whether names that differ in a number at their end only are pieces of one track.
    out : str or Path, optional
        Folder of the results; by default ``runs/crossval-<recipe>``.
    progress : callable, optional
        Takes a line of text for the user, such as `print`. By default lines go to `logging`.

    Returns
    -------
    result : CrossValidationResult

    Raises
    ------
    MelvisionError
        When a setting is out of range, there are too few tracks, or `out` holds another cross-validation.
    """
    config = replace(config, data=str(images))
    check_folds(config, folds, repeats)
    say = progress or logging.getLogger(__name__).info
    tables = merge_groups([read_groups(path) for path in groups])
    out = Path(out or f"runs/crossval-{config.recipe}")
    if (out / run_files.SUMMARY).exists():
        raise MelvisionError(f"{out}: is complete already; choose another folder")
    pictures, how = _read(config, images)
    for line in note_and_failure_lines(pictures.notes, pictures.problems):
        say(line)
    if not pieces:
        names = zip(pictures.y.tolist(), pictures.paths, strict=True)
        for note in possible_pieces(images, [(pictures.classes[label], path) for label, path in names]):
            say(f"note: {note}")
    pictures.tracks = number_tracks(pictures, pieces=pieces)
    check_genres(pictures, images)
    if config.init and (n := count_trained_on(config.init, pictures, sorted(set(pictures.tracks)), pieces=pieces)):
        raise MelvisionError(f"{config.init}: was trained on {n} of the tracks that folds score; choose another run")
    how["groups"] = picture_groups(pictures, groups=tables, pieces=pieces)
    about = {"config": asdict(config), "folds": folds, "repeats": repeats, "fold_seed": fold_seed}
    about |= {"groups": [str(path) for path in groups], "versions": versions()}
    with locked(out, "cross-validating"):
        cuts = [
            make_folds(pictures, groups=tables, folds=folds, repeat=repeat, seed=fold_seed, pieces=pieces)
            for repeat in range(repeats)
        ]
        for note in small_genres(pictures, images):
            say(f"note: {note}")
        predictions, parts = _run_folds(config, pictures, cuts, how, out, progress)
        accuracy = metrics.mean_and_interval([accuracy for _, accuracy, _ in parts])
        _report_folds(out, predictions, pictures.classes, parts, about)
        for repeat, number in np.ndindex(repeats, folds):
            shutil.rmtree(_fold_folder(out, repeat, number))
    return CrossValidationResult(out, accuracy, predictions.score(), pictures.problems, pictures.notes)


def _fold_folder(out: Path, repeat: int, number: int) -> Path:
    return out / f"fold-{repeat + 1}-{number + 1:02}"


def _run_folds(
    config: TrainConfig,
    pictures: Pictures,
    cuts: Sequence[Sequence[tuple[list[int], list[int]]]],
    how: dict[str, Any],
    out: Path,
    progress: Callable[[str], None] | None,
) -> tuple[SplitPredictions, list[tuple[str, float, int]]]:
    """Train on every fold of every repeat; returns the mean predictions of held-out pictures, and each fold's score."""
    say = progress or logging.getLogger(__name__).info
    parts, total = [], np.zeros((len(pictures.y), len(pictures.classes)))
    for repeat, folds in enumerate(cuts):
        for number, (train, held_out) in enumerate(folds):
            # Lines of each epoch would be too many; the bar shows them.
            folder = _fold_folder(out, repeat, number)
            context = RunContext(folder, how["hardware"].device, progress=progress and no_lines)
            probabilities = run_fold(config, pictures, (train, held_out), how, context)
            total[held_out] += probabilities
            y, tracks = pictures.y[held_out].numpy(), [pictures.tracks[picture] for picture in held_out]
            scores = metrics.score(y, probabilities, tracks)
            name = f"fold {number + 1}" + (f", repeat {repeat + 1}" if len(cuts) > 1 else "")
            parts.append((name, scores["accuracy"], scores["n"]))
            say(f"fold {number + 1} of {len(folds)}, repeat {repeat + 1}: {accuracy_text(scores)}")
            for note in missing_genres(pictures.classes, {f"fold {number + 1}": y.tolist()}):
                say(f"note: {note}")
    scored = np.flatnonzero(total.sum(axis=1))
    every = select_pictures(pictures, scored.tolist())
    return SplitPredictions(every.paths, every.y.numpy(), total[scored] / len(cuts), every.tracks), parts


def no_lines(line: str) -> None:
    """Stand for `print` where bars are to be shown and lines are not."""


def check_folds(config: TrainConfig, folds: int, repeats: int) -> None:
    """Raise ParameterError where a cross-validation cannot be made of these settings."""
    config.check()
    if folds < 2:
        raise ParameterError("folds", folds, "at least 2")
    if repeats < 1:
        raise ParameterError("repeats", repeats, "at least 1")
    if config.log != "csv":
        raise ParameterError("log", config.log, "csv: the history of a fold is not kept")
    if config.patience:
        raise ParameterError("patience", config.patience, "0: a cross-validation has no dev set to choose an epoch by")


def _read(config: TrainConfig, images: str | Path) -> tuple[Pictures, dict[str, Any]]:
    """All pictures, and how they were read."""
    if find_splits(images):
        raise MelvisionError(f"{images}: holds train, dev, test; name the folder of genre folders that it was made of")
    hardware = pick_hardware(config)
    check_model(config)
    spec = read_spec(config, list_pictures(images))
    pictures = read_folder(images, Preprocessor(spec))
    return pictures, {"spec": replace(spec, channels=pictures.x.channels), "hardware": hardware}


def run_fold(
    config: TrainConfig,
    pictures: Pictures,
    numbers: tuple[list[int], list[int]],
    how: dict[str, Any],
    context: RunContext,
) -> np.ndarray:
    """Train on some pictures and score others, or read what an earlier call left.

    Parameters
    ----------
    config : TrainConfig
    pictures : Pictures
        All of them.
    numbers : (list of int, list of int)
        Which to train on and which to score; from `make_folds`.
    how : dict
        ``spec``, how they were read, ``hardware``, from `pick_hardware`, and ``groups``, from `picture_groups`.
    context : RunContext
        Its folder is that of this fold.

    Returns
    -------
    probabilities : np.ndarray, shape (n, n_classes)
        Of the scored pictures.
    """
    train, held_out = (select_pictures(pictures, part) for part in numbers)
    out = context.out
    check_genres(train, out)
    about = describe_run(config, how["hardware"], {"train": train, "held out": held_out})
    done = out / run_files.FOLD
    if done.exists():
        earlier = read_json(done, run_files.FoldFile, "delete it, and this fold is done again")
        if len(earlier["probabilities"]) != len(held_out.y) or {len(p) for p in earlier["probabilities"]} != {
            len(held_out.classes)
        }:
            raise MelvisionError(f"{done}: is not of these pictures; delete it, and this fold is done again")
        if earlier["about"] != about:
            raise MelvisionError(f"{out}: was done with other settings or pictures; choose another folder")
        return np.array(earlier["probabilities"])
    out.mkdir(parents=True, exist_ok=True)
    spec = make_model_spec(config, train, how["spec"], dict(about))
    groups = [how["groups"][number] for number in numbers[0]]
    _, model = learn(config, spec, train, None, context, read_state(out, about, context.say), groups)
    probabilities = predict_proba(model, held_out.x).double().numpy()
    atomic.write_json(done, {"about": about, "probabilities": probabilities.tolist()}, indent=None)
    for name in (run_files.MODEL, run_files.STATE, run_files.OLDER_STATE):
        (out / name).unlink(missing_ok=True)
    return probabilities


def _report_folds(
    out: Path,
    predictions: SplitPredictions,
    classes: list[str],
    parts: list[tuple[str, float, int]],
    about: dict[str, Any],
) -> None:
    """Write the report of a cross-validation, of all held-out tracks."""
    accuracy = metrics.mean_and_interval([accuracy for _, accuracy, _ in parts])
    folds = f"{about['folds']} folds" + (f", {about['repeats']} times" if about["repeats"] > 1 else "")
    named = " and ".join(Path(path).name for path in about["groups"])
    folds += f", groups of {named}" if named else ", duplicates kept together"
    lines = [summary_line(f"Accuracy over {folds}", accuracy)]
    lines.append("Each model was trained for its whole schedule: no epoch was chosen on what it is scored on.")
    low, high = (f"{100 * end:.0f}" for end in accuracy["interval"])
    headline = f"{100 * accuracy['mean']:.0f} % ({low} to {high} %) of tracks right, mean over {folds}."
    lines.append(f"All folds together: {tracks_right(predictions.score(), 'held-out')}.")
    config = TrainConfig.from_dict(about["config"])
    command = command_of(config, f"python -m vision.crossval {shlex.quote(config.data)}")
    command += f" --folds {about['folds']} --repeats {about['repeats']} --fold-seed {about['fold_seed']}"
    command += "".join(f" --groups {shlex.quote(path)}" for path in about["groups"])
    images, page = shlex.quote(config.data), shlex.quote(str(out))
    after = [
        ("Train a model with these settings:", command_of(replace(config, data="data"))),
        ("See whether another recipe's folds differ by more than chance:", f"python -m vision.compare {page} OTHER"),
        ("Look at labels that the folds doubt:",
         f"python -m vision.check {images} --predictions {shlex.quote(str(out / run_files.PREDICTIONS))}"),
    ]  # fmt: skip
    result = PooledResult(
        title=f"held-out tracks of {folds}", headline=headline, lines=lines, predictions=predictions,
        classes=classes, summary={"accuracy": accuracy}, about=about, note=about["config"]["note"],
        part_name="fold", parts=parts, interval=accuracy["interval"], command=command, next_commands=after,
    )  # fmt: skip
    write_pooled(out, result)


def read_seeds(out: str | Path) -> tuple[TrainConfig, list[int]]:
    """The settings and seeds of a folder of runs.

    Raises
    ------
    MelvisionError
        When ``seeds.json`` is missing or damaged.
    """
    path = Path(out) / run_files.SEEDS
    content = read_json(path, run_files.SeedsFile, f"{out} is no folder of runs")
    try:
        return TrainConfig.from_dict(content["config"]), parse_seeds(",".join(map(str, content["seeds"])))
    except ParameterError as error:
        raise MelvisionError(f"{path}: seeds: found {error.value}; expected {error.expected}") from None
    except ValueError as error:
        raise MelvisionError(f"{path}: {error}; {run_files.TODO}") from None


@dataclass
class SeedsResult:
    """What `fit_seeds` returns.

    Attributes
    ----------
    run : Path
        Folder of the runs, ``seed-0`` and so on.
    scores : dict or None
        Accuracy over the seeds, see `metrics.mean_and_interval`, by ``"dev"``, ``"dev_last"`` and, where there is one,
        ``"test"``; None in all but the first of several processes.
    together : dict or None
        Scores of the mean of all models' probabilities; see `metrics.score`.
    problems : list of str
        Pictures that could not be used.
    notes : list of str
        What else the user should know of the pictures.
    """

    run: Path
    scores: dict[str, Any] | None
    together: dict[str, Any] | None
    problems: list[str]
    notes: list[str]

    @property
    def judged(self) -> str:
        """Which of `scores` the model is judged by: test, or the last epoch's dev where there is none."""
        return "test" if "test" in (self.scores or ()) else LAST


def fit_seeds(
    config: TrainConfig,
    seeds: Sequence[int],
    out: str | Path | None = None,
    *,
    resume: bool = False,
    progress: Callable[[str], None] | None = None,
) -> SeedsResult:
    """Train once for each seed, into ``seed-0`` and so on, and report them together.

    Parameters
    ----------
    config : TrainConfig
        Its seed is not used.
    seeds : sequence of int
        One a run.
    out : str or Path, optional
        Folder of the runs; by default the first of ``runs/<recipe>-001`` and so on that is free.
    resume : bool
        Go on with what `out` holds: complete runs are kept, an interrupted one is resumed.
    progress : callable, optional
        Takes a line of text for the user, such as `print`. By default lines go to `logging`.

    Returns
    -------
    result : SeedsResult
    """
    with Distributed() as distributed, run_folder(config, out, resume, distributed) as folder:
        context = RunContext(folder, pick_hardware(config, distributed).device, distributed, progress)
        if distributed.is_first:
            atomic.write_json(folder / run_files.SEEDS, {"seeds": list(seeds), "config": asdict(config)})
        problems, notes = [], []
        for seed in seeds:
            of_seed = run_files.seed_folder(folder, seed)
            if (of_seed / run_files.METRICS).exists():
                continue
            context.say(f"seed {seed}:")
            result = fit(replace(config, seed=seed), of_seed, resume=True, progress=progress)
            problems += [line for line in result.problems if line not in problems]
            notes += [line for line in result.notes if line not in notes]
        if not distributed.is_first:
            return SeedsResult(folder, None, None, problems, notes)
        return SeedsResult(folder, *_report_seeds(folder, seeds, config), problems, notes)


def _report_seeds(out: Path, seeds: Sequence[int], config: TrainConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the report of all seeds; returns their accuracies, and the scores of all of them together."""
    folders = [run_files.seed_folder(out, seed) for seed in seeds]
    read = (read_json(folder / run_files.METRICS, run_files.MetricsFile, run_files.TODO) for folder in folders)
    scores: list[dict[str, Any]] = [dict(of_seed) for of_seed in read]
    judged = "test" if "test" in scores[0] else LAST
    summary = {
        split: metrics.mean_and_interval([of_seed[split]["accuracy"] for of_seed in scores])
        for split in dict.fromkeys(["dev", LAST, judged])
    }
    predictions = [read_split_predictions(folder / run_files.PREDICTIONS, judged) for folder in folders]
    of_first, classes = predictions[0]
    probabilities = np.mean([of_seed.probabilities for of_seed, _ in predictions], axis=0)
    combined = of_first._replace(probabilities=probabilities)
    together = combined.score()
    named = {"dev": "dev, kept epochs (optimistic: dev chose them)", LAST: "dev, last epochs", "test": "test"}
    lines = [summary_line(named[split], scores) for split, scores in summary.items()]
    lines.append(f"{named[judged]}, mean of the {len(seeds)} models' probabilities: {accuracy_text(together)}")
    about = {"config": asdict(config), "seeds": list(seeds), "versions": versions()}
    side = judged.split("_")[0]
    headline = f"{100 * summary[judged]['mean']:.0f} % of {together['n']} {side} tracks right, mean of {len(seeds)} "
    headline += f"seeds. All models together: {share_right(together, side)}"
    run = shlex.quote(str(out))
    command = f"{command_of(config, seed=False)} --seeds {','.join(map(str, seeds))}"
    after = [
        ("Predict with the mean of these models:", f"python -m vision.predict {run} song.mp3"),
        ("See whether another recipe differs by more than chance:", f"python -m vision.compare {run} OTHER"),
        ("Train the model to use on all tracks:", f"python -m vision.train --final --like {run}/seed-{seeds[0]}"),
    ]
    result = PooledResult(
        title=f"{side} tracks, all seeds together", headline=headline, lines=lines,
        predictions=combined, classes=classes,
        summary=summary | {"judged": judged}, about=about, note=config.note,
        part_name="seed", parts=[(f"seed {seed}", of_seed[judged]["accuracy"], of_seed[judged]["n"])
                                 for seed, of_seed in zip(seeds, scores, strict=True)],
        interval=summary[judged]["interval"], command=command, next_commands=after,
    )  # fmt: skip
    write_pooled(out, result)
    return summary, together

"""Doubtful labels, by confident learning (Northcutt, Jiang and Chuang, 2021) on held-out probabilities."""

import csv
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import numpy as np

from render.cli import plural
from render.errors import MelvisionError
from vision.data.csv_files import open_csv
from vision.inference.predictor import Predictor
from vision.models.run_files import trained_tracks
from vision.quality.inspect import Finding, FolderReport
from vision.reports.tables import genre_columns

_EXPECTED = "expected the predictions.csv that vision.crossval writes: split,file,genre and so on, and a column a genre"


@dataclass
class LabelIssue:
    """A picture that a model, which was not trained on it, confidently takes for another genre.

    Attributes
    ----------
    index : int
        Which picture of the report.
    suggested : str
        The genre that the model predicts.
    p_given, p_suggested : float
        The probabilities of the picture's genre folder and of the suggested genre.
    """

    index: int
    suggested: str
    p_given: float
    p_suggested: float


def find_label_issues(y: np.ndarray, probabilities: np.ndarray) -> tuple[list[int], list[int]]:
    """Find pictures that a model assigns to another genre with more confidence than is typical of that genre.

    A genre's typical confidence is the mean probability that its own pictures get (the class threshold of confident
    learning). So genres for which the model is under- or over-confident count alike.

    Parameters
    ----------
    y : np.ndarray, shape (n,), int
        Labels.
    probabilities : np.ndarray, shape (n, n_classes)
        Of a model that was not trained on the pictures.

    Returns
    -------
    indices : list of int
        The doubtful pictures, the most doubtful first.
    suggested : list of int
        The label suggested for each.
    """
    if not len(y):
        return [], []
    thresholds = np.full(probabilities.shape[1], np.inf)
    for label in np.unique(y):
        thresholds[label] = probabilities[y == label, label].mean()
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    suggested = confident.argmax(axis=1)
    rows = np.arange(len(y))
    margin = confident[rows, suggested] - probabilities[rows, y]
    indices = np.flatnonzero((suggested != y) & (margin > 0))
    indices = indices[np.argsort(-margin[indices], kind="stable")]
    return indices.tolist(), suggested[indices].tolist()


def file_key(path: str | Path) -> tuple[str, str]:
    """Return the genre folder and the name of a picture, by which it is recognised wherever its folder is now.

    Both are in composed Unicode form: one system may have decomposed them.
    """
    genre, name = (unicodedata.normalize("NFC", part) for part in (Path(path).parent.name, Path(path).name))
    return genre, name


def read_predictions(path: str | Path) -> tuple[list[str], dict[tuple[str, str], np.ndarray], set[tuple[str, str]]]:
    """Read the probabilities of pictures that a model was not trained on.

    Parameters
    ----------
    path : str or Path
        ``predictions.csv`` of `vision.crossval`, or of a run, whose train rows give no probabilities.

    Returns
    -------
    classes : list of str
        Genres, in the order of the probabilities.
    probabilities : dict of tuple to np.ndarray, shape (n_classes,)
        By `file_key`.
    trained : set of tuple
        `file_key` of the train rows.

    Raises
    ------
    MelvisionError
        When it is no such file.
    """
    probabilities, trained = {}, set()
    try:
        with open_csv(path) as file:
            rows = csv.reader(file)
            header = next(rows, [])
            classes = genre_columns(header)
            if not classes:
                raise MelvisionError(f"{path}: begins with {','.join(header)[:60]!r}; {_EXPECTED}")
            for row in rows:
                p = np.array([float(value) for value in row[len(header) - len(classes) :]])
                if len(p) != len(classes) or not np.isfinite(p).all():
                    raise ValueError
                if row[0] == "train":
                    trained.add(file_key(row[1]))
                else:
                    probabilities[file_key(row[1])] = p
    except MelvisionError:
        raise
    except (ValueError, IndexError, csv.Error):
        raise MelvisionError(f"{path}: is damaged at line {rows.line_num}; {_EXPECTED}") from None
    except OSError as error:
        raise MelvisionError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}") from None
    return classes, probabilities, trained


def judge_labels(
    report: FolderReport,
    classes: Sequence[str],
    probabilities: Mapping[int, np.ndarray],
    trained: Set[int],
    source: str,
) -> None:
    """Find the doubtful labels among the pictures that a model was not trained on.

    Parameters
    ----------
    report : FolderReport
        From `inspect_folder`; its `label_issues` and `findings` are extended.
    classes : sequence of str
        Genres, in the order of the probabilities.
    probabilities : dict of int to np.ndarray, shape (n_classes,)
        The model's probabilities of some of the pictures.
    trained : set of int
        Pictures that the model was trained on. Neither these are judged nor pictures of the same recordings.
    source : str
        Where the probabilities come from.
    """
    pictures = report.pictures
    seen = {index for recording in report.recordings if trained & set(recording) for index in recording} | trained
    judged = [index for index in sorted(probabilities) if index not in seen and pictures[index].genre in classes]
    y = np.array([classes.index(pictures[index].genre) for index in judged], np.int64)
    p = np.array([probabilities[index] for index in judged])
    for row, label in zip(*find_label_issues(y, p), strict=True):
        issue = LabelIssue(judged[row], classes[label], float(p[row, y[row]]), float(p[row, label]))
        report.label_issues.append(issue)
    if report.label_issues:
        files = [pictures[issue.index].file for issue in report.label_issues]
        message = (
            f"{plural(len(files), 'picture')} of {len(judged)} with a doubtful label, according to {source}: listen "
        )
        report.findings.append(Finding("doubtful", message + "before moving one, because the model errs too", files))
    usable = sum(not info.problem for info in pictures)
    rest = usable - len(judged)
    if rest:
        message = f"{rest} of {usable} pictures were not judged by {source}"
        if seen:
            message += f": {len(seen)} are in the training set, or show a recording that is, so the model cannot judge "
            message += "them; the predictions of vision.crossval judge all: --predictions"
        report.findings.append(Finding("unjudged", message, attention=not judged))


def judge_by_predictions(report: FolderReport, path: str | Path) -> None:
    """Find doubtful labels with the predictions in a file.

    Parameters
    ----------
    report : FolderReport
        As for `judge_labels`.
    path : str or Path
        As for `read_predictions`.

    Raises
    ------
    MelvisionError
        When the file cannot be used, or names no picture of the folder.
    """
    classes, by_key, trained_keys = read_predictions(path)
    keys = {index: file_key(f"{info.genre}/{info.file}") for index, info in _usable(report).items()}
    probabilities = {index: by_key[key] for index, key in keys.items() if key in by_key}
    trained = {index for index, key in keys.items() if key in trained_keys}
    if not probabilities and not trained:
        example = "/".join(next(iter(keys.values()), ("", "")))
        raise MelvisionError(f"{path}: names no picture of {report.root}, which are named like {example}")
    judge_labels(report, classes, probabilities, trained, str(path))


def judge_by_model(
    report: FolderReport, run: str | Path, *, device: str = "auto", progress: Callable[..., Iterable] | None = None
) -> None:
    """Find doubtful labels with a trained model, among the pictures that it was not trained on.

    Parameters
    ----------
    report : FolderReport
        As for `judge_labels`.
    run : str or Path
        As for `Predictor`; its ``split.csv`` must be there.
    device : str
        As for `Predictor`.
    progress : callable, optional
        Wraps what is iterated over, as `render.cli.progress` does, to show the progress.

    Raises
    ------
    MelvisionError
        When the run cannot be used, or knows none of the genres.
    """
    usable = _usable(report)
    tracks = trained_tracks(run, pieces=any(info.pieces for info in usable.values()))
    trained = {index for index, info in usable.items() if (normalize("NFC", info.genre), info.track[1]) in tracks}
    predictor = Predictor(run, device)
    if not set(report.genres) & set(predictor.classes):
        raise MelvisionError(f"{run}: knows {', '.join(predictor.classes)}; {report.root} has none of these genres")
    indices = [index for index, info in usable.items() if index not in trained and info.genre in predictor.classes]
    paths = [Path(report.root) / usable[index].file for index in indices]
    predictions: Iterable = predictor.predict_each(paths)
    if progress:
        predictions = progress(predictions, total=len(paths), desc="predict", unit="picture")
    by_index = {index: prediction.p for index, prediction in zip(indices, predictions, strict=True)}
    probabilities = {index: p for index, p in by_index.items() if p is not None}
    judge_labels(report, predictor.classes, probabilities, trained, str(run))


def _usable(report):
    return {index: info for index, info in enumerate(report.pictures) if not info.problem}

"""Labels that a model doubts: confident learning (Northcutt, Jiang and Chuang, 2021) on held-out probabilities."""

import csv
from pathlib import Path

import numpy as np

from render.errors import MelvisionError

_EXPECTED = "expected the predictions.csv that vision.crossval writes: split,file,genre,predicted and a column a genre"


def find_label_issues(y, probabilities):
    """Pictures that a model takes for another genre with more confidence than it usually has in that genre.

    A genre's usual confidence is the mean probability that its own pictures get. So a genre that the
    model is timid about counts as much as one that it is bold about.

    Parameters
    ----------
    y : np.ndarray, shape (n,), int
        Labels.
    probabilities : np.ndarray, shape (n, n_classes)
        Of a model that did not learn from the picture.

    Returns
    -------
    numbers : list of int
        The doubtful pictures, the most doubtful first.
    suggested : list of int
        What the model takes each for.
    """
    if not len(y):
        return [], []
    everyone = np.arange(len(y))
    usual = np.full(probabilities.shape[1], np.inf)
    for label in np.unique(y):
        usual[label] = probabilities[y == label, label].mean()
    confident = np.where(probabilities >= usual, probabilities, -1.0)
    suggested = confident.argmax(axis=1)
    gap = confident[everyone, suggested] - probabilities[everyone, y]
    numbers = np.flatnonzero((suggested != y) & (gap > 0))
    numbers = numbers[np.argsort(-gap[numbers], kind="stable")]
    return numbers.tolist(), suggested[numbers].tolist()


def file_key(path):
    """What a picture is found by, wherever its folder lies now: genre folder and file name."""
    return Path(path).parent.name, Path(path).name


def read_predictions(path):
    """Read the probabilities of pictures that a model did not learn from.

    Parameters
    ----------
    path : str or Path
        ``predictions.csv`` of `vision.crossval`, or of a run: its train rows are passed over.

    Returns
    -------
    classes : list of str
        Genres, in the order of the probabilities.
    found : dict of tuple to np.ndarray, shape (n_classes,)
        Probabilities by `file_key`.
    learned : set of tuple
        `file_key` of the train rows.

    Raises
    ------
    MelvisionError
        When it is no such file.
    """
    found, learned = {}, set()
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file)
            head = next(rows, [])
            classes = head[4:]
            if head[:4] != ["split", "file", "genre", "predicted"] or not classes:
                raise MelvisionError(f"{path}: begins with {','.join(head[:4])[:60]!r}; {_EXPECTED}")
            for row in rows:
                p = np.array([float(value) for value in row[4:]])
                if len(p) != len(classes) or not np.isfinite(p).all():
                    raise ValueError
                if row[0] == "train":
                    learned.add(file_key(row[1]))
                else:
                    found[file_key(row[1])] = p
    except MelvisionError:
        raise
    except (ValueError, IndexError, csv.Error):
        raise MelvisionError(f"{path}: is damaged at line {rows.line_num}; {_EXPECTED}") from None
    except OSError as error:
        raise MelvisionError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}") from None
    return classes, found, learned

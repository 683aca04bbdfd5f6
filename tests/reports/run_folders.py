"""Run folders with the files that comparisons read, made in no time."""

import json

import numpy as np

from vision.models import run_files
from vision.reports import metrics
from vision.reports.tables import SplitPredictions, write_split_predictions
from vision.splits.keys import picture_key
from vision.training.report import PooledResult, write_pooled

GENRES = ["blues", "jazz"]
CONFIG = {"data": "data", "recipe": "quick", "model": "cnn2", "seed": 0, "epochs": 4, "threads": None, "note": ""}


def predictions_of(pictures):
    """Predictions for paths of pictures: whether each is predicted right; its folder names the genre."""
    paths = list(pictures)
    y = np.array([GENRES.index(path.split("/")[-2]) for path in paths])
    p = np.array(
        [[0.8, 0.2] if label != good else [0.2, 0.8] for label, good in zip(y, pictures.values(), strict=True)]
    )
    keys = [(label, picture_key(GENRES[label], path)) for label, path in zip(y.tolist(), paths, strict=True)]
    return SplitPredictions(paths, y, p, [keys.index(key) for key in keys])


def make_run(folder, pictures, *, split="test", history=True, **config):
    """A run of ``vision.train``; `pictures` as of `predictions_of`."""
    folder.mkdir(parents=True)
    predictions = predictions_of(pictures)
    write_split_predictions(folder / run_files.PREDICTIONS, {split: predictions}, GENRES)
    (folder / run_files.CONFIG).write_text(json.dumps({"config": CONFIG | config}))
    if history:
        rows = ["1,1.5,0.4", "2,,", "3,0.9,0.6", "4,0.8,0.7"]
        (folder / run_files.HISTORY).write_text("\n".join(["epoch,dev_loss,dev_accuracy", *rows]) + "\n")
    scores = {split: metrics.score(predictions.y, predictions.probabilities, predictions.tracks)}
    (folder / run_files.METRICS).write_text(json.dumps(scores | {"kept_epoch": 3}))
    return folder


def make_pooled(folder, pictures, summary, **about):
    """A folder of several seeds or folds, as training writes it."""
    folder.mkdir(parents=True)
    about = {"config": CONFIG} | about
    parts = [("seed 0", 0.5, 4), ("seed 1", 0.75, 4)]
    predictions = predictions_of(pictures)
    write_pooled(folder, PooledResult("title", "headline", [], predictions, GENRES, summary, about, parts, "seed"))
    return folder


def tracks(right, wrong=0, *, genre="blues", start=0, root="data/test"):
    """Paths of tracks by number: the first `right` of them are predicted right."""
    return {f"{root}/{genre}/{genre}.{start + n:05}.png": n < right for n in range(right + wrong)}

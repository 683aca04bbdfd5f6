"""Embeddings of files, and the tracks that are nearest to one by them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from render import atomic
from render.cli import progress
from render.errors import MelvisionError
from vision.inference.predictor import Prediction, Predictor
from vision.models import run_files

#: A run's embeddings of its own train pictures.
TRAIN_EMBEDDINGS = "train_embeddings.npz"


def pick_expert(predictor: Predictor, name: str | None = None) -> str:
    """Return the expert whose embeddings are taken: musicnn where the model has it, else the network, else texture.

    Parameters
    ----------
    predictor : Predictor
    name : str, optional
        The one that is asked for; ``"network"`` is the network, whatever its model.

    Raises
    ------
    MelvisionError
        When the model has no such expert, or is an exported file.
    """
    if not predictor.models:
        raise MelvisionError("an exported file gives no embeddings; name the run that it was exported from")
    network = predictor.models[0].network_name
    there = [expert for expert in ("musicnn", network, "texture") if expert in predictor.experts]
    name = network if name == "network" else name
    if name is not None and name not in there:
        raise MelvisionError(f"{name}: is no expert of this model; expected one of {', '.join(map(str, there))}")
    return str(name or there[0])


def embed(predictor: Predictor, files: Sequence[str | Path], expert: str | None = None) -> list[Prediction]:
    """Predict files and embed them; one that cannot be used costs itself only.

    Parameters
    ----------
    predictor : Predictor
        Of a run, not of an exported file.
    files : sequence of str or Path
        Pictures and recordings.
    expert : str, optional
        As of `pick_expert`.

    Returns
    -------
    predictions : list of Prediction
        In the order of the files; `Prediction.embedding` is None where one could not be used.
    """
    each = predictor.predict_each(files, embed=pick_expert(predictor, expert))
    return list(progress(each, total=len(files), desc="embed", unit="file"))


def check_ending(path: str | Path) -> None:
    """Raise MelvisionError unless a file's name ends as `write_embeddings` can write it."""
    if Path(path).suffix not in (".npz", ".csv", ".parquet"):
        raise MelvisionError(f"{path}: ends in {Path(path).suffix or 'nothing'}; expected .npz, .csv or .parquet")


def values_of(predictions: Sequence[Prediction]) -> np.ndarray:
    """Return the embeddings of predictions that all have one, (n, d)."""
    return np.stack([one.embedding for one in predictions if one.embedding is not None])


def write_embeddings(path: str | Path, predictions: Sequence[Prediction], classes: Sequence[str]) -> None:
    """Write the embeddings of files as a table, by the ending of its name.

    Parameters
    ----------
    path : str or Path
        ``.npz``: arrays ``files``, ``genres``, ``probabilities`` (n, n_classes), ``classes`` and ``embeddings`` (n, d).
        ``.csv`` and ``.parquet``: columns file, genre, probability, e0, e1, and so on.
    predictions : list of Prediction
        With embeddings.
    classes : list of str
        Genres of the model.

    Raises
    ------
    MelvisionError
        When the ending is another, ``.parquet`` needs a package that is not installed, or there is nothing to write.
    """
    path = Path(path)
    check_ending(path)
    if not predictions:
        raise MelvisionError(f"{path}: not written, because none of the files could be used")
    files = [str(one.path) for one in predictions]
    genres, values = [str(one.genre) for one in predictions], values_of(predictions)
    if path.suffix == ".npz":
        p = np.stack([one.p for one in predictions if one.p is not None])
        with atomic.replacing(path) as file:
            np.savez_compressed(file, files=files, genres=genres, probabilities=p, classes=classes, embeddings=values)
        return
    columns = ["file", "genre", "probability", *(f"e{number}" for number in range(values.shape[1]))]
    rows = [
        [file, genre, float(one.probability or 0), *map(float, of_file)]
        for file, genre, one, of_file in zip(files, genres, predictions, values, strict=True)
    ]
    if path.suffix == ".csv":
        atomic.write_csv(path, columns, ([*row[:2], *(f"{value:.6g}" for value in row[2:])] for row in rows))
    else:
        try:
            import pandas as pd

            with atomic.replacing(path) as file:
                pd.DataFrame(rows, columns=columns).to_parquet(file)
        except ImportError:
            raise MelvisionError(f"{path}: .parquet needs two more packages: pip install pandas pyarrow") from None


def nearest(values: np.ndarray, others: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest of some tracks to each of others.

    Parameters
    ----------
    values : np.ndarray, shape (m, d)
        Embeddings.
    others : np.ndarray, shape (k, d)
        Among which to look.
    n : int
        How many; no more than k.

    Returns
    -------
    numbers : np.ndarray, shape (m, n), int
        Rows of `others`, the nearest first.
    similarity : np.ndarray, shape (m, n), float
        Cosine of the angle between the two, in [-1, 1], as seen from the mean of `others`, in their standard
        deviations.
    """
    mean, std = others.mean(axis=0), others.std(axis=0) + 1e-6

    def direction(x: np.ndarray) -> np.ndarray:
        x = (x - mean) / std
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)

    cosines = direction(values) @ direction(others).T
    numbers = np.argsort(-cosines, axis=1, kind="stable")[:, : min(n, len(others))]
    return numbers, np.take_along_axis(cosines, numbers, axis=1)


def train_embeddings(predictor: Predictor, run: str | Path, expert: str | None = None) -> tuple[list[str], np.ndarray]:
    """Embed the tracks that a run was trained on; kept in the run folder for the next time.

    Parameters
    ----------
    predictor : Predictor
        Of the run.
    run : str or Path
        The run folder.
    expert : str, optional
        As of `pick_expert`.

    Returns
    -------
    files : list of str
        Their pictures, as ``split.csv`` names them.
    values : np.ndarray, shape (n, d), float32

    Raises
    ------
    MelvisionError
        When the run does not say what it was trained on, or none of those pictures is there any more.
    """
    run, expert = Path(run), pick_expert(predictor, expert)
    run = run.parent if run.is_file() else run
    models = run_files.seed_files(run, run_files.MODEL) if (run / run_files.SEEDS).exists() else [run / run_files.MODEL]
    todo = "without it the run does not say what it was trained on"
    files = [row["file"] for row in run_files.read_split(run, todo) if row["split"] == "train"]
    stored = run / TRAIN_EMBEDDINGS
    model = hashlib.blake2b(b"".join(path.read_bytes() for path in models), digest_size=16).hexdigest()
    if stored.is_file():
        try:
            with np.load(stored, allow_pickle=False) as arrays:
                if (str(arrays["model"]), str(arrays["expert"])) == (model, expert):
                    return arrays["files"].tolist(), arrays["values"]
        except (OSError, ValueError, KeyError):  # damaged: made anew
            pass
    there = [file for file in files if Path(file).is_file()]
    done = [one for one in embed(predictor, there, expert) if not one.error] if there else []
    if not done:
        raise MelvisionError(f"{run}: none of the {len(files)} pictures it was trained on is there any more")
    found, values = [str(one.path) for one in done], values_of(done)
    with atomic.replacing(stored) as file:
        np.savez_compressed(file, files=found, values=values, model=model, expert=expert)
    return found, values


class SimilarTracks:
    """The tracks that a run was trained on, to name those that are most like a new one.

    Parameters
    ----------
    predictor : Predictor
        Of the run.
    run : str or Path
        The run folder.
    n : int
        How many to name.
    """

    def __init__(self, predictor: Predictor, run: str | Path, n: int):
        self.n, self.expert = n, pick_expert(predictor)
        self.files, self._values = train_embeddings(predictor, run, self.expert)

    def of(self, prediction: Prediction) -> list[tuple[str, float]]:
        """Return the most similar tracks, the file and the similarity of each; see `nearest`."""
        assert prediction.embedding is not None
        numbers, similarity = nearest(prediction.embedding[None], self._values, self.n + 1)
        found = [(self.files[number], float(cosine)) for number, cosine in zip(numbers[0], similarity[0], strict=True)]
        own = Path(str(prediction.path)).resolve()
        return [one for one in found if Path(one[0]).resolve() != own][: self.n]

    def lines(self, prediction: Prediction) -> list[str]:
        """As `of`, a line each: ``"like jazz/jazz.00012.png (0.83)"``."""
        return [f"like {'/'.join(Path(file).parts[-2:])} ({cosine:.2f})" for file, cosine in self.of(prediction)]

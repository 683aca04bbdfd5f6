"""Score a trained model on a folder of pictures."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from render.cli import plural
from render.errors import MelvisionError
from vision.data.dataset import Pictures, list_pictures, read_folder
from vision.inference.predictor import Predictor
from vision.models import run_files
from vision.reports import metrics
from vision.reports.tables import SplitPredictions
from vision.splits.folder import named_pieces
from vision.splits.keys import picture_key, possible_pieces
from vision.splits.leaks import find_splits
from vision.splits.tracks import missing_genres, number_tracks


@dataclass
class RunScores:
    """How well a model predicts the pictures of one folder.

    Attributes
    ----------
    split : str
        ``"train"``, ``"dev"`` or ``"test"``; the folder, where it is none of these.
    folder : Path
        What was scored.
    scores : dict
        ``accuracy``, its ``interval``, ``macro_f1`` and so on; see `metrics.score`.
    table : dict
        Precision, recall, F1 and support of each genre; see `metrics.per_genre`.
    classes : list of str
        Genres of the model, in the order of the probabilities.
    predictions : SplitPredictions
        Paths, true labels and probabilities of the pictures.
    trained_on : int or None
        How many of the tracks are in the model's training set; None where no ``split.csv`` says.
    chosen_on : bool
        Whether the epoch that the model was kept from was chosen on these tracks.
    notes : list of str
        What the user should know of the pictures and the scores.
    problems : list of str
        Pictures that could not be used.
    """

    split: str
    folder: Path
    scores: dict[str, Any]
    table: dict[str, Any]
    classes: list[str]
    predictions: SplitPredictions
    trained_on: int | None
    chosen_on: bool
    notes: list[str]
    problems: list[str]

    @property
    def accuracy(self) -> float:
        """Share of the tracks that are predicted right, from 0 to 1."""
        return self.scores["accuracy"]


def score_run(
    run: str | Path,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    device: str = "auto",
    learn_margins: bool = False,
    pieces: bool = False,
) -> RunScores:
    """Score a trained model on the test pictures of its data folder, or on any folder of genres.

    Parameters
    ----------
    run : str or Path
        As for `Predictor`: a run folder, its ``model.pt``, a folder of seeds, or an exported ``.onnx`` file.
    data : str or Path, optional
        Folder with train, dev and test folders, or with genre folders; by default the one that the model was
        trained on.
    split : str, optional
        ``"train"``, ``"dev"`` or ``"test"``; by default test, or dev where there is no test.
    device : str
        ``"auto"``, or one to insist on.
    learn_margins : bool
        Learn the margins of picture sizes that the model has not met from this folder, instead of cutting each
        picture by its own edges.
    pieces : bool
        Whether names that differ in a number at their end only, such as ``song_0`` and ``song_1``, are pieces of one
        track. A data folder that was split so knows.

    Returns
    -------
    scores : RunScores

    Raises
    ------
    MelvisionError
        When there is no usable model, no such folder, or no usable picture, or a genre that the model does not know.

    Examples
    --------
    >>> score_run("runs/standard-001").accuracy               # doctest: +SKIP
    0.8611
    """
    predictor = Predictor(run, device)
    folder, name = _pick_folder(run, data or predictor.about.get("config", {}).get("data"), split)
    if learn_margins:
        predictor.learn_margins(list_pictures(folder))
    pictures = read_folder(folder, predictor.preprocessor, classes=predictor.classes)
    pieces = pieces or named_pieces(folder.parent)
    tracks = number_tracks(pictures, pieces=pieces)
    answers = predictor.answers(pictures.x)
    predictions = SplitPredictions(pictures.paths, pictures.y.numpy(), answers.p, tracks)
    y, probabilities, first = predictions.by_track()
    trained_on = count_trained_on(run, pictures, first.tolist(), pieces=pieces)
    scores = predictions.score()
    if answers.experts:
        scores["experts"] = {
            name: {"weight": predictor.experts[name]} | predictions._replace(probabilities=p).score()
            for name, p in answers.experts.items()
        }
    notes = pictures.notes + missing_genres(pictures.classes, {name: y.tolist()})
    if not pieces:
        named = zip(pictures.y.tolist(), pictures.paths, strict=True)
        notes += possible_pieces(folder, [(pictures.classes[label], path) for label, path in named])
    notes += _notes_on_training(run, trained_on, len(y))
    if len(y) < metrics.FEW_TRACKS:
        notes.append(f"{folder}: {plural(len(y), 'track is', 'tracks are')} too few to tell how good the model is")
    return RunScores(
        split=name,
        folder=folder,
        scores=scores,
        table=metrics.per_genre(y, probabilities, predictor.classes),
        classes=predictor.classes,
        predictions=predictions,
        trained_on=trained_on,
        chosen_on=name == "dev" and not data,
        notes=notes,
        problems=pictures.problems,
    )


def _pick_folder(run: str | Path, data: str | Path | None, split: str | None) -> tuple[Path, str]:
    """The folder to score, and what to call it."""
    if not data:
        raise MelvisionError(f"{run}: does not say what it was trained on; name a data folder to score it on")
    folders = find_splits(data)
    if not folders:
        if split:
            raise MelvisionError(f"{data}: has no {split} folder")
        return Path(data), str(Path(data))
    split = split or ("test" if "test" in folders else "dev")
    if split not in folders:
        raise MelvisionError(f"{data}: has no {split} folder; it has {', '.join(folders)}")
    return folders[split], split


def count_trained_on(run: str | Path, pictures: Pictures, first: Sequence[int], *, pieces: bool) -> int | None:
    """Return how many tracks, each given by its first picture, a run was trained on; None where no file says."""
    try:
        train = run_files.trained_tracks(run, pieces=pieces)
    except MelvisionError:
        return None
    names = [(pictures.classes[pictures.y[number]], pictures.paths[number]) for number in first]
    keys = ((genre, picture_key(genre, path, pieces=pieces)) for genre, path in names)
    return sum((unicodedata.normalize("NFC", genre), key) in train for genre, key in keys)


def _notes_on_training(run: str | Path, trained_on: int | None, n_tracks: int) -> list[str]:
    if trained_on is None:
        return [f"no split.csv beside {run}; these tracks may be in its training set"]
    if trained_on:
        return [f"{trained_on} of {n_tracks} tracks are in the training set; this score is optimistic"]
    return []

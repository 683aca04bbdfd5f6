"""A trained model applied to files: pictures as they are, audio drawn the way the model was trained."""

import contextlib
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch

from render.errors import MelvisionError, SilentError
from render.formats import AUDIO_ENDINGS, PICTURE_ENDINGS, SNDFILE_ENDINGS
from vision.data.pixel_store import PixelStore
from vision.data.preprocess import UNUSABLE, InputSpec, NetworkInput, Preprocessor
from vision.inference import onnx
from vision.inference.device import in_order, pick_device
from vision.inference.windows import compute_windows, predict_proba
from vision.models import run_files
from vision.models.spec import ModelSpec

if TYPE_CHECKING:  # not needed for an exported file, or optional
    import pandas

    from vision.models.classifier import GenreClassifier

#: Threads at most, because reading a long song takes some hundred MB; and the files that each takes at a time.
WORKERS, CHUNK = 8, 8

#: Why there is no prediction for silence: the network would give it some genre.
SILENT = "is silent, so it has no genre"

#: What is said of a file that is unlike all that the model knows.
UNLIKE = "is unlike the training music, so its genre means little"

#: What `Predictor.predict` takes besides files: samples, which need `sr`.
Source = str | Path | np.ndarray


class Answers(NamedTuple):
    """What the models say of pictures.

    Attributes
    ----------
    p : np.ndarray, shape (n, n_classes), float32
        Probabilities.
    distance : np.ndarray, shape (n,), or None
        How far each is from the train windows; see `TextureSpace.distance`. None where the models do not know.
    experts : dict of str to np.ndarray, shape (n, n_classes)
        Probabilities of each expert alone, not calibrated, by its name; empty of a single expert or an exported file.
    """

    p: np.ndarray
    distance: np.ndarray | None
    experts: dict[str, np.ndarray]


class Scorer(Protocol):
    """What gives probabilities: a `Predictor`, or an object that wraps one."""

    @property
    def spec(self) -> InputSpec:
        """How its input is made."""

    def probabilities(self, x: PixelStore) -> np.ndarray:
        """As `Predictor.probabilities`."""

    def answers(self, x: PixelStore) -> Answers:
        """As `Predictor.answers`."""


@dataclass
class Prediction:
    """What the model says of one file.

    Attributes
    ----------
    path : Path or None
        The file; None for samples.
    classes : list of str
        Genres.
    p : np.ndarray, shape (n_classes,), or None
        Their probabilities, in the order of `classes`; None where the file could not be used.
    error : str
        Why it could not be used; empty when it could.
    notes : list of str
        What the user should know of this one.
    seconds : float or None
        Length of the track.
    silent : bool
        Whether it could not be used because it holds no sound.
    unsure : bool
        Whether answers of this probability are wrong more often than right, on dev.
    embedding : np.ndarray, shape (d,), or None
        What an expert made of it, where that was asked for.
    unlike : bool
        Whether it is unlike the training music: its genre then means little.
    """

    path: Path | None
    classes: list[str] = field(default_factory=list, repr=False)
    p: np.ndarray | None = None
    error: str = ""
    notes: list[str] = field(default_factory=list)
    seconds: float | None = None
    silent: bool = False
    unsure: bool = False
    unlike: bool = False
    embedding: np.ndarray | None = field(default=None, repr=False, compare=False)
    _origin: "tuple[Predictor, Source, int | None] | None" = field(default=None, repr=False, compare=False)

    @property
    def genre(self) -> str | None:
        """The likeliest genre; None where the file could not be used."""
        return None if self.p is None else self.classes[int(self.p.argmax())]

    @property
    def headline(self) -> str | None:
        """The genre, or between which two the model cannot decide; None where the file could not be used."""
        first_two = list(self.probabilities)[:2]
        return f"unsure: {' or '.join(first_two)}" if self.unsure and len(first_two) == 2 else self.genre

    @property
    def probability(self) -> float | None:
        """The likeliest genre's probability."""
        return None if self.p is None else float(self.p.max())

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of each genre, the likeliest first; empty where the file could not be used."""
        if self.p is None:
            return {}
        return {self.classes[label]: float(self.p[label]) for label in (-self.p).argsort(kind="stable")}

    @property
    def experts(self) -> dict[str, float]:
        """The weight of each expert in the answer, by its name."""
        return dict(self._origin[0].experts) if self._origin else {}

    def timeline(self) -> list[tuple[float, float, str, float]]:
        """Return the stretches of one genre along the track; the file is read again for it.

        Returns
        -------
        stretches : list of (float, float, str, float)
            Start and end in seconds, genre, and its mean probability there.
        """
        from vision.inference.timeline import segments, timeline

        if self._origin is None or self.p is None:
            raise MelvisionError(f"{self.path}: has no timeline, because it was not predicted: {self.error}")
        predictor, source, sr = self._origin
        read = predictor.read(source, sr=sr)
        times, course = timeline(predictor, read.x, read.seconds)
        return [(start, end, self.classes[label], p) for start, end, label, p in segments(times, course)]


class Predictions(list[Prediction]):
    """Several `Prediction`, in the order of the files."""

    def to_frame(self) -> "pandas.DataFrame":
        """Return a pandas DataFrame: file, genre, probability, a column for each genre, error.

        Raises
        ------
        ImportError
            When pandas is not installed: it is optional.
        """
        import pandas as pd

        rows = [
            {"file": str(one.path), "genre": one.genre, "probability": one.probability}
            | {name: one.probabilities.get(name) for name in one.classes}
            | {"error": one.error}
            for one in self
        ]
        return pd.DataFrame(rows)


def readable_endings() -> tuple[list[str], list[str]]:
    """Name the files that can be read on this machine, by their endings.

    Returns
    -------
    pictures, sounds : list of str
        Lower case, with the dot. Sound that only ffmpeg decodes is among them where ffmpeg is installed.
    """
    sounds = AUDIO_ENDINGS if shutil.which("ffmpeg") else SNDFILE_ENDINGS
    return list(PICTURE_ENDINGS), sorted(sounds)


class Predictor:
    """A trained model, loaded once, that predicts the genres of files and samples.

    Parameters
    ----------
    run : str or Path
        A run folder, its ``model.pt``, a folder of several seeds, whose mean is taken, or an ``.onnx`` file of
        `vision.export`.
    device : str
        ``"auto"``, or one to insist on.

    Attributes
    ----------
    classes : list of str
        Genres, from the checkpoint.
    preprocessor : Preprocessor
        How files become the network's input.
    about : dict
        Settings, versions and the kept epoch of the run.
    models : list of GenreClassifier
        Empty for an exported file, which has no layers to look into.

    Raises
    ------
    MelvisionError
        When there is no usable checkpoint, or the device is not available.

    Examples
    --------
    >>> predictor = Predictor("runs/standard-001")            # doctest: +SKIP
    >>> predictor.predict("song.mp3").genre                   # doctest: +SKIP
    'metal'
    >>> predictor.predict(["a.mp3", "b.png"]).to_frame()      # doctest: +SKIP
    """

    def __init__(self, run: str | Path, device: str = "auto"):
        self.device = pick_device("cpu" if device == "auto" and onnx.is_exported(run) else device)
        self.models: list[GenreClassifier] = []
        self._exported: onnx.OnnxModel | None = None
        if onnx.is_exported(run):
            if self.device.type != "cpu":
                raise MelvisionError(f"device={device!r}: an exported file runs on the CPU; leave device out")
            self._exported = onnx.load(run)
            model_spec = self._exported.spec
        else:
            self.models, model_spec = self._load(run)
        self.classes: list[str] = model_spec.classes
        self.model_spec = model_spec
        self.about: dict = model_spec.about
        self.preprocessor = Preprocessor(model_spec.input)
        # A GPU computes one batch at a time anyway, and not every driver takes calls from several threads.
        self._one_at_a_time = contextlib.nullcontext() if self.device.type == "cpu" else threading.Lock()

    def _load(self, run: str | Path) -> tuple[list, ModelSpec]:
        # Here, because an exported file needs no networks of PyTorch's.
        from vision.models import checkpoint

        runs = run_files.seed_files(run, run_files.MODEL) if (Path(run) / run_files.SEEDS).exists() else [run]
        if not runs:
            raise MelvisionError(f"{run}: no run in it is done yet")
        loaded = [checkpoint.load_model(path) for path in runs]
        return [model.to(self.device) for model, _ in loaded], loaded[0][1]

    @property
    def spec(self) -> InputSpec:
        """How the model's input is made."""
        return self.preprocessor.spec

    @property
    def experts(self) -> dict[str, float]:
        """The weight of each expert in an answer, by its name."""
        return self.model_spec.model["experts"]

    @property
    def network_share(self) -> float:
        """The weight of the network that is trained, whose layers can be looked into."""
        return sum(self.experts.get(model.network_name or "", 0.0) for model in self.models) / max(1, len(self.models))

    def learn_margins(self, paths: Iterable[str | Path]) -> None:
        """Learn the margins of picture sizes new to the model, from many pictures of one source.

        Without this each such picture is cut by its own edges, and a note says so.

        Parameters
        ----------
        paths : iterable of Path
            Pictures; other files among them are ignored.
        """
        pictures = [path for path in map(Path, paths) if path.suffix.lower() in PICTURE_ENDINGS]
        self.preprocessor = self.preprocessor.learn_margins(pictures)

    def read(self, source: Source, *, sr: int | None = None) -> NetworkInput:
        """Bring one file, or samples, to the network's input.

        Parameters
        ----------
        source : str, Path or np.ndarray
            A picture, a recording, or samples as `Preprocessor.from_samples` takes them.
        sr : int, in Hz, optional
            Sampling rate of samples.

        Raises
        ------
        SilentError
            When it holds no sound.
        PictureError, AudioError, ValueError
            When it cannot be used; the message says why, without the path.
        """
        if isinstance(source, np.ndarray):
            read = self.preprocessor.from_samples(source, sr)
        else:
            read = self.preprocessor.from_file(source)
        if read.silent:
            raise SilentError(SILENT)
        return read

    def probabilities(self, x: PixelStore) -> np.ndarray:
        """The models' mean probabilities of pictures: a PixelStore to (n, n_classes), float32."""
        if exported := self._exported:
            return x.mean_over_windows(lambda windows: exported.predict_windows(x, windows)).numpy()
        # In fp32 whatever the training's precision: the same answer on every machine.
        return np.mean([predict_proba(model, x).numpy() for model in self.models], axis=0)

    def answers(self, x: PixelStore) -> Answers:
        """The models' mean probabilities of pictures, each expert's, and how far they are from what was trained on."""
        if not len(x):
            return Answers(np.empty((0, len(self.classes)), np.float32), None, {})
        if exported := self._exported:
            columns = x.mean_over_windows(lambda windows: exported.predict_windows(x, windows, distances=True)).numpy()
            has_distance, names = exported.has_distance, []
        else:
            # In fp32, as of `probabilities`.
            columns = np.mean([predict_proba(model, x, details=True).numpy() for model in self.models], axis=0)
            has_distance = all(model.space is not None for model in self.models)
            names = list(self.experts) if len(self.experts) > 1 else []
        n = len(self.classes)
        experts = {name: columns[:, n * place : n * (place + 1)] for place, name in enumerate(names, start=1)}
        return Answers(columns[:, :n], columns[:, -1] if has_distance else None, experts)

    def embeddings(self, x: PixelStore, expert: str) -> np.ndarray:
        """What an expert makes of pictures before it decides, (n, d), float32; that of several seeds side by side."""
        from vision.models.embedding import embedding

        def of_model(model: "GenreClassifier") -> np.ndarray:
            compute = partial(embedding, model, expert=expert, n_classes=len(self.classes))
            return x.mean_over_windows(lambda windows: compute_windows(compute, x, windows, self.device)).numpy()

        return np.concatenate([of_model(model.eval()) for model in self.models], axis=1)

    def is_unlike(self, answers: Answers) -> np.ndarray:
        """Whether pictures are unlike the training music, (n,), bool; never where the model does not know."""
        thresholds = self.model_spec.thresholds
        if thresholds.limit is None or answers.distance is None:
            return np.zeros(len(answers.p), bool)
        return thresholds.novelty(answers.distance, answers.p) > thresholds.limit

    def complete(self, predictions: Sequence[Prediction], answers: Answers) -> None:
        """Fill the models' answers into predictions, and what is doubtful of them."""
        for prediction, p, unlike in zip(predictions, answers.p, self.is_unlike(answers), strict=True):
            if not np.isfinite(p).all():
                prediction.error = "the model's answer to it is no number"
                continue
            prediction.p, prediction.unlike = p, bool(unlike)
            prediction.unsure = bool(p.max() < self.model_spec.thresholds.unsure_below)
            if unlike:
                prediction.notes = [*prediction.notes, UNLIKE]

    def predict(self, source: Source | Iterable[Source], *, sr: int | None = None) -> "Prediction | Predictions":
        """Predict one file, many, or samples; a file that cannot be used costs itself only.

        Parameters
        ----------
        source : str, Path, np.ndarray, or an iterable of them
            Pictures, recordings, or samples as `Preprocessor.from_samples` takes them.
        sr : int, in Hz, optional
            Sampling rate of samples.

        Returns
        -------
        prediction : Prediction or Predictions
            One for one, a list for many.
        """
        if isinstance(source, (str, PathLike, np.ndarray)):
            return next(self.predict_each([source], sr=sr))
        return Predictions(self.predict_each(source, sr=sr))

    def predict_each(
        self, sources: Iterable[Source], *, sr: int | None = None, embed: str | None = None
    ) -> Iterator[Prediction]:
        """As `predict` for many, each as soon as it is done.

        Parameters
        ----------
        sources, sr
            As of `predict`.
        embed : str, optional
            The expert whose embedding is added to each; see `vision.inference.embeddings.pick_expert`.

        Yields
        ------
        prediction : Prediction
            In the order of `sources`.
        """
        sources = list(sources)
        if sr is None and any(isinstance(source, np.ndarray) for source in sources):
            raise MelvisionError("sr=None: samples need their sampling rate in Hz")
        workers = min(WORKERS, torch.get_num_threads(), len(sources)) or 1
        size = min(CHUNK, -(-len(sources) // workers)) or 1
        parts = (sources[at : at + size] for at in range(0, len(sources), size))

        def predict_part(part: list[Source], stop: threading.Event) -> list[Prediction]:
            return self._predict_part(part, sr, stop, embed)

        for predictions in in_order(predict_part, parts, workers):
            yield from predictions

    def _predict_part(
        self, sources: list[Source], sr: int | None, stop: threading.Event, embed: str | None
    ) -> list[Prediction]:
        """Read some files, then score them together."""
        attempts = [self.attempt(source, sr=sr) for source in sources if not stop.is_set()]
        inputs = [x for _, x in attempts if x is not None]
        store = PixelStore.collect(inputs, channels=self.spec.channels or 1, height=self.spec.size)
        with self._one_at_a_time:
            answers = self.answers(store)
            embeddings = self.embeddings(store, embed) if embed and inputs else None
        usable = [prediction for prediction, x in attempts if x is not None]
        self.complete(usable, answers)
        if embeddings is not None:
            for prediction, embedding in zip(usable, embeddings, strict=True):
                prediction.embedding = embedding
        return [prediction for prediction, _ in attempts]

    def attempt(self, source: Source, *, sr: int | None = None) -> tuple[Prediction, torch.Tensor | None]:
        """Read one file: a `Prediction` that holds notes or an error, and the network's input or None."""
        prediction = Prediction(None if isinstance(source, np.ndarray) else Path(source), self.classes)
        prediction._origin = (self, source, sr)
        try:
            read = self.read(source, sr=sr)
        except UNUSABLE as error:
            prediction.error = str(error) or type(error).__name__
            prediction.silent = isinstance(error, SilentError)
            return prediction, None
        prediction.notes, prediction.seconds = read.notes, read.seconds
        return prediction, read.x

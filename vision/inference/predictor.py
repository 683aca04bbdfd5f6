"""A trained model applied to files: pictures as they are, audio drawn the way the model was trained."""

import contextlib
import dataclasses
import shutil
import threading
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from render import audio, batch, png
from render.errors import MelvisionError
from render.formats import AUDIO_ENDINGS, PICTURE_ENDINGS, SNDFILE_ENDINGS
from render.settings import Settings
from vision.data.borders import fit_border
from vision.data.images import load
from vision.data.pixel_store import PixelStore
from vision.data.preprocess import ToInput, match_channels, redraw, seconds_of, to_tensor
from vision.inference import onnx
from vision.inference.device import in_order, keep_freed_memory, pick_device
from vision.inference.windows import predict_proba

#: What `Predictor.read` raises of a file that cannot be used.
UNUSABLE = (png.PictureError, audio.AudioError, ValueError, MemoryError, OSError)

#: Threads at most: each long song takes some hundred MB while it is read. And the files that each takes at a time.
WORKERS, CHUNK = 8, 8


@dataclasses.dataclass
class Prediction:
    """What the model says of one file.

    Attributes
    ----------
    path : Path
        The file.
    probabilities : np.ndarray, shape (n_classes,), or None
        In the order of `Predictor.classes`; None where the file could not be used.
    error : str
        Why it could not be used; empty when it could.
    notes : list of str
        What the user should know of this one.
    """

    path: Path
    probabilities: np.ndarray | None = None
    error: str = ""
    notes: list = dataclasses.field(default_factory=list)


def readable_endings():
    """Name the files that can be read on this machine, by their endings.

    Returns
    -------
    pictures, sounds : list of str
        Lower case, with the dot. Sound that only ffmpeg decodes is among them where ffmpeg is installed.
    """
    sounds = AUDIO_ENDINGS if shutil.which("ffmpeg") else SNDFILE_ENDINGS
    return list(PICTURE_ENDINGS), sorted(sounds)


class Predictor:
    """Load a run once, predict often.

    Parameters
    ----------
    run : str or Path
        A run folder, its ``model.pt``, a folder of runs that differ in their seed: their mean is given, or
        an ``.onnx`` file of `vision.export`.
    device : str
        ``"auto"``, or one to insist on.

    Attributes
    ----------
    classes : list of str
        Genres, from the checkpoint.
    recipe : Recipe
        How the model sees pictures.
    models : list of models.Network
        Empty for an exported file, which has no layers to look into.
    max_seconds : float or None
        Refuse longer tracks, before more of them than that is decoded. None, the default, takes any length.

    Raises
    ------
    MelvisionError
        When there is no usable checkpoint, or the device is not available.
    """

    def __init__(self, run, device="auto"):
        try:
            self.device = pick_device("cpu" if device == "auto" and onnx.is_exported(run) else device)
        except ValueError as error:
            raise MelvisionError(error) from None
        keep_freed_memory()
        self.models, self._exported = [], None
        if onnx.is_exported(run):
            if self.device.type != "cpu":
                raise MelvisionError(f"--device {device}: an exported file runs on the CPU; leave --device out")
            self._exported = onnx.load(run)
            self.recipe = self._exported.recipe
        else:
            self.models, self.recipe = self._load(run)
        self.classes = self.recipe.classes
        self.max_seconds = None
        self._remove_border = self.recipe.remove_border()
        self._to_input = ToInput(self.recipe.size)
        # Graphics processors compute one thing at a time anyway, and not every driver takes calls of several threads.
        self._turn = contextlib.nullcontext() if self.device.type == "cpu" else threading.Lock()

    def _load(self, run):
        # Here, because an exported file needs no networks of PyTorch's.
        from vision.models import checkpoint

        runs = sorted(Path(run).glob("seed-*/model.pt")) if (Path(run) / "seeds.json").exists() else [run]
        if not runs:
            raise MelvisionError(f"{run}: no run in it is done yet")
        loaded = [checkpoint.load(path) for path in runs]
        return [model.to(self.device) for model, _ in loaded], loaded[0][1]

    def learn_borders(self, paths):
        """Learn margins of sizes that the model has not met, where several such pictures came together.

        Parameters
        ----------
        paths : iterable of Path
            What is going to be predicted.
        """
        pictures = [path for path in paths if path.suffix.lower() in PICTURE_ENDINGS]
        self._remove_border = fit_border(pictures, known=self._remove_border)

    def _check_length(self, seconds):
        # A picture's own text chunk tells how long it is, and may tell anything.
        if self.max_seconds is not None and seconds > self.max_seconds:
            raise ValueError(f"is longer than {self.max_seconds:g} s, the limit here; cut out a part of it")

    def _input(self, image, seconds):
        """One of our pictures, as high as the network's and as wide as its seconds ask for: (channels, h, w), uint8."""
        image = redraw(image, self.recipe.drawn, seconds / self.recipe.seconds)
        x = self._to_input(image, self.recipe.width(seconds))
        return match_channels(x, self.recipe.channels)

    def read(self, path):
        """Bring one file to the network's input.

        Parameters
        ----------
        path : Path
            A picture, or audio.

        Returns
        -------
        x : torch.Tensor, shape (channels, size, width), uint8
            At least `size` wide; wider where the track is longer than the network takes at once.
        notes : list of str

        Raises
        ------
        png.PictureError, audio.AudioError, ValueError
            When it cannot be used; the message says why, without the path.
        """
        x, notes, _, _ = self.read_with_axes(path)
        return x, notes

    def read_with_axes(self, path):
        """Bring one file to the network's input, and tell what its axes are.

        Parameters
        ----------
        path : Path
            As for `read`, and so are the errors.

        Returns
        -------
        x, notes
            As of `read`.
        seconds : float
            Length of the track; what other programs' pictures span is taken from the recipe.
        settings : Settings or None
            How it was drawn, which tells its frequencies; None for other programs' pictures.
        """
        path = Path(path)
        if path.suffix.lower() in AUDIO_ENDINGS:
            settings = self.settings
            values, silent = batch.compute(path, settings)
            seconds = values.shape[1] * settings.hop_length / settings.sr
            return self.draw(values), ["silent"] if silent else [], seconds, settings
        image = load(path)
        about = png.read_about(image)
        if about:
            seconds = seconds_of(about, image.width)
            self._check_length(seconds)
            return self._input(image, seconds), [], seconds, Settings.from_dict(about)
        box, known = self._remove_border.box(image)
        notes = [] if known else [f"of unknown size {image.width}x{image.height}; its margin was cut by its own edges"]
        x = to_tensor(image if box == (0, 0, *image.size) else image.crop(box))
        if len(x) > self.recipe.channels:
            notes.append("in colours of no known colormap; taken by their brightness")
        x = self._to_input.resize(x, self.recipe.width(self.recipe.seconds))
        return match_channels(x, self.recipe.channels), notes, self.recipe.seconds, None

    def read_samples(self, y, sr):
        """Bring audio in memory to the network's input, drawn as a file of it would be.

        Parameters
        ----------
        y : np.ndarray, shape (n,) or (n, channels), floating
            The signal, nominally in [-1, 1].
        sr : int, in Hz
            Its sampling rate.

        Returns
        -------
        x, notes
            As of `read`, and so are the errors.
        """
        y = np.asarray(y)
        if y.dtype.kind != "f" or y.ndim not in (1, 2):
            raise ValueError(f"is {y.dtype} of shape {y.shape}; expected floats (n,) or (n, channels)")
        self._check_length(len(y) / sr)
        settings = self.settings
        y = (y[:, None] if y.ndim == 1 else y).astype(np.float32, copy=False)
        step = max(1, audio.BLOCK_SAMPLES // max(1, y.shape[1]))  # as a file is decoded
        blocks = (y[at : at + step] for at in range(round(settings.offset * sr), len(y), step))
        pieces = audio.to_mono(blocks, sr, settings.sr, offset=settings.offset)
        values, silent = batch.compute_pieces(pieces, settings)
        return self.draw(values), ["silent"] if silent else []

    @property
    def settings(self):
        """How audio is drawn for this model: `Settings`."""
        # A second more than allowed tells that it is too long; frames at both ends add a little to its length.
        duration = self.max_seconds and self.max_seconds + 1
        return dataclasses.replace(Settings.from_dict(self.recipe.render or {}), duration=duration)

    def draw(self, values):
        """Bring what `render.batch.compute` gives, shape (n_rows, n_frames), to the network's input, as `read` does."""
        settings = self.settings
        levels = png.quantise_rows(values, png.describe(settings, {}, "magma"))[::-1]
        image = Image.fromarray(np.ascontiguousarray(levels), "L")
        seconds = image.width * settings.hop_length / settings.sr
        self._check_length(seconds - 0.5)
        return self._input(image, seconds)

    def probabilities(self, x):
        """The models' mean probabilities of pictures: a Store to (n, n_classes), float32."""
        if self._exported:
            return x.mean_over_windows(lambda windows: self._exported.predict_windows(x, windows)).numpy()
        # In fp32 whatever the training's precision: the same answer on every machine.
        return np.mean([predict_proba(model, x).numpy() for model in self.models], axis=0)

    def predict(self, paths):
        """Predict each file; a bad one costs itself only.

        Parameters
        ----------
        paths : iterable of Path
            Pictures and audio.

        Yields
        ------
        prediction : Prediction
            In the order of `paths`.
        """
        paths = list(paths)
        workers = min(WORKERS, torch.get_num_threads(), len(paths)) or 1
        size = min(CHUNK, -(-len(paths) // workers)) or 1
        parts = (paths[at : at + size] for at in range(0, len(paths), size))
        for found in in_order(self._predict_part, parts, workers):
            yield from found

    def _predict_part(self, paths, stop):
        """Read some files, then score them together: a list of `Prediction`."""
        found = [self.attempt(path) for path in paths if not stop.is_set()]
        usable = [x for _, x in found if x is not None]
        x = PixelStore.collect(usable, channels=self.recipe.channels, height=self.recipe.size)
        with self._turn:
            probabilities = iter(self.probabilities(x))
        for prediction, x in found:
            if x is not None:
                prediction.probabilities = next(probabilities)
        return [prediction for prediction, _ in found]

    def attempt(self, path):
        """Read one file: a `Prediction` that holds notes or an error, and `x` as of `read`, or None."""
        try:
            x, notes = self.read(path)
            return Prediction(Path(path), notes=notes), x
        except UNUSABLE as error:
            return Prediction(Path(path), error=str(error) or type(error).__name__), None

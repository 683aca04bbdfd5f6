"""A trained model applied to files: pictures as they are, audio drawn the way the model was trained."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from render import audio, batch, png, tracks
from render.cli import InputError
from render.settings import Settings
from vision import checkpoint, engine
from vision.genres import PICTURE_ENDINGS
from vision.pictures import fit_border, seconds_of
from vision.pixels import load
from vision.store import Store
from vision.transforms import ToInput, match_channels, redraw, to_tensor


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


def find_files(paths):
    """Pictures and audio among files and folders, folders searched to the bottom.

    Parameters
    ----------
    paths : iterable of str or Path
        Files are taken whatever their ending; in folders, hidden and other files are passed over.

    Returns
    -------
    files : list of Path

    Raises
    ------
    InputError
        When a path is missing, or a folder holds nothing to predict on.
    """
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            endings = (*PICTURE_ENDINGS, *audio.AUDIO_ENDINGS)
            found = [file for file in tracks.walk(path) if file.suffix.lower() in endings]
            if not found:
                raise InputError(f"{path}: no picture and no audio in it")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"{path}: there is no such file or folder")
    return files


class Predictor:
    """Load a run once, predict often.

    Parameters
    ----------
    run : str or Path
        A run folder, its ``model.pt``, or a folder of runs that differ in their seed: their mean is given.
    device : str
        ``"auto"``, or one to insist on.

    Attributes
    ----------
    classes : list of str
        Genres, from the checkpoint.
    recipe : checkpoint.Recipe
        How the model sees pictures.

    Raises
    ------
    InputError
        When there is no usable checkpoint, or the device is not available.
    """

    def __init__(self, run, device="auto"):
        try:
            self.device = engine.pick_device(device)
        except ValueError as error:
            raise InputError(error) from None
        runs = sorted(Path(run).glob("seed-*/model.pt")) if (Path(run) / "seeds.json").exists() else [run]
        if not runs:
            raise InputError(f"{run}: no run in it is done yet")
        loaded = [checkpoint.load(path) for path in runs]
        self.models = [model.to(self.device) for model, _ in loaded]
        self.recipe = loaded[0][1]
        self.classes = self.recipe.classes
        self._remove_border = self.recipe.remove_border()
        self._to_input = ToInput(self.recipe.size)

    def learn_borders(self, paths):
        """Learn margins of sizes that the model has not met, where several such pictures came together.

        Parameters
        ----------
        paths : iterable of Path
            What is going to be predicted.
        """
        pictures = [path for path in paths if path.suffix.lower() in PICTURE_ENDINGS]
        self._remove_border = fit_border(pictures, known=self._remove_border)

    def _redraw(self, image, seconds):
        return redraw(image, self.recipe.drawn, seconds / self.recipe.seconds)

    def _input(self, image, seconds):
        """One picture at the network's height, as wide as its seconds ask for: (channels, size, width), uint8."""
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
        path = Path(path)
        if path.suffix.lower() in audio.AUDIO_ENDINGS:
            return self._read_audio(path)
        image = load(path)
        about = png.read_about(image)
        if about:
            seconds = seconds_of(about, image.width)
            return self._input(self._redraw(image, seconds), seconds), []
        box, known = self._remove_border.box(image)
        notes = [] if known else [f"of unknown size {image.width}x{image.height}; its margin was cut by its own edges"]
        image = image.crop(box)
        x = to_tensor(image)
        if len(x) > self.recipe.channels:
            notes.append("in colours of no known colormap; taken by their brightness")
        return self._input(image, self.recipe.seconds), notes

    def _read_audio(self, path):
        settings = dataclasses.replace(Settings.from_dict(self.recipe.render or {}), duration=None)
        values, silent = batch.compute(path, settings)
        levels = png.quantise_rows(values, png.describe(settings, {}, "magma"))[::-1]
        notes = ["silent"] if silent else []
        image = Image.fromarray(np.ascontiguousarray(levels), "L")
        seconds = image.width * settings.hop_length / settings.sr
        return self._input(self._redraw(image, seconds), seconds), notes

    def probabilities(self, x):
        """The models' mean probabilities of pictures: a Store to (n, n_classes), float32."""
        # In fp32 whatever the training's precision: the same answer on every machine.
        return np.mean([engine.predict_proba(model, x).numpy() for model in self.models], axis=0)

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
        batch, waiting = [], []
        for path in paths:
            try:
                x, notes = self.read(path)
                waiting.append((Prediction(Path(path), notes=notes), True))
                batch.append(x)
            except (png.PictureError, audio.AudioError, ValueError, MemoryError, OSError) as error:
                waiting.append((Prediction(Path(path), error=str(error) or type(error).__name__), False))
            if len(waiting) >= engine.EVAL_BATCH:
                yield from self._flush(batch, waiting)
                batch, waiting = [], []
        yield from self._flush(batch, waiting)

    def _flush(self, batch, waiting):
        x = Store.collect(batch, channels=self.recipe.channels, height=self.recipe.size)
        found = iter(self.probabilities(x))
        for prediction, usable in waiting:
            if usable:
                prediction.probabilities = next(found)
            yield prediction

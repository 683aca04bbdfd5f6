"""Predictions for uploads that may be anything: stored under a name of ours, answered, gone."""

import base64
import copy
import io
import logging
import re
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from render import png
from vision.attribution.occlusion import saliency
from vision.data.pixel_store import PixelStore
from vision.inference.predictor import UNUSABLE, readable_endings
from vision.inference.timeline import segments, timeline

#: Columns of a picture that is shown; more than a screen has would only be traffic.
MAX_COLUMNS = 2048

#: What is given on demand: the genre over time, the picture that the network was shown, and a veil over what it did
#: not look at (both PNG, as data URIs). The last takes many times as long as the answer.
EXTRAS = ("timeline", "picture", "heat")


class Answers:
    """Predictions as a visitor gets them, for uploads that may be anything. For use in several threads.

    Parameters
    ----------
    predictor : Predictor
        Left as it is.
    max_seconds : float
        The longest track taken.

    Attributes
    ----------
    classes : list of str
        The genres as they are shown: a folder's name may hold bytes that are no text.
    """

    def __init__(self, predictor, max_seconds):
        self._predictor = copy.copy(predictor)
        self._predictor.max_seconds = max_seconds
        self._predictor.classes = [genre.encode(errors="backslashreplace").decode() for genre in predictor.classes]
        self.classes = self._predictor.classes
        # torch uses all cores for one call. In turns, and let go between calls: what is looked into for a minute
        # holds nobody up for longer than one of its hundred calls.
        turn = threading.Lock()
        self._stopping = threading.Event()

        def probabilities(x):
            with turn:
                if self._stopping.is_set():
                    raise InterruptedError("was not predicted: the server is stopping")
                return predictor.probabilities(x)

        self._predictor.probabilities = probabilities

    def stop(self):
        """End what is being computed, within a batch: it might take minutes."""
        self._stopping.set()

    def answer(self, uploads, wanted=()):
        """Predict some uploads.

        Parameters
        ----------
        uploads : list of (str, binary file)
            The visitor's name for each, which is shown but no path is made of it, and its content.
        wanted : collection of str
            Some of `EXTRAS`.

        Returns
        -------
        answers : list of dict
            ``file``, and ``error`` or the prediction, in the order of `uploads`.
        """
        with tempfile.TemporaryDirectory(prefix="melvision-") as folder:
            stored = [_store(Path(folder), number, *upload) for number, upload in enumerate(uploads)]
            mine = copy.copy(self._predictor)  # margins learned from these pictures are for these only
            mine.learn_borders([path for path, problem in stored if not problem])
            told = []
            for (name, _), (path, problem) in zip(uploads, stored, strict=True):
                start = time.perf_counter()
                answer = {"error": problem} if problem else _predict(mine, path, wanted)
                told.append({"file": name} | answer | {"seconds": round(time.perf_counter() - start, 3)})
            return told


def _predict(predictor, path, wanted):
    try:
        x, notes, length, settings = predictor.read_with_axes(path)
        p = predictor.probabilities(PixelStore.of(x[None]))[0]
        label = int(p.argmax())
        ranked = [(predictor.classes[label], label) for label in (-p).argsort(kind="stable")]
        answer = {
            "predicted": predictor.classes[label],
            "probabilities": {genre: _rounded(p[label], 4) for genre, label in ranked},
            "notes": notes,
            "length": _rounded(length, 2),
        }
        if "timeline" in wanted:
            times, course = timeline(predictor, x)
            answer["timeline"] = {
                "times": _rounded(times, 2),
                "probabilities": {genre: _rounded(course[:, label], 4) for genre, label in ranked},
                "segments": [
                    {"start": _rounded(start, 2), "end": _rounded(end, 2), "genre": predictor.classes[label]}
                    for start, end, label, _ in segments(times, course)
                ],
            }
        if "picture" in wanted:
            mel = settings is not None and settings.kind == "mel"
            answer["picture"] = _picture(x)
            answer["frequencies"] = [settings.fmin, settings.fmax or settings.sr / 2] if mel else None
        if "heat" in wanted:
            heat = saliency(predictor, x, label)
            answer["heat"] = _veil(heat) if heat.any() else None
        return answer
    except UNUSABLE as error:
        told = str(error) or type(error).__name__
        return {"error": told.replace(f"file:{path}", "the file").replace(str(path), "the file")}
    except Exception:  # no fault of the file: it must not cost the visitor the answers for the others
        logging.getLogger(__name__).exception("while predicting an upload")
        return {"error": "could not be predicted: a fault of melvision's, not of the file; the server's log says more"}


def _rounded(values, digits):
    return np.asarray(values, np.float64).round(digits).tolist()  # of float32 many digits would be left


def _store(folder, number, name, file):
    """Write an upload to a file of which the visitor chose nothing but a known ending: (path, problem)."""
    pictures, sounds = readable_endings()
    # No more of the name than any ending has: a search through long ones takes long.
    ending = re.search(r"(\.[a-z0-9]+)?\s*$", name.lower()[-32:])[0].strip()
    if ending not in (*pictures, *sounds):
        found = f"ends in {ending}" if ending else "has no ending"
        lacking = "" if shutil.which("ffmpeg") else "; for some kinds of sound this machine lacks ffmpeg"
        return None, f"{found}: no kind of sound or picture that can be read here{lacking}"
    path = folder / f"{number}{ending}"
    try:
        with open(path, "xb") as stored:
            shutil.copyfileobj(file, stored)
    except OSError as error:
        return None, f"cannot be stored on the server ({error.strerror})"
    return path, "" if path.stat().st_size else "is empty (0 bytes)"


def _as_uri(image):
    data = io.BytesIO()
    image.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def _narrow(image):
    return image.resize((MAX_COLUMNS, image.height), Image.Resampling.BOX) if image.width > MAX_COLUMNS else image


def _picture(x):
    """What the network was shown, (channels, size, width) uint8, as a data URI."""
    if len(x) == 3:
        return _as_uri(_narrow(Image.fromarray(x.permute(1, 2, 0).contiguous().numpy(), "RGB")))
    image = _narrow(Image.fromarray(x[0].contiguous().numpy(), "L"))
    image.putpalette(png.palette("magma").tobytes())
    return _as_uri(image)


def _veil(heat):
    """A grey that hides what the model did not look at, as a data URI: magma has no grey."""
    alpha = np.rint((1 - np.clip(heat, 0, 1)) * 225).astype(np.uint8)
    veil = Image.merge("LA", [Image.new("L", alpha.shape[::-1], 120), Image.fromarray(alpha, "L")])
    return _as_uri(_narrow(veil))

"""Predictions for uploads that may be anything: stored under a name of ours, answered, gone."""

import base64
import io
import logging
import math
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image

from render import png
from render.formats import AUDIO_ENDINGS
from vision.attribution.occlusion import saliency
from vision.data.pixel_store import PixelStore
from vision.data.preprocess import UNUSABLE, NetworkInput, Preprocessor
from vision.inference.output import headline
from vision.inference.predictor import SILENT, Answers, Prediction, Predictor, readable_endings
from vision.inference.timeline import segments, timeline
from vision.reports.axes import frequency_ticks
from vision.serving.readers import ReadError, UploadReader

Result = TypeVar("Result")

#: Columns of a picture that is shown; more than a screen has would only be traffic.
MAX_COLUMNS = 2048

#: What is given on demand: the genre over time, the network's input as a picture, and a layer that covers what did
#: not speak for the genre (both PNG, as data URIs). The last takes many times as long as the answer.
EXTRAS = ("timeline", "picture", "heat")

#: Of a longer recording, an answer for its first seconds is told while the rest is still being read.
FIRST_SECONDS = 60.0


class Patience:
    """How long an answer is worked at: until a time is over, or somebody gives up.

    Parameters
    ----------
    seconds : float
        The time, from now on.
    """

    def __init__(self, seconds: float):
        self._seconds, self._end = seconds, time.monotonic() + seconds
        self._reason = ""

    def give_up(self, reason: str) -> None:
        """End the work within a batch."""
        self._reason = reason

    def check(self) -> None:
        """Raise InterruptedError when it is time to stop."""
        if self._reason:
            raise InterruptedError(f"was not predicted: {self._reason}")
        if time.monotonic() > self._end:
            raise InterruptedError(f"took over {self._seconds:g} s to predict; stopped")


class _OneAtATime:
    """A predictor's network for several threads, which take turns, and which end within a batch.

    torch uses all cores for one call. The lock is held for a batch, not for a request: explaining a picture takes a
    hundred calls, and nobody waits for longer than one of them.
    """

    def __init__(self, predictor: Predictor, lock: threading.Lock, patience: Sequence[Patience]):
        self._predictor, self._lock, self._patience = predictor, lock, patience
        self.spec = predictor.spec

    def probabilities(self, x: PixelStore) -> np.ndarray:
        """As `Predictor.probabilities`."""
        return self._in_turn(self._predictor.probabilities, x)

    def answers(self, x: PixelStore) -> Answers:
        """As `Predictor.answers`."""
        return self._in_turn(self._predictor.answers, x)

    def _in_turn(self, compute: Callable[[PixelStore], Result], x: PixelStore) -> Result:
        with self._lock:
            for patience in self._patience:
                patience.check()
            return compute(x)


class UploadPredictor:
    """Predictions as a visitor gets them, for uploads that may be anything. For use in several threads.

    Parameters
    ----------
    predictor : Predictor
        The model.
    max_seconds : float
        The longest track taken.
    jobs : int
        Processes that read files.

    Attributes
    ----------
    folder : Path or None
        Where uploads are stored while they are read; None is the system's temporary folder.
    classes : list of str
        The genres as they are shown: a folder's name may hold bytes that are no text.
    """

    def __init__(self, predictor: Predictor, max_seconds: float, jobs: int):
        self.folder: Path | None = None
        self.classes = [genre.encode(errors="backslashreplace").decode() for genre in predictor.classes]
        self.reader = UploadReader(Preprocessor(predictor.spec, max_seconds=max_seconds), jobs)
        self._predictor, self._lock = predictor, threading.Lock()
        self._until_stop = Patience(math.inf)

    def stop(self) -> None:
        """End what is being read and computed: it might take minutes."""
        self._until_stop.give_up("the server is stopping")
        self.reader.stop()

    def predict(
        self,
        uploads: Sequence[tuple[str, BinaryIO]],
        extras: Collection[str] = (),
        patience: Patience | None = None,
        on_first: Callable[[dict], None] | None = None,
    ) -> list[dict]:
        """Predict some uploads.

        Parameters
        ----------
        uploads : list of (str, binary file)
            The visitor's name for each, which is shown but no path is made of it, and its content.
        extras : collection of str
            Some of `EXTRAS`.
        patience : Patience, optional
            How long to work at them.
        on_first : callable, optional
            Called with the answer for the first minute of each longer recording, as soon as that is known.

        Returns
        -------
        answers : list of dict
            ``file``, and ``error`` or the prediction, in the order of `uploads`.
        """
        answers = []
        network = _OneAtATime(self._predictor, self._lock, [self._until_stop, patience or Patience(math.inf)])
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            for number, (name, file) in enumerate(uploads):
                path, problem = _store(Path(folder), number, name, file)
                start = time.perf_counter()
                answer = {"error": problem}
                if path and not problem:
                    answer = self._predict(network, path, extras, _naming(name, on_first))
                answers.append({"file": name} | answer | {"seconds": round(time.perf_counter() - start, 3)})
        return answers

    def _predict(
        self, network: _OneAtATime, path: Path, extras: Collection[str], on_first: Callable[[dict], None] | None
    ) -> dict:
        try:
            read = self._read(network, path, on_first)
            return {"predicted": None, "error": SILENT} if read.silent else self._answer(network, read, extras)
        except (ReadError, *UNUSABLE) as error:
            return {"error": str(error)}
        except Exception:  # no fault of the file: it must not cost the visitor the answers for the others
            logging.getLogger(__name__).exception("while predicting an upload")
            return {"error": "could not be predicted because of a fault in melvision; the server's log says more"}

    def _read(self, network: _OneAtATime, path: Path, on_first: Callable[[dict], None] | None) -> NetworkInput:
        """Read an upload; of a long recording an answer for its beginning is told first."""
        if on_first is None or path.suffix not in AUDIO_ENDINGS:
            return self.reader.read(path)
        beginning = self.reader.read(path, FIRST_SECONDS)
        if beginning.seconds < FIRST_SECONDS - 1:
            return beginning  # that was all of it
        if not beginning.silent:
            on_first(self._answer(network, beginning, ()))
        return self.reader.read(path)

    def _answer(self, network: _OneAtATime, read: NetworkInput, extras: Collection[str]) -> dict:
        found = Prediction(None, self.classes, notes=read.notes)
        self._predictor.complete([found], network.answers(PixelStore.of(read.x[None])))
        p = found.p
        assert p is not None
        label = int(p.argmax())
        own_width = self._predictor.spec.own_width(read.seconds, read.x.shape[-1])
        ranked = [(self.classes[label], label) for label in (-p).argsort(kind="stable")]
        answer: dict[str, Any] = {
            "predicted": self.classes[label],
            "headline": found.headline,
            "unsure": found.unsure,
            "unlike": found.unlike,
            "probabilities": {genre: _rounded(p[label], 4) for genre, label in ranked},
            "notes": found.notes,
            "length": _rounded(read.seconds, 2),
        }
        if "timeline" in extras:
            times, course = timeline(network, read.x, read.seconds)
            stretches = segments(times, course)
            answer["timeline"] = {
                "times": _rounded(times, 2),
                "probabilities": {genre: _rounded(course[:, label], 4) for genre, label in ranked},
                "segments": [
                    {"start": _rounded(start, 2), "end": _rounded(end, 2), "genre": self.classes[label]}
                    for start, end, label, _ in stretches
                ],
            }
            answer["headline"] = headline(stretches, self.classes) or found.headline
        if "picture" in extras:
            settings = read.settings
            answer["picture"] = _picture(read.x[..., :own_width])
            answer["frequencies"] = [[_rounded(share, 4), label] for share, label in frequency_ticks(settings)]
        if "heat" in extras:
            heat = saliency(network, read.x, label)[:, :own_width]
            answer["heat"] = _mask(heat) if heat.any() else None
        return answer


def _naming(name: str, on_first: Callable[[dict], None] | None) -> Callable[[dict], None] | None:
    return None if on_first is None else lambda answer: on_first({"file": name} | answer)


def _rounded(values: ArrayLike, digits: int) -> float | list:
    return np.asarray(values, np.float64).round(digits).tolist()  # float32 would leave many digits


def _store(folder: Path, number: int, name: str, file: BinaryIO) -> tuple[Path | None, str]:
    """Write an upload to a file of which the visitor chose nothing but a known ending: (path, problem)."""
    pictures, sounds = readable_endings()
    # No more of the name than any ending has: a search through long ones takes long.
    match = re.search(r"\.[a-z0-9]+\s*$", name.lower()[-32:])
    ending = match[0].strip() if match else ""
    if ending not in (*pictures, *sounds):
        name_ending = f"ends in {ending}" if ending else "has no ending"
        lacking = "" if shutil.which("ffmpeg") else "; for some kinds of sound this machine lacks ffmpeg"
        return None, f"{name_ending}: no kind of sound or picture that can be read here{lacking}"
    path = folder / f"{number}{ending}"
    try:
        with open(path, "xb") as stored:
            shutil.copyfileobj(file, stored)
    except OSError as error:
        return None, f"cannot be stored on the server ({error.strerror})"
    return path, "" if path.stat().st_size else "is empty (0 bytes)"


def _as_uri(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def _narrow(image: Image.Image) -> Image.Image:
    return image.resize((MAX_COLUMNS, image.height), Image.Resampling.BOX) if image.width > MAX_COLUMNS else image


def _picture(x: torch.Tensor) -> str:
    """What the network was shown, (channels, size, width) uint8, as a data URI."""
    if len(x) == 3:
        return _as_uri(_narrow(Image.fromarray(x.permute(1, 2, 0).contiguous().numpy(), "RGB")))
    image = _narrow(Image.fromarray(x[0].contiguous().numpy(), "L"))
    image.putpalette(png.palette("magma").tobytes())
    return _as_uri(image)


def _mask(heat: np.ndarray) -> str:
    """A grey layer that covers what did not speak for the genre, as a data URI: magma has no grey."""
    alpha = np.rint((1 - np.clip(heat, 0, 1)) * 225).astype(np.uint8)
    layer = Image.merge("LA", [Image.new("L", alpha.shape[::-1], 120), Image.fromarray(alpha, "L")])
    return _as_uri(_narrow(layer))

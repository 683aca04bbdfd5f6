"""The one way from a picture, a recording or samples to the network's input.

What a file becomes depends on the file and the `InputSpec` alone, never on the folder it came in, on what was read
before it or on which command reads it. Training, evaluate, predict, check, explain, serve, watch, streams and export
all use `Preprocessor`.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from render import audio, batch, png
from render.errors import AudioError, MelvisionError, PictureError
from render.formats import AUDIO_ENDINGS
from render.settings import Settings
from vision.data.borders import RemoveBorder
from vision.data.colormaps import read_levels, stretch
from vision.data.images import load
from vision.data.orientation import TURNED, is_turned, tilt_of
from vision.data.survey import border_of, survey_folder

#: Height and width of what the network takes at once, at most, in pixels.
LARGEST_INPUT = 1024
#: Sides of the pictures that it stands for are below this (pixels).
LARGEST_SIDE = 1 << 14
#: Pixels of a whole track as the network sees it, at most: more would fill the memory.
MOST_PIXELS = 1 << 30
#: Lengths of tracks and windows that make sense, in seconds: others make pictures of absurd width.
LENGTHS = (1e-6, 1e7)
#: Seconds that a picture may claim to span: resized for the network, longer ones would fill the memory.
LONGEST_PICTURE = 1e5
#: Errors that reading an unusable file raises.
UNUSABLE = (PictureError, AudioError, ValueError, MemoryError, OSError)


@dataclass
class InputSpec:
    """How a model's input is made. JSON-able; part of every checkpoint and exported file.

    Attributes
    ----------
    size : int
        Height of the input, and width of what the network takes at once, in pixels.
    channels : int or None
        1 for levels, 3 for colours; None, only before training, for whichever a picture has.
    window : float or None
        Seconds that take `size` pixels; None makes a whole track `size` wide.
    track_seconds : float
        Length of track that pictures without our text chunk are taken to span.
    typical_seconds : float
        Median length of the train tracks. A whole-track model takes a much longer one in pieces of this length.
    frames : list of dict
        Margins for `RemoveBorder`, learned from the train pictures.
    render : dict or None
        How audio is drawn: the settings of the train pictures; None, where other programs drew them, for the defaults.
    drawn : list of 2 int, or None
        Width and height, without margins, at which another program drew all train pictures. Ours and audio are
        brought to this size before anything else, without blending, because a network notices how columns and rows
        were dropped or repeated.
    absolute : bool
        Whether the train pictures have a fixed level of 0 dB: their levels are not stretched to their own range then.
    tilt : float
        Median of the train pictures, see `orientation.tilt_of`; 0 where it is not known.
    """

    size: int = 224
    channels: int | None = 1
    window: float | None = None
    track_seconds: float = 30.0
    typical_seconds: float = 30.0
    frames: list = field(default_factory=list)
    render: dict | None = None
    drawn: list | None = None
    absolute: bool = False
    tilt: float = 0.0

    @classmethod
    def from_dict(cls, values: dict) -> "InputSpec":
        """Return the spec that a file holds, which may have come from anywhere.

        Raises
        ------
        ValueError, TypeError, KeyError, AttributeError
            When it is none of ours; the message says which part.
        """
        spec = cls(**values)
        drawn = spec.drawn or [1, 1]
        rules = {
            "track_seconds": _is_length(spec.track_seconds),
            "typical_seconds": _is_length(spec.typical_seconds),
            "window": spec.window is None or _is_length(spec.window),
            "drawn": len(drawn) == 2 and all(type(side) is int and 0 < side < LARGEST_SIDE for side in drawn),
            "frames": isinstance(spec.frames, list) and len(spec.frames) <= 1000,
            "size": type(spec.size) is int and 0 < spec.size <= LARGEST_INPUT,
            "absolute": type(spec.absolute) is bool,
            "tilt": type(spec.tilt) in (int, float) and abs(spec.tilt) <= 255,
            "channels": type(spec.channels) is int and spec.channels in (1, 3),
        }
        for name, valid in rules.items():
            if not valid:
                raise ValueError(name)
        for frame in spec.frames:
            edges = [*frame["size"], *frame["colour"], frame["top"], frame["bottom"], frame["left"], frame["count"]]
            if not all(type(value) is int for value in edges + list(frame["rights"])):
                raise ValueError("frames")
        Settings.from_dict(spec.render or {})
        return spec

    def to_dict(self) -> dict:
        """Return the fields as a dict, for a checkpoint or JSON."""
        return asdict(self)

    def width(self, seconds: float) -> int:
        """Pixels that so many seconds take, at the network's `size`.

        Raises
        ------
        PictureError
            When they are more than fit into memory.
        """
        span = self.window or self.typical_seconds
        width = self.size * seconds / span if self.window else self.size * max(1, round(seconds / span))
        _check_pixels(width * self.size, seconds)
        return max(1, round(width))

    def own_width(self, seconds: float, width: int) -> int:
        """Pixels of the network's input that show a track once: one shorter than a window is repeated to fill it."""
        return min(width, max(1, math.ceil(seconds / self.seconds_per_pixel))) if self.window else width

    @property
    def seconds_per_pixel(self) -> float:
        """Seconds that one column of the network's input spans."""
        return (self.window or self.typical_seconds) / self.size


def _is_length(value: object) -> bool:
    return type(value) in (int, float) and LENGTHS[0] <= value <= LENGTHS[1]  # type: ignore[operator]


def _check_pixels(n: float, seconds: float) -> None:
    if n > MOST_PIXELS:
        raise PictureError(f"spans {seconds:.0f} s, {n:.1e} pixels for this model; expected at most {MOST_PIXELS:.1e}")


@dataclass
class NetworkInput:
    """What a file became.

    Attributes
    ----------
    x : torch.Tensor, shape (channels, size, width), uint8
        At least `InputSpec.size` wide; wider where the track is longer than the network takes at once.
    seconds : float
        Length of the track.
    settings : Settings or None
        How it was drawn, which tells its frequencies; None for other programs' pictures.
    silent : bool
        Whether a recording holds no sound, or a picture is of one or the same everywhere.
    unknown_size : tuple of 2 int, or None
        The picture's size where its margin was cut by its own edges, because no picture of that size was learned from.
    unknown_colours : bool
        Whether its colours are of no known colormap.
    changed : str
        How another program changed a picture of ours; see `render.png.changed`. Empty for others.
    sound_notes : tuple of str
        What `render.audio.decode` says of a recording.
    tilt : float
        See `orientation.tilt_of`; 0 for colours.
    turned : bool
        Whether it is loud where the train pictures are quiet.
    """

    x: torch.Tensor
    seconds: float
    settings: Settings | None = None
    silent: bool = False
    unknown_size: tuple[int, int] | None = None
    unknown_colours: bool = False
    changed: str = ""
    sound_notes: tuple[str, ...] = ()
    tilt: float = 0.0
    turned: bool = False

    @property
    def notes(self) -> list[str]:
        """What the user should know of this file, a line each."""
        notes = ["silent"] if self.silent else []
        notes += self.sound_notes
        if self.unknown_size:
            width, height = self.unknown_size
            notes.append(f"of unknown size {width}x{height}; its margin was cut by its own edges")
        if self.unknown_colours and len(self.x) == 1:
            notes.append("in colours of no known colormap; taken by their brightness")
        if self.changed:
            notes.append(f"drawn by melvision and changed since ({self.changed}); taken for {self.seconds:g} s")
        if self.turned:
            suspects = "is it" if self.settings is None else "were they"
            notes.append(f"loud where the training pictures are quiet; {suspects} {TURNED}?")
        return notes


@dataclass
class Content:
    """What a picture holds, at its own resolution.

    Attributes
    ----------
    pixels : np.ndarray, shape (h, w) or (h, w, 3), uint8
        Levels as the picture has them, not stretched; RGB where the colours are of no known colormap.
    cmap : str or None
        The colormap, ``"gray"`` for grey; None with RGB.
    box : tuple of 4 int
        (left, top, right, bottom) of the content in the whole picture.
    seconds : float
        Length of track that it spans.
    settings : Settings or None
        How it was drawn; None for other programs' pictures.
    unknown_size : tuple of 2 int, or None
        As of `NetworkInput`.
    changed, silent : str, bool
        As of `NetworkInput`.
    """

    pixels: np.ndarray
    cmap: str | None
    box: tuple[int, int, int, int]
    seconds: float
    settings: Settings | None = None
    unknown_size: tuple[int, int] | None = None
    changed: str = ""
    silent: bool = False

    @property
    def has_tilt(self) -> bool:
        """Whether `orientation.tilt_of` tells something: of levels in Mel bands, not of colours or other features."""
        return self.cmap is not None and (self.settings is None or self.settings.kind == "mel")


class Preprocessor:
    """Make the network's input, as a transform: PIL image to uint8 tensor.

    On an ordinary picture of a whole track this is torchvision's
    ``Compose([RemoveBorder(frames), Resize((size, size)), PILToTensor()])``. Beyond that, colours of a known colormap
    become levels, levels are stretched to their own range, and where the network takes a window of a track, or pieces
    of a long one, the input is as much wider.

    Parameters
    ----------
    spec : InputSpec, optional
        A model's; without one, the default serves.
    max_seconds : float, optional
        Refuse longer tracks, before more of them than that is decoded.
    first_seconds : float, optional
        Read only so much of a recording.
    """

    def __init__(
        self, spec: InputSpec | None = None, *, max_seconds: float | None = None, first_seconds: float | None = None
    ):
        self.spec = spec or InputSpec()
        self.max_seconds, self.first_seconds = max_seconds, first_seconds
        self.remove_border = RemoveBorder(self.spec.frames)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.spec.size}, {self.remove_border})"

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return uint8 (channels, size, width) of one picture; see `from_image`."""
        return self.from_image(image).x

    @property
    def settings(self) -> Settings:
        """How audio is drawn for this model."""
        # A second more than allowed shows that it is too long; frames at both ends add a little to its length.
        duration = self.first_seconds or (self.max_seconds and self.max_seconds + 1)
        return replace(Settings.from_dict(self.spec.render or {}), duration=duration)

    def learn_margins(self, paths: Iterable[str | Path]) -> "Preprocessor":
        """Return one that also cuts the margins of these pictures, where they are of sizes not met before.

        Parameters
        ----------
        paths : iterable of str or Path
            Pictures of one source, several of each size.
        """
        frames = border_of(survey_folder([str(path) for path in paths]), self.remove_border).frames
        return Preprocessor(replace(self.spec, frames=frames), max_seconds=self.max_seconds)

    def from_file(self, path: str | Path) -> NetworkInput:
        """Read a picture or a recording.

        Raises
        ------
        PictureError, AudioError, ValueError
            When it cannot be used; the message says why, without the path.
        """
        path = Path(path)
        if path.suffix.lower() in AUDIO_ENDINGS:
            notes: list[str] = []
            drawn = self.from_values(*batch.compute(path, self.settings, notes=notes))
            return replace(drawn, sound_notes=tuple(notes)) if notes else drawn
        return self.from_image(load(path))

    def from_image(self, image: Image.Image) -> NetworkInput:
        """Take a picture, as `images.load` opens it; errors as of `from_file`."""
        content = self.content(image)
        self._check_length(content.seconds)
        return self._to_input(content)

    def content(self, image: Image.Image) -> "Content":
        """Return what a picture holds at its own resolution: margin removed, colours turned into levels."""
        about = png.read_about(image)
        box, learned = self.remove_border.box(image)
        pixels, cmap = read_levels(image, box)
        seconds = seconds_of(about, image.width) if about else self.spec.track_seconds
        settings = Settings.from_dict(about) if about else None
        unknown_size = None if learned else image.size
        silent = bool(about and about.get("silent")) or bool((pixels == pixels[:1, :1]).all())
        return Content(pixels, cmap, box, seconds, settings, unknown_size, png.changed(image), silent)

    def from_samples(self, y: np.ndarray, sr: int | None) -> NetworkInput:
        """Draw audio in memory as a file of it would be drawn.

        Parameters
        ----------
        y : np.ndarray, shape (n,) or (n, channels), floating
            The signal, nominally in [-1, 1].
        sr : int, in Hz
            Its sampling rate.
        """
        if sr is None:
            raise MelvisionError("sr=None: samples need their sampling rate in Hz")
        y = np.asarray(y)
        if y.dtype.kind != "f" or y.ndim not in (1, 2):
            raise ValueError(f"y is {y.dtype} of shape {y.shape}; expected floats (n,) or (n, channels)")
        self._check_length(len(y) / sr)
        settings = self.settings
        y = (y[:, None] if y.ndim == 1 else y).astype(np.float32, copy=False)
        step = max(1, audio.BLOCK_SAMPLES // max(1, y.shape[1]))  # as a file is decoded
        blocks = (y[at : at + step] for at in range(round(settings.offset * sr), len(y), step))
        notes: list[str] = []
        pieces = audio.to_mono(blocks, sr, settings.sr, offset=settings.offset, notes=notes)
        return replace(self.from_values(*batch.compute_pieces(pieces, settings)), sound_notes=tuple(notes))

    def from_values(self, values: np.ndarray, silent: bool = False) -> NetworkInput:
        """Take a spectrogram as `render.batch.compute` gives it, drawn with `settings`.

        Parameters
        ----------
        values : np.ndarray, shape (n_rows, n_frames), float32
            Decibels, or features; row 0 is the lowest band.
        silent : bool
            Whether the recording holds no sound.
        """
        settings = self.settings
        levels = png.quantise_rows(values, png.describe(settings, {}, "magma"))[::-1]
        height, width = levels.shape
        seconds = width * settings.hop_length / settings.sr
        self._check_length(seconds - 0.5)
        return self._to_input(Content(levels, "gray", (0, 0, width, height), seconds, settings, silent=silent))

    def _to_input(self, content: "Content") -> NetworkInput:
        pixels = content.pixels
        if content.settings and self.spec.drawn:
            tracks = content.seconds / self.spec.typical_seconds
            _check_pixels(tracks * self.spec.drawn[0] * self.spec.drawn[1], content.seconds)
            pixels = redraw(pixels, self.spec.drawn, tracks)
        x = to_tensor(pixels, as_drawn=self._is_absolute(content.settings))
        unknown_colours = len(x) == 3
        x = resize(x, self.spec.size, self.spec.width(content.seconds))
        if self.spec.channels:
            x = match_channels(x, self.spec.channels)
        tilt = tilt_of(x[0].numpy()) if len(x) == 1 and content.has_tilt else 0.0
        return NetworkInput(
            x,
            content.seconds,
            content.settings,
            content.silent,
            content.unknown_size,
            unknown_colours,
            content.changed,
            tilt=tilt,
            turned=is_turned(tilt, self.spec.tilt, upright=content.settings is not None),
        )

    def _is_absolute(self, drawn: Settings | None) -> bool:
        """Whether a picture's levels mean the same decibels as those of the train pictures, as they are."""
        own = self.settings
        return self.spec.absolute and drawn is not None and (drawn.ref, drawn.top_db) == (own.ref, own.top_db)

    def _check_length(self, seconds: float) -> None:
        # A picture's own text chunk says how long it is, and may say anything.
        if self.max_seconds is not None and seconds > self.max_seconds:
            raise MelvisionError(f"is longer than {self.max_seconds:g} s, the limit here; cut out a part of it")


def to_tensor(pixels: np.ndarray, as_drawn: bool = False) -> torch.Tensor:
    """Levels, stretched to their own range, or colours, as a tensor.

    Parameters
    ----------
    pixels : np.ndarray, shape (h, w) or (h, w, 3), uint8
        As `colormaps.read_levels` gives them.
    as_drawn : bool
        Leave levels as they are.

    Returns
    -------
    x : torch.Tensor, shape (1, h, w) or (3, h, w), uint8
    """
    if pixels.ndim == 3:
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    return torch.from_numpy(np.array(pixels if as_drawn else stretch(pixels)))[None]


def redraw(pixels: np.ndarray, size: Sequence[int], tracks: float = 1.0) -> np.ndarray:
    """Bring one of our pictures to the size that another program would have drawn, without blending.

    Parameters
    ----------
    pixels : np.ndarray, shape (h, w) or (h, w, 3), uint8
        Levels or colours.
    size : sequence of 2 int
        Width and height of the other program's pictures.
    tracks : float
        How many times as long as the other program's tracks this one is.
    """
    shape = (max(1, round(size[0] * tracks)), size[1])
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(shape, Image.Resampling.NEAREST))


def resize(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize a picture, and repeat one narrower than `height` until it is as wide as it is high.

    Parameters
    ----------
    x : torch.Tensor, shape (channels, h, w), uint8
        Levels or colours.
    height, width : int
        In pixels. To stretch a short picture to more than its width would slow the music down.

    Returns
    -------
    x : torch.Tensor, shape (channels, height, max(height, width)), uint8
    """
    # torchvision's resize is this, bit for bit, but takes seconds to import; predicting needs nothing else of it.
    x = interpolate(x[None], (height, width), mode="bilinear", antialias=True)[0]
    if x.shape[-1] < height:
        x = x.repeat(1, 1, -(-height // x.shape[-1]))[..., :height]
    return x


def match_channels(x: torch.Tensor, channels: int) -> torch.Tensor:
    """Bring a picture to the channels a model takes.

    Parameters
    ----------
    x : torch.Tensor, shape (1 or 3, h, w), uint8
        Levels or colours.
    channels : int
        1 or 3.

    Returns
    -------
    x : torch.Tensor, shape (channels, h, w), uint8
        Levels are shown to a colour model in magma; colours of unknown meaning are shown to a model
        of levels by their brightness.
    """
    if len(x) == channels:
        return x
    if channels == 3:
        return torch.from_numpy(png.palette("magma").copy())[x[0].long()].permute(2, 0, 1).contiguous()
    red, green, blue = x
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).to(torch.uint8)[None]


def seconds_of(about: dict, width: int) -> float:
    """Length of track that a picture of ours spans, by its text chunk and its width in pixels.

    Raises
    ------
    PictureError
        When it claims to span more than `LONGEST_PICTURE`.
    """
    seconds = width * about["hop_length"] / about["sr"]
    if seconds > LONGEST_PICTURE:
        raise PictureError(f"says that it spans {seconds:.0f} s; expected at most {LONGEST_PICTURE:.0f}")
    return seconds


def learn_input_spec(
    paths: Iterable[str],
    *,
    size: int = 224,
    window: float | None = None,
    track_seconds: float = 30.0,
    channels: int | None = None,
) -> InputSpec:
    """Learn from the train pictures how a model's input is made.

    Parameters
    ----------
    paths : iterable of str or Path
        The train pictures; those that cannot be read are passed over.
    size, window, track_seconds, channels
        As of `InputSpec`. A window longer than most tracks, which would be filled by repeating them, is shortened.

    Returns
    -------
    spec : InputSpec
        With their margins, the commonest settings, and their median length and size.
    """
    records = [record for record in survey_folder(list(paths)) if not record.error]
    remove_border = border_of(records)
    ours = [(record, record.settings) for record in records if record.settings]
    lengths = []
    for record, settings in ours:
        try:
            lengths.append(seconds_of(json.loads(settings), record.size[0]))
        except PictureError:  # reported when the picture is read
            continue
    foreign = [record for record in records if not record.settings]
    spec = InputSpec(size, channels, window, track_seconds, frames=remove_border.frames)
    median = float(np.median(lengths + [track_seconds] * len(foreign))) if lengths or foreign else track_seconds
    if window:
        spec.window = min(window, median)
    if ours:
        spec.typical_seconds = float(np.median(lengths)) if lengths else track_seconds
        spec.render = json.loads(Counter(settings for _, settings in ours).most_common(1)[0][0])
        spec.absolute = not foreign and Settings.from_dict(spec.render or {}).ref != "max"
    else:
        spec.typical_seconds = track_seconds
        sizes = [remove_border.content_size(record.size, record.margin) for record in foreign]
        spec.drawn = np.median(sizes, axis=0).astype(int).tolist() if sizes else None
    return spec

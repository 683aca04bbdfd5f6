"""RemoveBorder: cut off the margins that plotting programs leave, learned from the pictures of a folder."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from render import png
from vision.data.axes import Box, find_axes
from vision.data.colormaps import LOSSY, WHITE, as_rgb, is_outside_colormap

#: Share of the pixels of an edge that may be of labels.
CUT_LABELS = 0.2


class Margin(NamedTuple):
    """The margin of one picture, by its own pixels.

    Attributes
    ----------
    colour : tuple of 3 int, or None
        RGB of a frame of one colour all around; None where the outermost pixels are not of one colour.
    box : tuple of 4 int
        What lies inside the frame, and inside the axes where a figure has labels. It can only be too small: silence
        drawn in the frame's colour looks like more frame.
    certain : bool
        Whether silence cannot look like more frame, or hardly: lines were drawn around the axes, or the frame is of a
        colour, other than white, that the spectrogram's colormap does not have, or that labels stand on.
    """

    colour: tuple | None
    box: Box
    certain: bool = False


def own_box(image: Image.Image) -> Margin:
    """Find the margin of one picture by its own pixels: a frame of one colour all around, and what labels axes.

    Parameters
    ----------
    image : PIL.Image.Image
        Any mode.

    Returns
    -------
    margin : Margin
    """
    width, height = image.size
    lossy = image.format in LOSSY
    tolerance = 40 if lossy else 2
    uncut = (0, 0, width, height)
    corner = as_rgb(image.crop((0, 0, 1, 1)))[0, 0]

    def differs(part: np.ndarray) -> np.ndarray:
        return (np.abs(part.astype(np.int16) - corner) > tolerance).any(axis=-1)

    # The other pixels are compared only if these have one colour, apart from labels that a figure has no room for.
    edges = [(0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height)]
    others = max(differs(as_rgb(image.crop(edge))).mean() for edge in edges)
    if others > CUT_LABELS:
        return Margin(None, uncut)
    pixels = as_rgb(image)
    inside = differs(pixels)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if len(rows) == 0:
        return Margin(None, uncut)
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    colour = tuple(int(value) for value in pixels[0, 0])
    axes = find_axes(pixels, inside, box, 60 if lossy else 2)  # thin lines and letters ripple most
    if axes:
        box, has_lines = axes
        return Margin(colour, box, has_lines or colour != WHITE)
    if others:
        return Margin(None, uncut)
    left, top, right, bottom = box
    inner = pixels[top:bottom, left:right]
    return Margin(colour, box, colour != WHITE and is_outside_colormap(colour, inner, lossy=lossy))


class RemoveBorder:
    """Cut off the margin that plotting programs leave around a spectrogram; a transform of PIL images.

    Looking at one picture is not enough. matplotlib draws digital silence white inside the axes,
    and low-passed music has constant dark rows on top. So the content's edges are learned from
    many pictures of one size, which share them: see `fit`. A picture without a frame of one colour
    all around is returned as it is, and so are the pictures that ``python -m render`` writes.

    Parameters
    ----------
    frames : list of dict
        What `fit` learned. Each has ``size`` (width, height), ``colour`` (RGB), ``top``, ``bottom``,
        ``left``, the shared ``rights``, and the ``count`` of pictures. JSON-able.
    """

    def __init__(self, frames: Iterable[dict] = ()):
        self.frames = [dict(frame) for frame in frames]

    def __repr__(self) -> str:
        sizes = ", ".join("{}x{}".format(*frame["size"]) for frame in self.frames)
        return f"{type(self).__name__}({sizes or 'no margins known'})"

    @classmethod
    def fit(cls, images: Iterable[Image.Image]) -> "RemoveBorder":
        """Learn the frames of a folder's pictures.

        Parameters
        ----------
        images : iterable of PIL.Image.Image
            Many pictures, of any sizes.

        Returns
        -------
        remove_border : RemoveBorder
            Knows, for each size and frame colour, the edges that pictures share.
        """
        # Pictures that `render` drew have no margin.
        return cls.from_margins(
            (image.size, *(own_box(image) if png.read_about(image) is None else Margin(None, (0, 0, *image.size))))
            for image in images
        )

    @classmethod
    def from_margins(cls, margins: Iterable[tuple]) -> "RemoveBorder":
        """As `fit`, from the margin of each picture.

        Parameters
        ----------
        margins : iterable of (size, colour, box, certain)
            Width and height of the whole picture, and the values of `own_box`.
        """
        boxes_of: dict[tuple, list] = defaultdict(list)
        total: Counter = Counter()
        for size, colour, box, certain in margins:
            total[size] += 1
            if colour is not None:
                boxes_of[size, colour, certain].append(box)
        frames = []
        for (size, colour, certain), boxes in sorted(boxes_of.items()):
            # None of the common colormaps holds white. Another colour may be part of the spectrogram, such as the
            # black of a quiet track's first and last frames: it is a margin only if most pictures have it.
            may_be_music = colour != WHITE and not certain
            if may_be_music and (len(boxes) < 3 or len(boxes) * 2 <= total[size]):
                continue
            by_height: dict[tuple, list] = defaultdict(list)
            for box in boxes:
                by_height[box[1], box[3]].append(box)
            if may_be_music:  # dark rows of the music look like more margin: take the outermost edges
                tops, bottoms = zip(*by_height, strict=True)
                by_height = {(min(tops), max(bottoms)): boxes}
            for (top, bottom), same in by_height.items():
                if len(by_height) > 1 and len(same) < max(2, len(boxes) // 20):
                    continue
                # Some tracks start or end in silence, a few by chance at the same place. So the margin's left edge is
                # the outermost of the shared ones; its right edges are several where lengths differ.
                left = min(_shared([box[0] for box in same], 2) or [box[0] for box in same])
                rights = _shared([box[2] for box in same], 3) or [max(box[2] for box in same)]
                frame = {"size": list(size), "colour": list(colour), "top": top, "bottom": bottom}
                frames.append(frame | {"left": left, "rights": rights, "count": len(same)})
        return cls(frames)

    def knows(self, size: Sequence[int]) -> bool:
        """Whether margins were learned for pictures of this (width, height)."""
        return any(tuple(frame["size"]) == tuple(size) for frame in self.frames)

    def box(self, image: Image.Image) -> tuple[Box, bool]:
        """The content of a picture.

        Parameters
        ----------
        image : PIL.Image.Image
            Any mode.

        Returns
        -------
        box : tuple of 4 int
            (left, top, right, bottom); the whole picture where there is no margin.
        known : bool
            False where no margin was learned for its size and its own edges, by which it was cut, are not certain.
        """
        if png.read_about(image) is not None:
            return (0, 0, *image.size), True
        return self._box(image.size, *own_box(image))

    def content_size(self, size: Sequence[int], margin: tuple | None) -> tuple[int, int]:
        """Width and height of a picture's content.

        Parameters
        ----------
        size : sequence of 2 int
            Of the whole picture.
        margin : tuple, or None
            From `own_box`; None where its pixels were not decoded: then the most common frame of its size is taken.
        """
        if margin is None:
            frames = [frame for frame in self.frames if tuple(frame["size"]) == tuple(size)]
            frame = max(frames, key=lambda frame: frame["count"], default=None)
            if frame is None:
                return size[0], size[1]
            return frame["rights"][0] - frame["left"], frame["bottom"] - frame["top"]
        (left, top, right, bottom), _ = self._box((size[0], size[1]), *margin)
        return right - left, bottom - top

    def _box(self, size: tuple[int, int], colour: tuple | None, own: Box, certain: bool) -> tuple[Box, bool]:
        """As `box`, from the values of `own_box`."""
        uncut = (0, 0, *size)
        if colour is None:
            return uncut, True
        if certain:
            return own, True
        left, top, right, bottom = own
        frames = [f for f in self.frames if tuple(f["size"]) == size and tuple(f["colour"]) == colour]
        frames = [f for f in frames if f["top"] <= top and f["bottom"] >= bottom]
        if not frames:
            return (own, False) if colour == WHITE else (uncut, True)
        frame = min(frames, key=lambda f: (top - f["top"] + f["bottom"] - bottom, -f["count"]))
        left = min(left, frame["left"])  # frame-coloured columns right of the shared edge are silence
        # With one shared right edge, such columns left of it are silence too. With several, lengths differ, and the
        # picture's own edge is as good as any of them.
        if len(frame["rights"]) == 1:
            right = max(right, frame["rights"][0])
        return (left, frame["top"], right, frame["bottom"]), True

    def __call__(self, image: Image.Image) -> Image.Image:
        """Cut one picture.

        Parameters
        ----------
        image : PIL.Image.Image
            Any mode.

        Returns
        -------
        image : PIL.Image.Image
            The content, in the same mode; the same object where there is nothing to cut.
        """
        box, _ = self.box(image)
        return image if box == (0, 0, *image.size) else image.crop(box)


def _shared(edges: list[int], least: int) -> list[int]:
    """Edges that at least `least` pictures and one in twenty share, the most common first."""
    quorum = max(least, len(edges) // 20)
    return [edge for edge, votes in Counter(edges).most_common() if votes >= quorum]

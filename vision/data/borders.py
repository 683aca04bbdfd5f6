"""RemoveBorder: cut off the margins that plotting programs leave, learned from the pictures of a folder."""

from collections import Counter, defaultdict

import numpy as np

from render import png
from render.cli import progress
from vision.data.colormaps import WHITE, as_rgb
from vision.data.images import load


def own_box(image):
    """What one picture says of its margin: a frame of one colour all around.

    Parameters
    ----------
    image : PIL.Image.Image
        Any mode.

    Returns
    -------
    colour : tuple of 3 int, or None
        RGB of the frame; None where the outermost pixels are not of one colour.
    box : tuple of 4 int
        (left, top, right, bottom) of what lies inside the frame, as `PIL.Image.Image.crop` takes it.
        It can only be too small: silence drawn in the frame's colour looks like more frame.
    """
    width, height = image.size
    # Lossy formats ripple around edges.
    tolerance = 40 if image.format in ("JPEG", "WEBP") else 2
    whole = (0, 0, width, height)
    corner = as_rgb(image.crop((0, 0, 1, 1)))[0, 0]

    def differs(part):
        return (np.abs(part.astype(np.int16) - corner) > tolerance).any(axis=-1)

    # The rest of the pixels is looked at only if these are of one colour.
    edges = [(0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height)]
    if any(differs(as_rgb(image.crop(edge))).any() for edge in edges):
        return None, whole
    pixels = as_rgb(image)
    inside = differs(pixels)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if len(rows) == 0:
        return None, whole
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return tuple(int(value) for value in pixels[0, 0]), box


class RemoveBorder:
    """Cut off the margin that plotting programs leave around a spectrogram.

    Looking at one picture is not enough. matplotlib draws digital silence white inside the axes,
    and low-passed music has constant dark rows on top. So the content's edges are learned from
    many pictures of one size, which share them: see `fit`. A picture without a frame of one colour
    all around is returned as it is, and so are the pictures that ``python -m render`` writes.

    Parameters
    ----------
    frames : list of dict
        What `fit` learned. Each has ``size`` (width, height), ``colour`` (RGB), ``top``, ``bottom``,
        ``left``, the shared ``rights``, and the ``count`` of pictures. JSON-able.

    Attributes
    ----------
    alone : int
        How many pictures of unknown size were cut by their own edges only.
    """

    def __init__(self, frames=()):
        self.frames = [dict(frame) for frame in frames]
        self.alone = 0

    def __repr__(self):
        sizes = ", ".join("{}x{}".format(*frame["size"]) for frame in self.frames)
        return f"{type(self).__name__}({sizes or 'no margins known'})"

    @classmethod
    def fit(cls, images):
        """Learn the frames of a folder.

        Parameters
        ----------
        images : iterable of PIL.Image.Image
            Many pictures, of any sizes.

        Returns
        -------
        remove_border : RemoveBorder
            Knows, for each size and frame colour, the edges that pictures share.
        """
        seen = defaultdict(list)
        total = Counter()
        for image in images:
            total[image.size] += 1
            if png.read_about(image) is None:
                colour, box = own_box(image)
                if colour is not None:
                    seen[image.size, colour].append(box)
        frames = []
        for (size, colour), boxes in sorted(seen.items()):
            # White is in no colormap worth its name. Another colour may be the music's own, such as
            # the black of a quiet track's first and last frames: only a majority makes it a frame.
            if colour != WHITE and (len(boxes) < 3 or len(boxes) * 2 <= total[size]):
                continue
            by_height = defaultdict(list)
            for box in boxes:
                by_height[box[1], box[3]].append(box)
            if colour != WHITE:  # dark rows of the music look like more margin: the outermost edges count
                tops, bottoms = zip(*by_height, strict=True)
                by_height = {(min(tops), max(bottoms)): boxes}
            for (top, bottom), mine in by_height.items():
                if len(by_height) > 1 and len(mine) < max(2, len(boxes) // 20):
                    continue
                # Some start or end in silence, a few by chance at the same place. A left edge further
                # in is never the margin's; right edges differ where lengths do.
                left = min(_shared([box[0] for box in mine], 2) or [box[0] for box in mine])
                rights = _shared([box[2] for box in mine], 3) or [max(box[2] for box in mine)]
                frame = {"size": list(size), "colour": list(colour), "top": top, "bottom": bottom}
                frames.append(frame | {"left": left, "rights": rights, "count": len(mine)})
        return cls(frames)

    def knows(self, size):
        """Tell whether margins of pictures of this (width, height) were met."""
        return any(tuple(frame["size"]) == tuple(size) for frame in self.frames)

    def box(self, image):
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
            False where the size is unknown and the picture's own edges had to do.
        """
        whole = (0, 0, *image.size)
        if png.read_about(image) is not None:
            return whole, True
        colour, own = own_box(image)
        if colour is None:
            return whole, True
        left, top, right, bottom = own
        frames = [f for f in self.frames if tuple(f["size"]) == image.size and tuple(f["colour"]) == colour]
        frames = [f for f in frames if f["top"] <= top and f["bottom"] >= bottom]
        if not frames:
            return (own, False) if colour == WHITE else (whole, True)
        frame = min(frames, key=lambda f: (top - f["top"] + f["bottom"] - bottom, -f["count"]))
        left = min(left, frame["left"])  # what looks like more margin right of it is silence
        # One shared right edge: short of it is silence too. Several: lengths differ, and a picture's
        # own edge is as good as theirs.
        if len(frame["rights"]) == 1:
            right = max(right, frame["rights"][0])
        return (left, frame["top"], right, frame["bottom"]), True

    def __call__(self, image):
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
        box, known = self.box(image)
        self.alone += not known
        return image if box == (0, 0, *image.size) else image.crop(box)


def _shared(edges, least):
    """Edges that enough pictures have, the most shared first: `least`, and one in twenty."""
    quorum = max(least, len(edges) // 20)
    return [edge for edge, votes in Counter(edges).most_common() if votes >= quorum]


#: How many pictures of one size are looked at to learn where its margins end, and how long tracks are.
BORDER_SAMPLE = 256


def fit_border(paths, known=None):
    """Learn the margins of many pictures, from up to `BORDER_SAMPLE` of each size.

    Parameters
    ----------
    paths : iterable of str or Path
        Files; those that cannot be read as pictures are passed over.
    known : RemoveBorder, optional
        Learned before; only sizes that it does not know are looked at.

    Returns
    -------
    remove_border : RemoveBorder
        With the frames of `known` and the new ones.
    """
    known = known or RemoveBorder()
    by_size = {}
    for path in paths:
        try:
            with png.open_picture(path) as image:
                if png.read_about(image) is None and not known.knows(image.size):
                    by_size.setdefault(image.size, []).append(path)
        except png.PictureError:
            continue
    chosen = []
    for same in by_size.values():
        # Spread over the folder, so that no genre or source is missed. A lone picture tells nothing
        # that it would not tell when it is cut.
        at = np.linspace(0, len(same) - 1, min(len(same), BORDER_SAMPLE)).round().astype(int)
        chosen += [same[number] for number in at] if len(same) > 1 else []

    def readable():
        for path in progress(chosen, total=len(chosen), desc="margins", unit="picture"):
            try:
                yield load(path)
            except png.PictureError:
                continue

    return RemoveBorder(known.frames + RemoveBorder.fit(readable()).frames)

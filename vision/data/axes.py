"""The axes of a figure: which part of a picture is plotted, and which is labels, ticks, a title and a colour bar."""

import numpy as np

#: left, top, right, bottom, as `PIL.Image.Image.crop` takes them.
Box = tuple[int, int, int, int]

#: An edge of the content of which less than this is drawn is no edge of a spectrogram, but labels or ticks.
DENSE = 0.5

#: Height or width of letters, at most, as a share of the picture's shorter side.
LETTERS = 0.1

#: Length of a bar of colour, at least, as a share of the picture's shorter side.
LEAST_BAR = 0.3

#: Share of the pixels of a bar of colour, at least, that are like the others along it; ticks may lie across it.
EVEN = 0.85

#: Colours of such a bar, at least: a tone that is held is long and even, too.
LEAST_COLOURS = 16

#: Share of the axes that is drawn, at least, where no lines are around them.
FILLED = 0.95

#: Rows and columns at the edges of such axes that may be blended with the paper.
BLENDED = 2

#: Figures of more pixels, or of more parts, are not looked into: they would take seconds.
MOST_PIXELS, MOST_PARTS = 30_000_000, 5000

#: Area of the axes, at least, as a share of the picture.
LEAST_AREA = 0.2

#: Grey letters differ between red, green and blue by this at most.
GREY = 10

#: So many letters tell that a picture is a figure.
LEAST_LETTERS = 3

#: Width of the lines around axes, at most, in pixels.
THICKEST_LINE = 8


def find_axes(pixels: np.ndarray, inside: np.ndarray, box: Box, tolerance: int) -> tuple[Box, bool] | None:
    """Find the axes of a figure with labels.

    The axes are the largest connected part of a figure. All other parts have to be what figures hold besides: letters,
    and bars of colour, which are the same all along one direction. Otherwise nothing is found: silence may cut a
    spectrogram into parts. Where no lines are drawn around the axes, they must be filled, and there must be a bar, or
    several letters in grey: other small parts may be sounds between silence.

    Parameters
    ----------
    pixels : np.ndarray, shape (h, w, 3), uint8
        The picture.
    inside : np.ndarray, shape (h, w), bool
        Which pixels are not of the colour of its margin.
    box : tuple of 4 int
        (left, top, right, bottom) of all such pixels.
    tolerance : int
        Differences up to this are the same colour.

    Returns
    -------
    box : tuple of 4 int
        (left, top, right, bottom) of the plotted area, without the lines around it.
    certain : bool
        Whether there are such lines.
    None is returned instead of both where the picture is no figure with labels.
    """
    if _edges(inside, box) >= DENSE or inside.size > MOST_PIXELS:
        return None
    from scipy.ndimage import find_objects, label

    parts, n_parts = label(inside, structure=np.ones((3, 3)))
    if n_parts > MOST_PARTS:
        return None
    boxes = [(part[1].start, part[0].start, part[1].stop, part[0].stop) for part in find_objects(parts)]
    sizes = [(right - left) * (bottom - top) for left, top, right, bottom in boxes]
    number = int(np.argmax(sizes))
    axes = _without_ticks(parts == number + 1, boxes[number])
    area = (axes[2] - axes[0]) * (axes[3] - axes[1])
    if area < LEAST_AREA * inside.size:
        return None
    letters, bars = [], 0
    for label_number, other in enumerate(boxes, start=1):
        left, top, right, bottom = other
        if _holds(boxes[number], other):
            continue
        if max(right - left, bottom - top) >= LEAST_BAR * min(inside.shape) and _is_colour_bar(
            pixels, _without_ticks(inside, other), tolerance
        ):
            bars += 1
        elif min(right - left, bottom - top) <= LETTERS * min(inside.shape):
            letters.append(pixels[top:bottom, left:right][parts[top:bottom, left:right] == label_number])
        else:
            return None
    inner = _without_lines(pixels, axes, tolerance)
    if inner is not None:
        return inner, True
    plotted = inside[axes[1] : axes[3], axes[0] : axes[2]][BLENDED:-BLENDED, BLENDED:-BLENDED]
    if plotted.size == 0 or min(_edges(plotted, (0, 0, *plotted.shape[::-1])), plotted.mean()) < FILLED:
        return None
    if letters and np.ptp(np.concatenate(letters).astype(np.int16), axis=1).max() > GREY + tolerance:
        return None
    return (axes, False) if bars or len(letters) >= LEAST_LETTERS else None


def _edges(inside: np.ndarray, box: Box) -> float:
    """The share of pixels that are drawn, of the edge of a box in which it is least."""
    left, top, right, bottom = box
    part = inside[top:bottom, left:right]
    return min(part[0].mean(), part[-1].mean(), part[:, 0].mean(), part[:, -1].mean())


def _holds(outer: Box, inner: Box) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


def _without_ticks(inside: np.ndarray, box: Box) -> Box:
    """A box without the rows and columns at its edges in which little is drawn."""
    left, top, right, bottom = box
    part = inside[top:bottom, left:right]
    rows = np.flatnonzero(part.mean(axis=1) >= DENSE)
    columns = np.flatnonzero(part.mean(axis=0) >= DENSE)
    if len(rows) == 0 or len(columns) == 0:
        return left, top, left, top
    return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1


def _is_colour_bar(pixels: np.ndarray, box: Box, tolerance: int) -> bool:
    """Whether a box holds the same colours in all its columns, or in all its rows, apart from lines around it."""
    left, top, right, bottom = box
    line = min(THICKEST_LINE, (right - left) // 4, (bottom - top) // 4)
    part = pixels[top + line : bottom - line, left + line : right - line].astype(np.int16)
    if part.size == 0:
        return False
    for axis in (0, 1):
        colours = np.median(part, axis=axis, keepdims=True)
        even = (np.abs(part - colours) <= tolerance).all(axis=2).mean() >= EVEN
        if even and len(np.unique(colours.reshape(-1, 3), axis=0)) >= LEAST_COLOURS:
            return True
    return False


def _without_lines(pixels: np.ndarray, box: Box, tolerance: int) -> Box | None:
    """A box without the lines of one colour at all four edges; None where there are none."""
    left, top, right, bottom = box
    part = pixels[top:bottom, left:right].astype(np.int16)
    depth = min(THICKEST_LINE, part.shape[0] // 4, part.shape[1] // 4)
    if depth < 1:
        return None
    # Each side seen from outside: (depth, length, 3).
    sides = [part[:depth], part[::-1][:depth], part.swapaxes(0, 1)[:depth], part.swapaxes(0, 1)[::-1][:depth]]
    # Ticks end at the outermost row of a line, which is faint; what is drawn inside may cover its innermost one.
    colours = [side[np.ptp(side[:, depth:-depth], axis=1).max(axis=1) <= tolerance] for side in sides]
    if not all(len(lines) for lines in colours):
        return None
    for colour in np.unique(colours[0][:, depth], axis=0):
        lines = [
            np.flatnonzero((np.abs(side[:, depth:-depth] - colour) <= tolerance).all(axis=(1, 2))) for side in sides
        ]
        if all(len(found) for found in lines):
            # Dark rows of the music may go on in the colour of a line: the thinnest tells how thick all are.
            thick = min(_run(found) for found in lines)
            before, above = int(lines[2][0]) + thick, int(lines[0][0]) + thick
            return left + before, top + above, right - int(lines[3][0]) - thick, bottom - int(lines[1][0]) - thick
    return None


def _run(numbers: np.ndarray) -> int:
    """How many of some sorted numbers follow each other without a gap, from the first on."""
    return int(np.argmax(np.append(np.diff(numbers), 2) != 1)) + 1

"""Pictures of genre folders to tensors: each decoded once, faults listed."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed

from render import png
from render.cli import InputError, progress
from render.settings import Settings
from vision.pixels import load
from vision.store import Store
from vision.transforms import RemoveBorder, ToInput, match_channels, redraw

#: Seconds that a picture may say that it spans: drawn out for the network, longer ones would fill the memory.
LONGEST = 1e5
#: How many pictures of one size are looked at to learn where its margins end, and how long tracks are.
BORDER_SAMPLE = 256


@dataclass
class Pictures:
    """The pictures of one folder, in memory.

    Attributes
    ----------
    x : Store
        Levels (1 channel) or colours (3), `size` high.
    y : torch.Tensor, shape (n,), int64
        Labels: positions in `classes`.
    paths : list of str
        Where each came from.
    classes : list of str
        Genres.
    problems : list of str
        A line for each picture that could not be used, and for each empty genre folder.
    notes : list of str
        What was done that the user should know of.
    render : dict or None
        The commonest settings that the pictures' own text chunks tell; None where none has one.
    seconds : float or None
        The median length of track that those pictures span.
    drawn : list of 2 int, or None
        The median width and height, without margins, where other programs drew all of them.
    """

    x: Store
    y: torch.Tensor
    paths: list
    classes: list
    problems: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    render: dict | None = None
    seconds: float | None = None
    drawn: list | None = None


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


class _ColoursMet(Exception):
    """A picture in colours of unknown meaning came where levels were hoped for."""


def seconds_of(about, width):
    """Length of track that a picture of ours spans, of its text chunk and its width in pixels.

    Raises
    ------
    png.PictureError
        When it says that it spans more than `LONGEST`.
    """
    seconds = width * about["hop_length"] / about["sr"]
    if seconds > LONGEST:
        raise png.PictureError(f"says that it spans {seconds:.0f} s; expected at most {LONGEST:.0f}")
    return seconds


def median_seconds(paths, default):
    """The median length of track that pictures span, in seconds, from `BORDER_SAMPLE` of them.

    Parameters
    ----------
    paths : list of str
        Pictures; those that cannot be read are passed over.
    default : float
        What pictures without our text chunk are taken to span.
    """
    found = []
    for number in np.linspace(0, len(paths) - 1, min(len(paths), BORDER_SAMPLE)).round().astype(int):
        try:
            with png.open_picture(paths[number]) as image:
                about = png.read_about(image)
                found.append(seconds_of(about, image.width) if about else default)
        except png.PictureError:
            continue
    return float(np.median(found)) if found else default


def _read_one(path, remove_border, to_input, frame):
    """The input, what else is to be known of the picture, and the problem: one of the first and last is None."""
    window = frame["window"]
    try:
        image = load(path)
        known = png.read_about(image)
        image = remove_border(image)
        about = {"size": image.size, "seconds": frame["track_seconds"]}
        if known:
            about["seconds"] = seconds_of(known, image.width)
            about["render"] = json.dumps(Settings.from_dict(known).to_dict())
            image = redraw(image, frame["drawn"], about["seconds"] / frame["track_seconds"] if window else 1)
        width = max(1, round(to_input.size * about["seconds"] / window)) if window else to_input.size
        return to_input(image, width), about, None
    except (png.PictureError, MemoryError) as error:
        return None, None, f"{path}: {error}"


def read_folder(
    root, *, size=224, window=None, track_seconds=30.0, remove_border=None, classes=None, channels=None,
    drawn=None, jobs=-1, cache=None, share=None,
):  # fmt: skip
    """Decode every picture of a folder, once.

    Parameters
    ----------
    root : str or Path
        One folder a genre.
    size : int
        Height to resize to.
    window : float, optional
        Seconds that take `size` pixels; by default every picture is made `size` wide, whatever it spans.
    track_seconds : float
        What pictures without our text chunk are taken to span.
    remove_border : RemoveBorder, optional
        Learned before; the margins of sizes it does not know are learned from this folder.
    classes : list of str, optional
        As for `GenreFolder`.
    channels : int, optional
        1 or 3; by default 1 where the colours of every picture can be turned into levels.
    drawn : sequence of 2 int, optional
        Draw ours at this size first: the `drawn` of the pictures a model was trained on.
    jobs : int
        Decoding threads; -1 is one a core.
    cache : str or Path, optional
        Folder for what does not fit into memory; see `Store.collect`.
    share : str or Path, optional
        File for all of it, for other processes; the `path` of `Store.collect`.

    Returns
    -------
    pictures : Pictures
        Those that could be read, in the order of their paths, and what is wrong with the others.

    Raises
    ------
    InputError
        When there is no usable picture, or none of some genre that the folder names.
    """
    # Here, because torchvision, whose ImageFolder it is, takes seconds to import, and predicting needs none of it.
    from vision.genres import GenreFolder

    folder = GenreFolder(root, classes)
    remove_border = fit_border([path for path, _ in folder.samples], known=remove_border)
    frame = {"window": window, "track_seconds": track_seconds, "drawn": drawn}

    def read(channels, stop_at_colours=False):
        calls = Parallel(n_jobs=jobs, prefer="threads", return_as="generator")(
            delayed(_read_one)(path, remove_border, ToInput(size), frame) for path, _ in folder.samples
        )
        kept, abouts, problems = [], [], []

        def usable():
            bar = progress(calls, total=len(folder.samples), desc="read", unit="picture")
            for sample, (x, about, problem) in zip(folder.samples, bar, strict=True):
                if problem:
                    problems.append(problem)
                    continue
                if stop_at_colours and len(x) == 3:
                    raise _ColoursMet
                kept.append(sample)
                abouts.append(about | {"coloured": len(x) == 3})
                yield match_channels(x, channels)

        x = Store.collect(usable(), channels=channels, height=size, folder=cache, path=share)
        return x, kept, abouts, problems

    try:
        x, kept, abouts, problems = read(channels or 1, stop_at_colours=channels is None)
    except _ColoursMet:
        remove_border.alone = 0
        x, kept, abouts, problems = read(3)
    if not kept:
        raise InputError(f"{root}: none of its {len(folder.samples)} pictures can be used; the first: {problems[0]}")
    labels = {label for _, label in kept}
    empty = [Path(root) / name for name in folder.empty]
    notes = [f"{path}: no picture in this genre folder" for path in empty if path.is_dir()]
    problems += [
        f"{Path(root) / name}: no usable picture in this genre folder"
        for name, label in folder.class_to_idx.items()
        if label not in labels and name not in folder.empty
    ]
    coloured = sum(about["coloured"] for about in abouts)
    if coloured:
        shown = "taken as colours" if x.channels == 3 else "taken by their brightness"
        notes.append(f"{root}: {coloured} of {len(kept)} pictures are in colours of no known colormap: {shown}")
    if remove_border.alone:
        notes.append(f"{root}: {remove_border.alone} pictures of a size not met before were cut by their own edges")
    pictures = Pictures(
        x=x,
        y=torch.tensor([label for _, label in kept]),
        paths=[path for path, _ in kept],
        classes=folder.classes,
        problems=problems,
        notes=notes,
    )
    ours = [about for about in abouts if "render" in about]
    if ours:
        pictures.seconds = float(np.median([about["seconds"] for about in ours]))
        pictures.render = json.loads(Counter(about["render"] for about in ours).most_common(1)[0][0])
    else:
        pictures.drawn = np.median([about["size"] for about in abouts], axis=0).astype(int).tolist()
    return pictures

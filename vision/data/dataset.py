"""A folder of genre folders as a torchvision data set, and its pictures decoded once."""

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from torchvision.datasets import ImageFolder

from render import png
from render.cli import progress
from render.errors import MelvisionError
from render.formats import PICTURE_ENDINGS
from render.settings import Settings
from render.tracks import walk
from vision.data.borders import fit_border
from vision.data.folders import what_instead
from vision.data.images import load
from vision.data.pixel_store import PixelStore
from vision.data.preprocess import ToInput, match_channels, redraw, seconds_of


class SpectrogramFolder(ImageFolder):
    """torchvision's ImageFolder, less what is hidden, and with class names that can be given.

    Parameters
    ----------
    root : str or Path
        One folder a genre.
    classes : list of str, optional
        Genres in the order of their labels; by default the folder names in alphabetical order.
    transform : callable, optional
        PIL image to whatever `__getitem__` gives.

    Attributes
    ----------
    empty : list of str
        Genre folders with no picture in them.

    Raises
    ------
    MelvisionError
        When `root` is missing, holds no picture, or has a genre that is not in `classes`.
    """

    def __init__(self, root, classes=None, transform=None):
        self._classes = classes
        root = Path(root)
        if not root.is_dir():
            found = "it is a file" if root.exists() else "there is no such folder"
            raise MelvisionError(f"{root}: {found}; expected a folder of genre folders, <genre>/<track>.png")
        super().__init__(root, transform, loader=load, is_valid_file=self._is_picture, allow_empty=True)
        # A file is one picture, however many links lead to it.
        first = {os.path.realpath(path): (path, label) for path, label in reversed(self.samples)}
        self.samples = self.imgs = sorted(first.values())
        self.targets = [label for _, label in self.samples]
        if not self.samples:
            raise MelvisionError(f"{root}: no picture in it; {what_instead(root)}")
        used = set(self.targets)
        self.empty = [name for name, label in self.class_to_idx.items() if label not in used]

    @staticmethod
    def make_dataset(directory, class_to_idx, extensions=None, is_valid_file=None, allow_empty=True):
        """Return the pictures, (path, label) each; not in circles where links lead back, as torchvision's own would."""
        tops = {name: os.path.join(directory, name) for name in class_to_idx}
        real = {name: os.path.realpath(top) for name, top in tops.items() if os.path.isdir(top)}
        samples = []
        for name in real:
            # What is another genre's own folder stays that genre's, also where this one has a link to it.
            others = [other for other in real.values() if other != real[name]]
            paths = map(str, walk(tops[name], above=[directory, *others]))
            samples += [(path, class_to_idx[name]) for path in paths if is_valid_file(path)]
        return samples

    def _is_picture(self, path):
        inside = Path(path).relative_to(self.root).parts
        return path.lower().endswith(PICTURE_ENDINGS) and not any(part.startswith(".") for part in inside)

    def find_classes(self, directory):
        """Return the genres and their labels; hidden folders are none."""
        found = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir() and entry.name[0] != ".")
        if not found:
            raise MelvisionError(f"{directory}: no genre folder in it; {what_instead(directory)}")
        if self._classes is None:
            classes = found
        else:
            classes = list(self._classes)
            strange = [name for name in found if name not in classes]
            if strange:
                raise MelvisionError(
                    f"{directory}: genres {', '.join(strange)} are not among the model's {', '.join(classes)}; "
                    "take them out, or train anew"
                )
        return classes, {name: label for label, name in enumerate(classes)}


def list_pictures(root):
    """Return the paths of all pictures under a folder of genres; see `GenreFolder`."""
    return [path for path, _ in SpectrogramFolder(root).samples]


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

    x: PixelStore
    y: torch.Tensor
    paths: list
    classes: list
    problems: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    render: dict | None = None
    seconds: float | None = None
    drawn: list | None = None


class _ColoursMet(Exception):
    """A picture in colours of unknown meaning came where levels were hoped for."""


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
    MelvisionError
        When there is no usable picture, or none of some genre that the folder names.
    """
    # Here, because torchvision, whose ImageFolder it is, takes seconds to import, and predicting needs none of it.
    from vision.data.dataset import SpectrogramFolder

    folder = SpectrogramFolder(root, classes)
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

        x = PixelStore.collect(usable(), channels=channels, height=size, folder=cache, path=share)
        return x, kept, abouts, problems

    try:
        x, kept, abouts, problems = read(channels or 1, stop_at_colours=channels is None)
    except _ColoursMet:
        remove_border.alone = 0
        x, kept, abouts, problems = read(3)
    if not kept:
        raise MelvisionError(
            f"{root}: none of its {len(folder.samples)} pictures can be used; the first: {problems[0]}"
        )
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

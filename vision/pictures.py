"""Genre folders of pictures to tensors: found by ImageFolder, each decoded once, faults listed."""

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
from render.cli import InputError, progress
from render.settings import Settings
from vision.pixels import load, pixel_hash
from vision.transforms import RemoveBorder, ToInput, match_channels, redraw

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
AUDIO_ENDINGS = (".wav", ".au", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".m4a", ".wma", ".aac")
#: How many pictures of one size are looked at to learn where its margins end.
BORDER_SAMPLE = 256


class GenreFolder(ImageFolder):
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
    InputError
        When `root` is missing, holds no picture, or has a genre that is not in `classes`.
    """

    def __init__(self, root, classes=None, transform=None):
        self._classes = classes
        root = Path(root)
        if not root.is_dir():
            found = "it is a file" if root.exists() else "there is no such folder"
            raise InputError(f"{root}: {found}; expected a folder of genre folders, <genre>/<track>.png")
        super().__init__(root, transform, loader=load, is_valid_file=self._is_picture, allow_empty=True)
        # A link that leads back up makes ImageFolder meet the same file again and again.
        first = {os.path.realpath(path): (path, label) for path, label in reversed(self.samples)}
        self.samples = self.imgs = sorted(first.values())
        self.targets = [label for _, label in self.samples]
        if not self.samples:
            raise InputError(f"{root}: no picture in it; {what_instead(root)}")
        used = set(self.targets)
        self.empty = [name for name, label in self.class_to_idx.items() if label not in used]

    def _is_picture(self, path):
        inside = Path(path).relative_to(self.root).parts
        return path.lower().endswith(PICTURE_ENDINGS) and not any(part.startswith(".") for part in inside)

    def find_classes(self, directory):
        """Return the genres and their labels; hidden folders are none."""
        found = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir() and entry.name[0] != ".")
        if not found:
            raise InputError(f"{directory}: no genre folder in it; {what_instead(directory)}")
        if self._classes is None:
            classes = found
        else:
            classes = list(self._classes)
            strange = [name for name in found if name not in classes]
            if strange:
                raise InputError(
                    f"{directory}: genres {', '.join(strange)} are not among the model's {', '.join(classes)}; "
                    "take them out, or train anew"
                )
        return classes, {name: label for label, name in enumerate(classes)}


def what_instead(root):
    """Tell what to do with a folder that lacks pictures in genre folders, in half a sentence."""
    for _, _, names in os.walk(root):
        if any(name.lower().endswith(AUDIO_ENDINGS) for name in names):
            return f"it holds audio. Draw pictures of it first: python -m render {root}"
    return "expected <genre>/<track>.png"


@dataclass
class Pictures:
    """The pictures of one folder, in memory.

    Attributes
    ----------
    x : torch.Tensor, shape (n, channels, size, size), uint8
        Levels (1 channel) or colours (3).
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

    x: torch.Tensor
    y: torch.Tensor
    paths: list
    classes: list
    problems: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    render: dict | None = None
    seconds: float | None = None
    drawn: list | None = None


def list_pictures(root):
    """Return the paths of all pictures under a folder of genres; see `GenreFolder`."""
    return [path for path, _ in GenreFolder(root).samples]


def hash_pictures(paths):
    """Hash the pixels of many pictures, in parallel.

    Parameters
    ----------
    paths : list of str
        Pictures.

    Yields
    ------
    digest : str
        As `pixels.pixel_hash`; empty where the picture cannot be read.
    problem : str or None
        Why it cannot.
    """

    def digest(path):
        try:
            return pixel_hash(load(path)), None
        except (png.PictureError, OSError, MemoryError) as error:
            return "", f"{path}: {error}"

    calls = Parallel(n_jobs=-1, prefer="threads", return_as="generator")(delayed(digest)(path) for path in paths)
    yield from progress(calls, total=len(paths), desc="hash", unit="picture")


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


def _read_one(path, remove_border, to_input, drawn):
    """The input, what else is to be known of the picture, and the problem: one of the first and last is None."""
    try:
        image = load(path)
        known = png.read_about(image)
        image = remove_border(image)
        about = {"size": image.size}
        if known:
            about["seconds"] = image.width * known["hop_length"] / known["sr"]
            about["render"] = json.dumps(Settings.from_dict(known).to_dict())
            image = redraw(image, drawn)
        return to_input(image), about, None
    except (png.PictureError, MemoryError) as error:
        return None, None, f"{path}: {error}"


def read_folder(root, *, size=224, remove_border=None, classes=None, channels=None, drawn=None, jobs=-1):
    """Decode every picture of a folder, once.

    Parameters
    ----------
    root : str or Path
        One folder a genre.
    size : int
        Height and width to resize to.
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

    Returns
    -------
    pictures : Pictures
        Those that could be read, in the order of their paths, and what is wrong with the others.

    Raises
    ------
    InputError
        When there is no usable picture, or none of some genre that the folder names.
    """
    folder = GenreFolder(root, classes)
    paths = [path for path, _ in folder.samples]
    remove_border = fit_border(paths, known=remove_border)
    results = Parallel(n_jobs=jobs, prefer="threads", return_as="generator")(
        delayed(_read_one)(path, remove_border, ToInput(size), drawn) for path in paths
    )
    found, kept, problems, abouts = [], [], [], []
    for sample, (x, about, problem) in zip(
        folder.samples, progress(results, total=len(paths), desc="read", unit="picture"), strict=True
    ):
        if problem:
            problems.append(problem)
        else:
            found.append(x)
            kept.append(sample)
            abouts.append(about)
    if not found:
        raise InputError(f"{root}: none of its {len(paths)} pictures can be used; the first: {problems[0]}")
    labels = {label for _, label in kept}
    empty = [Path(root) / name for name in folder.empty]
    notes = [f"{path}: no picture in this genre folder" for path in empty if path.is_dir()]
    problems += [
        f"{Path(root) / name}: no usable picture in this genre folder"
        for name, label in folder.class_to_idx.items()
        if label not in labels and name not in folder.empty
    ]
    coloured = sum(len(x) == 3 for x in found)
    if channels is None:
        channels = 3 if coloured else 1
    if coloured:
        shown = "taken as colours" if channels == 3 else "taken by their brightness"
        notes.append(f"{root}: {coloured} of {len(found)} pictures are in colours of no known colormap: {shown}")
    if remove_border.alone:
        notes.append(f"{root}: {remove_border.alone} pictures of a size not met before were cut by their own edges")
    pictures = Pictures(
        x=torch.stack([match_channels(x, channels) for x in found]),
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

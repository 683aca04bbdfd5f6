"""Genre folders: which pictures there are, and hashes of their pixels."""

import os
from pathlib import Path

from joblib import Parallel, delayed
from torchvision.datasets import ImageFolder

from render import png
from render.cli import InputError, progress
from render.tracks import walk
from vision.pixels import PICTURE_ENDINGS, load, pixel_hash

AUDIO_ENDINGS = (".wav", ".au", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".m4a", ".wma", ".aac")


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
        # A file is one picture, however many links lead to it.
        first = {os.path.realpath(path): (path, label) for path, label in reversed(self.samples)}
        self.samples = self.imgs = sorted(first.values())
        self.targets = [label for _, label in self.samples]
        if not self.samples:
            raise InputError(f"{root}: no picture in it; {what_instead(root)}")
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

"""A folder of genre folders as a torchvision data set, and its pictures decoded once."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from torchvision.datasets import ImageFolder

from render.cli import plural, progress
from render.errors import MelvisionError
from render.formats import PICTURE_ENDINGS
from render.levels import wrong_level
from render.passed_over import PassedOver
from render.tracks import list_root, walk
from vision.data.folders import what_instead
from vision.data.genres import match_genre, similar_genres
from vision.data.images import load
from vision.data.orientation import TURNED, is_turned
from vision.data.pixel_store import PixelStore
from vision.data.preprocess import UNUSABLE, InputSpec, NetworkInput, Preprocessor, learn_input_spec, match_channels


class SpectrogramFolder(ImageFolder):
    """torchvision's `ImageFolder` for spectrograms: hidden files left out, class names that can be given.

    Parameters
    ----------
    root : str or Path
        One folder a genre.
    classes : list of str, optional
        Genres in the order of their labels; by default the folder names in alphabetical order.
    transform : callable, optional
        PIL image to what `__getitem__` gives, such as a `Preprocessor`; by default the PIL image itself.

    Attributes
    ----------
    empty : list of str
        Genre folders with no picture in them.
    passed : PassedOver
        What was passed over, and the folders that could not be read.

    Raises
    ------
    MelvisionError
        When `root` is missing, holds no picture, has a genre that is not in `classes`, or is not the folder of
        genres but one above it.
    """

    def __init__(self, root: str | Path, classes: Sequence[str] | None = None, transform: Callable | None = None):
        self._classes, self.passed = classes, PassedOver()
        root = Path(root)
        if not root.is_dir():
            problem = "it is a file" if root.exists() else "there is no such folder"
            raise MelvisionError(f"{root}: {problem}; expected a folder of genre folders, <genre>/<track>.png")
        super().__init__(root, transform, loader=load, is_valid_file=self._is_picture, allow_empty=True)
        # A file is one picture of a genre, however many links lead to it; of two genres it is a picture of each.
        samples: list[tuple[str, int]] = self.samples  # type: ignore[has-type]  # set by torchvision
        first = {(os.path.realpath(path), label): (path, label) for path, label in reversed(samples)}
        self.passed.links = len(samples) - len(first)
        self.samples = self.imgs = sorted(first.values())
        self.targets = [label for _, label in self.samples]
        if not self.samples:
            why = self.passed.failures()[0] if self.passed.unreadable else what_instead(root)
            raise MelvisionError(f"{root}: no picture in it; {why}")
        files: dict[str, list[Path]] = {}
        for path, _ in self.samples:
            files.setdefault(Path(path).relative_to(root).parts[0], []).append(Path(path))
        if level := wrong_level(root, files, ""):
            raise MelvisionError(f"{root}: {level}")
        used = set(self.targets)
        self.empty = [name for name, label in self.class_to_idx.items() if label not in used]

    def make_dataset(
        self,
        directory: str | Path,
        class_to_idx: dict[str, int],
        extensions: Any = None,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = True,
    ) -> list[tuple[str, int]]:
        """Return the pictures, (path, label) each; not in circles where links lead back, as torchvision's own would."""
        tops = {name: os.path.join(directory, name) for name in class_to_idx}
        real = {name: os.path.realpath(top) for name, top in tops.items() if os.path.isdir(top)}
        samples: list[tuple[str, int]] = []
        for name in real:
            # What is another genre's own folder stays that genre's, also where this one has a link to it.
            others = [other for other in real.values() if other != real[name]]
            files = walk(tops[name], above=[directory, *others], passed=self.passed)
            paths = map(str, self.passed.keep(files, PICTURE_ENDINGS))
            samples += [(path, class_to_idx[name]) for path in paths if is_valid_file is None or is_valid_file(path)]
        return samples

    def _is_picture(self, path: str) -> bool:
        inside = Path(path).relative_to(self.root).parts
        return path.lower().endswith(PICTURE_ENDINGS) and not any(part.startswith(".") for part in inside)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """Return the genres and their labels; hidden folders and those of systems are none."""
        genres = [path.name for path in list_root(directory, self.passed)[0]]
        if not genres:
            raise MelvisionError(f"{directory}: no genre folder in it; {what_instead(directory)}")
        classes, folders = list(self._classes or genres), {}
        if self._classes is not None:
            folders = {name: genre for name in genres if (genre := match_genre(name, classes)) is not None}
            unknown = [name for name in genres if name not in folders]
            if unknown:
                inside = {name: [path for path in walk(Path(directory, name)) if self._is_picture(str(path))]
                          for name in genres}  # fmt: skip
                if level := wrong_level(Path(directory), inside, ""):
                    raise MelvisionError(f"{directory}: {level}")
                raise MelvisionError(
                    f"{directory}: genres {', '.join(unknown)} are not among the model's {', '.join(classes)}; "
                    "take them out, or train anew"
                )
        labels = {name: label for label, name in enumerate(classes)}
        # A folder in another Unicode form than the class stands in its place.
        aliases = {name: labels[genre] for name, genre in folders.items() if name != genre}
        missing = {classes[label] for label in aliases.values()} - set(genres)
        return classes, {name: label for name, label in labels.items() if name not in missing} | aliases


def list_pictures(root: str | Path) -> list[str]:
    """Return the paths of all pictures under a folder of genres; see `SpectrogramFolder`."""
    return [path for path, _ in SpectrogramFolder(root).samples]


@dataclass
class Pictures:
    """The decoded pictures of one folder.

    Attributes
    ----------
    x : PixelStore
        Levels (1 channel) or colours (3), as the `Preprocessor` makes them.
    y : torch.Tensor, shape (n,), int64
        Labels: positions in `classes`.
    paths : list of str
        Where each came from.
    classes : list of str
        Genres.
    problems : list of str
        A line for each picture that could not be used, and for each empty genre folder.
    notes : list of str
        What the user should know of the others.
    tracks : list of int
        For each picture, the position of the first picture of its track; by default each is a track of its own. See
        `vision.splits.tracks.number_tracks`.
    tilt : float
        Median of the pictures; see `orientation.tilt_of`.
    """

    x: PixelStore
    y: torch.Tensor
    paths: list[str]
    classes: list[str]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tracks: list[int] = field(default_factory=list)
    tilt: float = 0.0

    def __post_init__(self) -> None:
        self.tracks = self.tracks or list(range(len(self.paths)))


def read_folder(
    root: str | Path,
    preprocessor: Preprocessor | None = None,
    *,
    classes: Sequence[str] | None = None,
    jobs: int = -1,
    cache: str | Path | None = None,
    share: str | Path | None = None,
) -> Pictures:
    """Decode every picture of a folder, once.

    Parameters
    ----------
    root : str or Path
        One folder a genre.
    preprocessor : Preprocessor, optional
        How pictures are read; by default as `learn_input_spec` learns it from this folder. Where its spec leaves the
        channels open, they are 1 if the colours of every picture can be turned into levels, else 3.
    classes : list of str, optional
        As for `SpectrogramFolder`.
    jobs : int
        Decoding threads; -1 is one a core.
    cache : str or Path, optional
        Folder for what does not fit into memory; see `PixelStore.collect`.
    share : str or Path, optional
        File for all of it, for other processes; the `path` of `PixelStore.collect`.

    Returns
    -------
    pictures : Pictures
        Those that could be read, in the order of their paths, and what is wrong with the others.

    Raises
    ------
    MelvisionError
        When there is no usable picture.
    """
    folder = SpectrogramFolder(root, classes)
    if preprocessor is None:
        preprocessor = Preprocessor(learn_input_spec(path for path, _ in folder.samples))
    calls = Parallel(n_jobs=jobs, prefer="threads", return_as="generator")(
        delayed(_attempt)(path, preprocessor) for path, _ in folder.samples
    )
    kept: list[tuple[str, int]] = []
    how_drawn, problems = _HowDrawn(), []

    def usable() -> Iterator[torch.Tensor]:
        bar = progress(calls, total=len(folder.samples), desc="read", unit="picture")
        for sample, (result, problem) in zip(folder.samples, bar, strict=True):
            if result is None:
                problems.append(problem)
                continue
            kept.append(sample)
            how_drawn.add(result)
            yield result.x

    x = _collect(usable(), preprocessor, folder=cache, path=share)
    if not kept:
        raise MelvisionError(
            f"{root}: none of its {len(folder.samples)} pictures can be used; the first: {problems[0]}"
        )
    labels = {label for _, label in kept}
    empty = [Path(root) / name for name in folder.empty]
    notes = [f"{path}: no picture in this genre folder" for path in empty if path.is_dir()]
    notes += folder.passed.notes(root)
    notes += similar_genres(root, folder.classes) if classes is None else []
    problems += folder.passed.failures()
    problems += [
        f"{Path(root) / name}: no usable picture in this genre folder"
        for name, label in folder.class_to_idx.items()
        if label not in labels and name not in folder.empty
    ]
    notes += [f"{root}: {note}" for note in how_drawn.notes(preprocessor.spec, x.channels)]
    y = torch.tensor([label for _, label in kept])
    return Pictures(x, y, [path for path, _ in kept], folder.classes, problems, notes, tilt=how_drawn.tilt)


class _HowDrawn:
    """What the user should know of how a folder's pictures were drawn."""

    def __init__(self) -> None:
        self.unknown_sizes = self.unknown_colours = 0
        self.changed: list[str] = []
        self.tilts: list[tuple[float, bool]] = []

    @property
    def tilt(self) -> float:
        """Median of the pictures; see `orientation.tilt_of`."""
        return float(np.median([tilt for tilt, _ in self.tilts]))

    def add(self, read: NetworkInput) -> None:
        """Count one picture."""
        self.unknown_sizes += read.unknown_size is not None
        self.unknown_colours += read.unknown_colours
        self.tilts.append((read.tilt, read.settings is not None))
        if read.changed:
            self.changed.append(read.changed)

    def notes(self, spec: InputSpec, channels: int) -> Iterator[str]:
        """Say what is unusual, for pictures that were read as a spec says."""
        n = len(self.tilts)
        if self.unknown_colours:
            shown = "taken as colours" if channels == 3 else "taken by their brightness"
            yield f"{self.unknown_colours} of {n} pictures are in colours of no known colormap: {shown}"
        if self.unknown_sizes:
            yield plural(
                self.unknown_sizes,
                "picture of a size not met before was cut by its own edges",
                "pictures of a size not met before were cut by their own edges",
            )
        if self.changed:
            yield (
                f"{len(self.changed)} of {n} pictures were drawn by melvision and changed since ({self.changed[0]}): "
                f"taken for {spec.track_seconds:g} s each, as other programs' pictures"
            )
        usual = spec.tilt or self.tilt
        turned = sum(is_turned(tilt, usual, upright=upright) for tilt, upright in self.tilts)
        if turned:
            yield f"{turned} of {n} pictures are loud where the other ones are quiet; are they {TURNED}?"


def _attempt(path: str, preprocessor: Preprocessor) -> tuple[NetworkInput | None, str]:
    """Read one picture: what it became, or None and the reason."""
    try:
        return preprocessor.from_file(path), ""
    except UNUSABLE as error:
        return None, f"{path}: {error or type(error).__name__}"


def _collect(
    pictures: Iterator[torch.Tensor],
    preprocessor: Preprocessor,
    *,
    folder: str | Path | None,
    path: str | Path | None,
) -> PixelStore:
    """Store pictures; where the spec leaves the channels open, as levels until one comes that is in colours."""
    size, channels = preprocessor.spec.size, preprocessor.spec.channels
    if channels is not None:
        return PixelStore.collect(pictures, channels=channels, height=size, folder=folder, path=path)
    first_coloured: list[torch.Tensor] = []

    def levels() -> Iterator[torch.Tensor]:
        for x in pictures:
            if len(x) == 3:
                first_coloured.append(x)
                return
            yield x

    store = PixelStore.collect(levels(), channels=1, height=size, folder=folder, path=path)
    if not first_coloured:
        return store
    before = (store[number] for number in range(len(store)))
    coloured = (match_channels(x, 3) for x in chain(before, first_coloured, pictures))
    # The levels may be mapped from the file at `path` while they are turned into colours.
    path = f"{path}-rgb" if path else None
    return PixelStore.collect(coloured, channels=3, height=size, folder=folder, path=path)

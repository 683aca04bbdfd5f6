"""Survey of pictures: size, settings, margin and a hash of the pixels, with each file opened once.

Splitting needs the hash of each picture, training the margins and the settings of the train pictures. Both call this
module, which keeps a record of each file, so that the second of them does not read it again. The key of a record is
the file's device, inode, size and time of change: ``data/train/blues/x.png`` is the same file as its hard link
``images_original/blues/x.png``.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from PIL import ExifTags, Image

from render import png
from render.cli import progress
from render.errors import PictureError
from render.settings import Settings
from vision.data.borders import RemoveBorder, own_box
from vision.data.images import load, pixel_hash

#: Pictures of one size that margins are learned from, at most.
BORDER_SAMPLE = 256
#: Folders of up to so many pictures are decoded whole when margins are learned.
SMALL_FOLDER = 2 * BORDER_SAMPLE
#: Records kept; more only cost the time to read those files once more.
KEPT_RECORDS = 1 << 17


@dataclass(frozen=True, slots=True)
class PictureRecord:
    """What one picture file holds, as far as it was read.

    Attributes
    ----------
    size : tuple of 2 int
        Width and height in pixels, margins included; (0, 0) where the picture cannot be read.
    settings : str or None
        JSON of the `render.settings.Settings` in its text chunk; None for other programs' pictures.
    error : str
        Why it cannot be used; empty where it can.
    pixels : str or None
        `images.pixel_hash`; None where the pixels were not decoded.
    margin : tuple or None
        From `borders.own_box`; None where the pixels were not decoded.
    """

    size: tuple[int, int] = (0, 0)
    settings: str | None = None
    error: str = ""
    pixels: str | None = None
    margin: tuple | None = None

    @property
    def decoded(self) -> bool:
        """Whether the pixels were decoded, or cannot be."""
        return self.pixels is not None or bool(self.error)


#: Records by file. Reading and writing one entry of a dict is atomic in Python, and an entry never changes its
#: meaning: a file that is written anew has another key.
_records: dict[tuple, PictureRecord] = {}


def _file_key(path: str | Path) -> tuple | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def examine(path: str | Path, *, decode: bool = True) -> PictureRecord:
    """Read one picture, or return the record of an earlier call.

    Parameters
    ----------
    path : str or Path
        The file.
    decode : bool
        Whether its pixels are needed, for the hash and the margin. Without them only the header is read.

    Returns
    -------
    record : PictureRecord
    """
    key = _file_key(path)
    record = _records.get(key) if key else None
    if record is None or (decode and not record.decoded):
        record = _read(path, decode)
        if key and len(_records) < KEPT_RECORDS:
            _records[key] = record
    return record


def _read(path: str | Path, decode: bool) -> PictureRecord:
    try:
        if not decode:
            with png.open_picture(path) as image:
                return PictureRecord(_upright_size(image), _settings_of(png.read_about(image)))
        image = load(path)
        about = png.read_about(image)
        margin = (None, (0, 0, *image.size)) if about else own_box(image)
        return PictureRecord(image.size, _settings_of(about), "", pixel_hash(image), margin)
    except (PictureError, OSError, MemoryError) as error:
        return PictureRecord(error=str(error) or type(error).__name__)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height that an open picture will have once it is decoded."""
    # Pillow has looked at a TIFF's orientation already, and would decode a PNG to look for one behind its pixels.
    if "exif" not in image.info or image.format == "TIFF":
        return image.size
    try:
        sideways = image.getexif().get(ExifTags.Base.Orientation) in range(5, 9)
    except Exception:  # damaged EXIF data turn nothing
        return image.size
    return (image.height, image.width) if sideways else image.size


def _settings_of(about: dict | None) -> str | None:
    # Interned, because a folder's pictures share their settings: 100 000 records hold one text.
    return sys.intern(json.dumps(Settings.from_dict(about).to_dict())) if about else None


def hash_pictures(paths: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Hash the pixels of many pictures, in parallel.

    Parameters
    ----------
    paths : list of str
        Pictures.

    Yields
    ------
    digest : str
        As `images.pixel_hash`; empty where the picture cannot be read.
    problem : str or None
        Why it cannot, with its path.
    """
    for path, record in zip(paths, _examine_all(paths, "hash"), strict=True):
        yield record.pixels or "", f"{path}: {record.error}" if record.error else None


def _examine_all(paths: Sequence[str], desc: str) -> Iterator[PictureRecord]:
    calls = Parallel(n_jobs=-1, prefer="threads", return_as="generator")(delayed(examine)(path) for path in paths)
    yield from progress(calls, total=len(paths), desc=desc, unit="picture")


def survey_folder(paths: Sequence[str]) -> list[PictureRecord]:
    """Read all pictures of a folder, and decode enough of them to learn its margins.

    Small folders are decoded whole. Of larger ones the pictures to decode are chosen evenly over the folder, so
    that no genre or source is missed, and the first few of each size, so that no size is.

    Parameters
    ----------
    paths : list of str
        Pictures.

    Returns
    -------
    records : list of PictureRecord
        One for each path.
    """
    if len(paths) <= SMALL_FOLDER:
        return list(_examine_all(paths, "survey"))
    spread = set(np.linspace(0, len(paths) - 1, SMALL_FOLDER).round().astype(int).tolist())
    records: list[PictureRecord] = []
    decoded: Counter[tuple[int, int]] = Counter()
    for number, path in enumerate(progress(paths, total=len(paths), desc="survey", unit="picture")):
        record = examine(path, decode=number in spread)
        # Pictures of a size that few others have must be decoded here: a margin of theirs is learned from them.
        if not record.decoded and record.settings is None and decoded[record.size] < 3:
            record = examine(path)
        decoded[record.size] += record.decoded
        records.append(record)
    return records


def fit_border(paths: Sequence[str], known: RemoveBorder | None = None) -> RemoveBorder:
    """Learn the margins of many pictures.

    Parameters
    ----------
    paths : sequence of str or Path
        Files; those that cannot be read as pictures are passed over.
    known : RemoveBorder, optional
        Learned before; only other sizes are learned.

    Returns
    -------
    remove_border : RemoveBorder
        With the frames of `known` and the new ones.
    """
    return border_of(survey_folder(list(paths)), known)


def border_of(records: Sequence[PictureRecord], known: RemoveBorder | None = None) -> RemoveBorder:
    """As `fit_border`, from records that were made before."""
    known = known or RemoveBorder()
    by_size: dict[tuple, list] = {}
    for record in records:
        if record.margin is not None and record.settings is None and not known.knows(record.size):
            by_size.setdefault(record.size, []).append((record.size, *record.margin))
    margins = []
    for same in by_size.values():
        # From a single picture nothing is learned that is not known when it is cut.
        at = np.linspace(0, len(same) - 1, min(len(same), BORDER_SAMPLE)).round().astype(int)
        margins += [same[number] for number in at] if len(same) > 1 else []
    return RemoveBorder(known.frames + RemoveBorder.from_margins(margins).frames)

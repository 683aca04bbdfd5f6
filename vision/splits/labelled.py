"""Genre folders for pictures whose labels are in a table."""

from collections.abc import Callable
from pathlib import Path

from render.errors import MelvisionError
from render.formats import PICTURE_ENDINGS
from render.labels import LabelColumns, read_labels
from render.passed_over import PassedOver
from render.tracks import walk


def arrange(
    pictures: str | Path, table: str | Path, columns: LabelColumns, link: Callable[[Path, Path], None]
) -> tuple[Path, dict[str, str], list[str]]:
    """Link pictures into genre folders, beside the folder that they are in.

    Parameters
    ----------
    pictures : str or Path
        Holds pictures at any depth.
    table : str or Path
        As of `render.labels.read_labels`.
    columns : LabelColumns
        Which of its columns hold what.
    link : callable
        Puts one file at another place.

    Returns
    -------
    folder : Path
        The genre folders: ``<pictures>_by_label``.
    groups : dict of str to str
        As of `LabelledTracks`.
    notes : list of str

    Raises
    ------
    MelvisionError
        When the table cannot be used, or the folder holds what the table does not put there.
    """
    pictures, passed = Path(pictures), PassedOver()
    labelled = read_labels(table, pictures, columns, passed, PICTURE_ENDINGS)
    folder = pictures.absolute().with_name(f"{pictures.absolute().name}_by_label")
    targets = {folder / one.genre / one.folder / one.path.name: one.path for one in labelled.tracks}
    others = [path for path in (walk(folder) if folder.is_dir() else ()) if path not in targets]
    if others:
        raise MelvisionError(f"{others[0]}: {table} does not put it there; delete {folder}, it is made anew")
    for target, source in targets.items():
        link(source, target)
    return folder, labelled.groups, labelled.notes + passed.notes(pictures)

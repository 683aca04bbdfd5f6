"""Whether a folder is the folder of genres, or the one above it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Usual names of the three folders of a split.
SPLIT_NAMES = {"train": ("train", "training"), "dev": ("dev", "val", "valid", "validation"), "test": ("test",)}
_ALL_SPLIT_NAMES = {name for names in SPLIT_NAMES.values() for name in (*names, "testing", "eval", "evaluation")}

#: Usual names of genres, without case and separators.
GENRES = frozenset(
    "acoustic afrobeat alternative ambient anime axe bachata baroque bigbeat blackmetal bluegrass blues bolero"
    " bossanova brazilian breakbeat celtic chachacha chanson chillout choral christian classical classic comedy"
    " country cumbia dance dancehall deathmetal deephouse disco downtempo drumandbass drumnbass dnb dub dubstep"
    " easylistening edm electro electronic electronica emo experimental fado filmmusic flamenco folk forro funk"
    " gaucha garage gospel grime grunge hardcore hardrock heavymetal hiphop hiphoprap historic house idm indie"
    " indierock industrial instrumental international jazz jive jpop jungle kpop kizomba klezmer latin lofi"
    " lounge mpb mambo mariachi merengue metal metalcore minimal newage newwave oldies oldtimehistoric opera"
    " orchestral pagode pop poprock postrock progressive psychedelic psytrance punk quickstep rnb rap randb"
    " rave reggae reggaeton religious rock rocknroll rumba rumbainternational salsa samba schlager sertaneja"
    " sertanejo shoegaze ska soul soulrnb soundtrack spoken swing synthpop synthwave tango techno thrash trance"
    " trap triphop vallenato viennesewaltz waltz wave world worldmusic zouk".split()
)
_CONTAINER_WORD = re.compile(r"(genres?|images?|pictures?|spectro|spectrograms?|melspec|mels?|datasets?)\w*", re.I)
_CONTAINER_WORDS = frozenset(
    "audio audios music musics song songs track tracks data wav wavs wave waves mp3 mp3s flac au sound sounds file"
    " files clip clips original originals raw processed corpus collection library recordings png pngs jpg my all the"
    " of sec seconds input output samples".split()
)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _is_container_name(name: str) -> bool:
    words = re.findall(r"[^\W\d_]+\d?", name.casefold())
    if not words or _plain(name) in GENRES:
        return False
    return bool(_CONTAINER_WORD.fullmatch(words[0])) or all(word in _CONTAINER_WORDS for word in words)


def _by_subfolder(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]] | None:
    """Sort files by the folders right below `folder`; None where some lie in `folder` itself."""
    result: dict[str, list[Path]] = {}
    for path in files:
        parts = path.relative_to(folder).parts
        if len(parts) < 2:
            return None
        result.setdefault(parts[0], []).append(path)
    return result


def _look_like_genres(below: Mapping[str, Sequence[Path]]) -> bool:
    """Whether folders bear the names of genres, or their files the folder's and a number, as GTZAN's do."""
    named = sum(
        _plain(name) in GENRES
        or all(re.fullmatch(re.escape(_plain(name)) + r"\d+", _plain(path.stem)) for path in files)
        for name, files in below.items()
    )
    return named >= 2 and named * 2 >= len(below)


def _splits_among(names: Sequence[str]) -> bool:
    lower = {name.lower() for name in names}
    return any(name in lower for name in SPLIT_NAMES["train"]) and len(lower & _ALL_SPLIT_NAMES) >= 2


def _folder_of_genres(folder: Path, files: Sequence[Path]) -> Path | None:
    """Return `folder`, or the one folder in it, if it is not a genre but looks like a folder of genres."""
    if _plain(folder.name) in GENRES:
        return None
    below = _by_subfolder(folder, files)
    if not below:
        return None
    if len(below) == 1:
        (name,) = below
        return _folder_of_genres(folder / name, files)
    if _look_like_genres(below) or _splits_among(list(below)) or _is_container_name(folder.name):
        return folder
    return None


def wrong_level(root: Path, files: Mapping[str, Sequence[Path]], command: str) -> str | None:
    """Say where the folder of genres is, if `root` is not it.

    Parameters
    ----------
    root : Path
        The folder that was given as one of genre folders.
    files : dict of str to sequence of Path
        What was found in each folder in it: pictures or audio files.
    command : str
        What the user may run on each folder of a split instead, such as ``"python -m render"``; may be empty.

    Returns
    -------
    problem : str or None
        The second half of an error message; None where `root` may be a folder of genres.
    """
    files = {name: paths for name, paths in files.items() if paths}
    if _splits_among(list(files)):
        splits = [name for name in files if name.lower() in _ALL_SPLIT_NAMES]
        run = f": {command} {root / splits[0]}" if command else ""
        return f"holds {' and '.join(splits)} folders and not genres; did you mean one of them?{run}"
    levels = {name: _folder_of_genres(root / name, paths) for name, paths in files.items()}
    inside = sum(len(paths) for name, paths in files.items() if levels[name])
    folders = [str(folder) for folder in levels.values() if folder]
    if not folders or inside * 2 <= sum(map(len, files.values())):
        return None
    if len(folders) > 1:
        return f"{' and '.join(folders)} look like folders of genres; did you mean one of them?"
    return f"{folders[0]} looks like the folder of genres; did you mean that?"

"""What lies in music and picture folders and is neither: folders of systems and tools, and cover art."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from render.formats import PICTURE_ENDINGS

#: Folders that NAS, Windows, macOS, Linux, cloud and archive tools make, in lower case.
SYSTEM_FOLDERS = frozenset(
    # Synology, QNAP, NetApp, Netgear, Asustor
    "@eadir|#recycle|#snapshot|@recycle|@recycle.bin|@recently-snapshot|@sharesnap|@sharebin|@tmp|@transcode|.@__thumb"
    "|@__thumb|@sharing|@database|~snapshot|.snapshot|.snapshots|.zfs|network trash folder|network recycle bin"
    "|.recycle|_recycle|recycle bin|.wdmc|.twonkymedia"
    # Windows
    "|$recycle.bin|recycler|recycled|system volume information|$windows.~bt|$windows.~ws|$winreagent|$sysreset|$extend"
    "|$getcurrent|config.msi|msocache|windowsimagebackup"
    # macOS
    "|__macosx|.trash|.trashes|.spotlight-v100|.fseventsd|.temporaryitems|temporary items|.documentrevisions-v100"
    "|.appledouble|.appledb|.appledesktop|resource.frk|.apdisk|.mobilebackups|.mediaartworkcache"
    "|thevolumesettingsfolder|thefindbycontentfolder|ipod photo cache"
    # Linux, Android
    "|lost+found|.thumbnails|.sh_thumbnails|.thumbs|.nomedia|.android_secure|lost.dir"
    # cloud and synchronisation tools
    "|.stfolder|.stversions|.dropbox.cache|.dropbox|.sync|.syncarchive|.tmp.drivedownload|.tmp.driveupload|_gsdata_"
    "|onedrivetemp|.owncloudsync|.nextcloudsync|.csync|.unison|.picasaoriginals|!sync|.resilio"
    # developers' tools
    "|__pycache__|.ipynb_checkpoints|node_modules".split("|")
)
_SYSTEM_FOLDER = re.compile(
    r"\.trash-.*|found\.\d{3}|\$recycle\.bin.*|rar\$.*|\.stfolder.*|\.sync_?\w*\.db.*|\.dropbox.*|\.fuse_hidden.*", re.I
)

#: Media files that systems put among the music: AppleDouble, Synology's thumbnails, Windows' streams.
_SYSTEM_FILE = re.compile(r"\._.+|synophoto_.*|synoaudio_.*|synovideo_.*|.*@synoeastream|.*@synoresource", re.I)

#: Names of cover art without their ending; only in folders that hold music.
_COVER = re.compile(
    r"(00[ ._-].*[ ._-]|(album|cd|disc|front|back|rear|inner|outer|small|large|medium)[ ._-]*)?"
    r"(covers?|folder|front|back|rear|inside|inlay|inlet|tray|spine|obi|matrix|album|albumcover|art|artwork|thumbs?"
    r"|thumbnail|booklet|poster|fanart|banner|logo|clearart|clearlogo|discart|cdart|disc|cd|dvd|label|sleeve|jacket"
    r"|digipa[ck]k?|artist|backdrop|background|scans?)"
    r"([ ._-]*(art|cover|front|back|inside|small|large|medium|thumb|\d{1,4}|\(\d+\)|[a-d]|\d+x\d+))*"
    r"|album[ ._-]?art.*",
    re.I,
)
_COVER_FOLDER = re.compile(r"(art|artwork|scans?|covers?|booklet|cover art|album art|albumart)", re.I)


def is_system_folder(name: str) -> bool:
    """Return whether a folder of this name is a system's or a tool's, and holds no music that anyone put there."""
    return name.lower() in SYSTEM_FOLDERS or bool(_SYSTEM_FOLDER.fullmatch(name))


def is_system_file(name: str) -> bool:
    """Return whether a file of this name is no music and no picture though its ending says so."""
    return bool(_SYSTEM_FILE.fullmatch(name))


def is_cover(path: PurePath) -> bool:
    """Return whether a picture has one of the usual names of cover art."""
    return path.suffix.lower() in PICTURE_ENDINGS and bool(_COVER.fullmatch(path.stem))


def is_cover_folder(name: str) -> bool:
    """Return whether a folder of this name beside music holds scans of its covers."""
    return bool(_COVER_FOLDER.fullmatch(name))


@dataclass
class PassedOver:
    """What a walk left out.

    Attributes
    ----------
    system : Counter
        Folders and files of systems and tools, by name.
    covers : int
        Pictures of covers in folders that hold music.
    others : Counter
        Files of other kinds than were looked for, by ending.
    links : int
        Links to files that are there already, in the same genre.
    unreadable : dict of Path to str
        Why, for each folder that could not be read.
    """

    system: Counter[str] = field(default_factory=Counter)
    covers: int = 0
    others: Counter[str] = field(default_factory=Counter)
    links: int = 0
    unreadable: dict[Path, str] = field(default_factory=dict)

    def keep(self, paths: Iterable[Path], endings: Collection[str]) -> Iterator[Path]:
        """Yield the files that have one of these endings, and count the others."""
        for path in paths:
            if path.suffix.lower() in endings:
                yield path
            else:
                self.others[path.suffix.lower() or path.name] += 1

    def failures(self) -> list[str]:
        """Return a line ``"PATH: reason"`` for each folder that could not be read."""
        return [f"{path}: {reason}" for path, reason in self.unreadable.items()]

    def notes(self, root: object) -> list[str]:
        """Return one line that counts what was passed over under `root`; none where nothing was."""
        parts = []
        if self.system:
            names = ", ".join(sorted(self.system)[:5]) + (" ..." if len(self.system) > 5 else "")
            n = self.system.total()
            parts.append(f"{n} folder{'s' * (n != 1)} or file{'s' * (n != 1)} of systems and tools ({names})")
        if self.others:
            names = ", ".join(name for name, _ in self.others.most_common(5)) + (" ..." if len(self.others) > 5 else "")
            n = self.others.total()
            parts.append(f"{n} file{'s' * (n != 1)} of other kinds ({names})")
        if self.links:
            parts.append(f"{self.links} link{'s' * (self.links != 1)} to files that are there already")
        if self.covers:
            parts.append(f"{self.covers} cover picture{'s' * (self.covers != 1)} beside music")
        return [f"{root}: passed over {', '.join(parts)}"] if parts else []

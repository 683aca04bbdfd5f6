"""Tell what a sound file holds from its bytes, whatever it is called, and whether libsndfile reads all of it."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

#: Bytes read at a time.
CHUNK = 1 << 20
#: Where to look for the first MPEG frame: tags of the wrong size and zeros may lie before it.
SEARCHED = 1 << 18

_DAMAGED = "is damaged: something else lies between its MPEG frames, so parts may be missing"
#: What may stand between joined MP3s.
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBE")
_NO_END = "has no mark of its end: it may have been cut off"
_VOC_START = b"Creative Voice File\x1a"
_ASF_START = b"0&\xb2u\x8ef\xcf\x11"
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
#: The first bytes of formats that ffmpeg alone reads, with its names of them.
_FFMPEG_MAGIC = {
    b"\x1aE\xdf\xa3": "matroska",
    _ASF_START: "asf",
    b"MAC ": "ape",
    b"wvpk": "wv",
    b"TTA1": "tta",
    b"MP+": "mpc",
    b"MPCK": "mpc8",
    b"DSD ": "dsf",
    b"#!AMR": "amr",
    b"\x0bw": "ac3",
    b"ADIF": "aac",
}
#: Names of the first box of MP4 and QuickTime files.
_MOV_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp"}
#: Formats that libsndfile reads and ffmpeg, too, which knows more codecs in them.
_SNDFILE_MAGIC = {
    b"RIFF": "wav",
    b"RF64": "wav",
    b"FORM": "aiff",
    b".snd": "au",
    b"fLaC": "flac",
    b"OggS": "ogg",
    b"caff": "caf",
    b"riff": "w64",
}
_FLAC_START = b"fLaC\x00\x00\x00\x22"
_OGG_START = b"OggS\x00\x02"
_SEVERAL = "holds several {} recordings in a row; only the first is sure to be read"


@dataclass(frozen=True)
class Content:
    """What a sound file holds.

    Attributes
    ----------
    format : str
        ffmpeg's name of the format; empty when the content is of no kind known here.
    only_ffmpeg : bool
        Whether libsndfile has no decoder for it.
    incomplete : str
        Why libsndfile would read a part of it, or fail; empty when it reads all.
    note : str
        What a listener should know whoever decodes; empty when there is nothing.
    """

    format: str = ""
    only_ffmpeg: bool = False
    incomplete: str = ""
    note: str = ""


def sniff(path: str | Path) -> Content:
    """Look into a file.

    Parameters
    ----------
    path : str or Path
        A file of any kind and name, not empty.

    Returns
    -------
    content : Content
        Raises OSError when the file cannot be read.
    """
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        start = _skip_tags(file, size)
        head = _read(file, start, 64)
        for magic, name in _FFMPEG_MAGIC.items():
            if head.startswith(magic):
                enhanced = name == "ac3" and head[5:6] > b"\x57"  # its version is above 10
                return Content("eac3" if enhanced else name, only_ffmpeg=True)
        if head[4:8] in _MOV_BOXES:
            return Content("mov", only_ffmpeg=True)
        if head.startswith(_VOC_START):
            return Content("voc", note="" if _voc_has_end(file, start, head) else _NO_END)
        name = _SNDFILE_MAGIC.get(head[:4], "")
        if name == "ogg":
            return _look_into_ogg(file, start, size)
        if name == "flac":
            return _look_into_flac(file, start, head)
        if name == "wav":
            content = _look_into_wav(file, size)
        elif name:
            content = Content(name)
        if name:
            end = declared_size(path) or size
            several = head[:4] in _read(file, end, 5) and end < size - 1024
            return replace(content, note=_SEVERAL.format(name)) if several else content
        if _is_adts(file, start):
            return Content("aac", only_ffmpeg=True)
        return _look_into_mpeg(file, start, size, "mp3")


def stream_format(head: bytes, *, raw: bool = False) -> str:
    """Tell the container format of a stream by its first bytes.

    Parameters
    ----------
    head : bytes
        At least 12.
    raw : bool
        Whether it is said to hold raw samples. They may begin like an MPEG frame by chance, but hardly like the rest.

    Returns
    -------
    format : str
        ffmpeg's name of it; empty when it is none known here.
    """
    magic = _FFMPEG_MAGIC | _SNDFILE_MAGIC | {b"BW64": "wav", b"ID3": "mp3"}
    for start, name in magic.items():
        if head.startswith(start) and len(start) > 2:
            return name
    if head[4:8] in _MOV_BOXES:
        return "mov"
    if not raw and head[:1] == b"\xff" and len(head) > 1:
        if head[1] & 0xF6 == 0xF0:  # layer 0 is of no MPEG audio but AAC's ADTS
            return "aac"
        if head[1] & 0xE0 == 0xE0 and _frame_size(head, 0):
            return "mp3"
    return ""


def declared_size(path: str | Path) -> int | None:
    """Return the size in bytes that a file's own headers declare, or None if they do not.

    libsndfile reads a truncated WAV, AU, AIFF, RF64, W64 or CAF file, and ffmpeg an MP4 or WebM file, as if it were
    merely shorter.

    Parameters
    ----------
    path : str or Path
        A file of any kind.
    """
    with open(path, "rb") as file:
        head = file.read(256)
        if len(head) < 12:
            return None
        if head[:4] == b"RIFF":
            return _known(struct.unpack("<I", head[4:8])[0], 8)
        if head[:4] == b"FORM":
            return _known(struct.unpack(">I", head[4:8])[0], 8)
        if head[:4] == b".snd":
            offset, data = struct.unpack(">II", head[4:12])
            return _known(data, offset)
        if head[:4] == b"RF64" and head[12:16] == b"ds64" and len(head) >= 28:
            return _known(struct.unpack("<Q", head[20:28])[0], 8, 1 << 62)
        if head[:4] == b"riff" and len(head) >= 24:
            return _known(struct.unpack("<Q", head[16:24])[0], 0, 1 << 62)
        if head[:4] == b"caff":
            return _declared_end(file, 8, (b"data",), ">4sQ", 0)
        if head[4:8] in _MOV_BOXES:
            return _declared_end(file, 0, (b"mdat", b"moov", b"moof"), ">I4s", 1)
        if head[:4] == b"\x1aE\xdf\xa3":
            return _declared_matroska(head)
        if head.startswith(b"NIST_1A\n"):
            return _declared_nist(head + file.read(1 << 10))
        if head.startswith(_ASF_START):
            return _declared_asf(head + file.read(1 << 16))
    return None


def _known(size: int, before: int, most: int = 0x7FFFF000) -> int | None:
    # Programs that write to a pipe put 0, or all ones or nearly so, where the size belongs.
    return size + before if 0 < size < most else None


def _declared_end(file: BinaryIO, at: int, wanted: tuple[bytes, ...], header: str, kind_index: int) -> int | None:
    """Return where the last chunk of a kind in `wanted` ends; sizes of MP4 boxes include their header."""
    end = None
    n_header = struct.calcsize(header)
    for _ in range(1 << 16):
        head = _read(file, at, 16)
        if len(head) < n_header:
            break
        fields = struct.unpack(header, head[:n_header])
        kind, size = fields[kind_index], fields[1 - kind_index]
        if kind_index == 0:
            size += n_header
        elif size == 1 and len(head) == 16:
            size = struct.unpack(">Q", head[8:])[0]
        if not n_header <= size < 1 << 62:
            break
        at += size
        if kind in wanted:
            end = at
    return end


def _declared_nist(head: bytes) -> int | None:
    """Return where the samples of a NIST Sphere file end; None when they are compressed."""
    fields = dict(re.findall(rb"\n(\w+) -i (\d{1,15})", head))
    counts = [int(fields.get(name, 0)) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    if b"shorten" in head or not head[8:16].strip().isdigit():
        return None
    return _known(counts[0] * counts[1] * counts[2], int(head[8:16]), 1 << 62)


def _declared_asf(head: bytes) -> int | None:
    """Return the size in the file properties of a WMA or other ASF file; None for a broadcast, which has none."""
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or len(head) < at + 92 or head[at + 88] & 1:
        return None
    return _known(struct.unpack("<Q", head[at + 40 : at + 48])[0], 0, 1 << 62)


def _declared_matroska(head: bytes) -> int | None:
    """Return where the segment of a Matroska or WebM file ends; None when it was written to a pipe."""
    size, at = _matroska_size(head, 4)
    at += size
    if head[at : at + 4] != b"\x18S\x80g":
        return None
    size, at = _matroska_size(head, at + 4)
    return at + size if size else None


def _matroska_size(head: bytes, at: int) -> tuple[int, int]:
    """Read a number of 1 to 8 bytes, as many as its first byte has leading zeros and one: (0 if unknown, its end)."""
    n = 9 - head[at].bit_length() if at < len(head) else 9
    if n > 8:
        return 0, at
    size = int.from_bytes(head[at : at + n], "big") & (1 << 7 * n) - 1
    return (0 if size == (1 << 7 * n) - 1 else size), at + n


def _read(file: BinaryIO, at: int, n_bytes: int) -> bytes:
    file.seek(at)
    return file.read(n_bytes)


def _chunks(file: BinaryIO, at: int, overlap: int) -> Iterator[tuple[int, bytes]]:
    """Yield pieces of the file from `at` on, with where they begin; each repeats the last bytes of the one before."""
    while True:
        data = _read(file, at, CHUNK)
        yield at, data
        if len(data) < CHUNK:
            return
        at += CHUNK - overlap


def _contains(file: BinaryIO, at: int, wanted: bytes) -> bool:
    return any(wanted in data for _, data in _chunks(file, at, len(wanted) - 1))


def _skip_tags(file: BinaryIO, size: int) -> int:
    """Return where the sound begins behind ID3v2 and APE tags; 0 when a tag claims more than the file has."""
    at = 0
    while (head := _read(file, at, 10))[:3] == b"ID3" and len(head) == 10:
        length = sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        at += 10 + length + (10 if head[5] & 16 else 0)
    if (head := _read(file, at, 16))[:8] == b"APETAGEX":
        at += 32 + int.from_bytes(head[12:16], "little")
    return at if at < size else 0


def _voc_has_end(file: BinaryIO, start: int, head: bytes) -> bool:
    """Whether the blocks of a Creative Voice file, each with its size, lead to the one of type 0 that ends it."""
    at = start + int.from_bytes(head[20:22], "little")
    while len(block := _read(file, at, 4)) == 4 and block[0]:
        at += 4 + int.from_bytes(block[1:], "little")
    return block[:1] == b"\0"


def _look_into_flac(file: BinaryIO, start: int, head: bytes) -> Content:
    n_samples = int.from_bytes(head[21:26], "big") & (1 << 36) - 1
    incomplete = "" if n_samples else "its header has no length"
    several = _contains(file, start + 8, _FLAC_START)
    return Content("flac", incomplete=incomplete, note=_SEVERAL.format("flac") if several else "")


def _look_into_ogg(file: BinaryIO, start: int, size: int) -> Content:
    at = start  # Streams that play together begin together: a start behind other pages is the next recording's.
    while (page := _read(file, at, 282))[:6] == _OGG_START:
        at += 27 + page[26] + sum(page[27 : 27 + page[26]])
    if _contains(file, at, _OGG_START):
        return Content("ogg", incomplete="it holds several Ogg recordings in a row")
    tail = _read(file, max(start, size - (1 << 17)), 1 << 17)
    page = tail[max(0, tail.rfind(b"OggS\x00")) :]
    whole = len(page) > 27 and 27 + page[26] + sum(page[27 : 27 + page[26]]) <= len(page)
    ended = whole and page[5] & 4
    return Content("ogg", note="" if ended else _NO_END)


def _look_into_wav(file: BinaryIO, size: int) -> Content:
    codec, at = 0, 12
    for _ in range(100):
        head = _read(file, at, 10)
        if len(head) < 10:
            break
        length = int.from_bytes(head[4:8], "little")
        if head[:4] == b"fmt ":
            codec = int.from_bytes(head[8:10], "little")
        if head[:4] == b"data":
            if codec in (0x50, 0x55):
                # What libsndfile needs to be told of it; its name is that of the container.
                return replace(_look_into_mpeg(file, at + 8, min(size, at + 8 + length), "wav"), format="wav")
            break
        at += 8 + length + length % 2
    return Content("wav")


# --- MPEG audio -----------------------------------------------------------------------------------------------------

_BITRATES = {  # kbit/s by (MPEG 1?, layer), ISO/IEC 11172-3 and 13818-3
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def _frame_sizes() -> dict[int, int]:
    """Bytes of an MPEG audio frame by the second and third byte of its header."""
    sizes = {}
    for version, divisor in (3, 1), (2, 2), (0, 4):
        for layer in 1, 2, 3:
            samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
            slot = 4 if layer == 1 else 1
            for index, kbps in enumerate(_BITRATES[version == 3, layer], 1):
                for rate, sr in enumerate((44100, 48000, 32000)):
                    for padding in 0, 1:
                        size = (samples // 8 * kbps * 1000 // (sr // divisor) // slot + padding) * slot
                        third = index << 4 | rate << 2 | padding << 1
                        for protection in 0, 1:
                            second = 0xE0 | version << 3 | (4 - layer) << 1 | protection
                            sizes[second << 8 | third] = sizes[second << 8 | third | 1] = size
    return sizes


_FRAME_SIZES = _frame_sizes()
_SYNC = re.compile(rb"\xff[\xe2-\xff]")


def _frame_size(data: bytes, at: int) -> int:
    if len(data) < at + 4 or data[at] != 0xFF:
        return 0
    return _FRAME_SIZES.get(data[at + 1] << 8 | data[at + 2], 0)


def _find_frame(data: bytes) -> int | None:
    """Return where the first of four frames in a row begins, or of as many as fit."""
    for match in _SYNC.finditer(data):
        at = end = match.start()
        n = 0
        while n < 4 and (size := _frame_size(data, end)) and data[end + 1] & 0xFE == data[at + 1] & 0xFE:
            end, n = end + size, n + 1
        if n == 4 or (n > 1 and end >= len(data)):
            return at
    return None


def _is_adts(file: BinaryIO, start: int) -> bool:
    for _ in range(3):
        head = _read(file, start, 6)
        if len(head) < 6 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
            return False
        start += (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return True


def _declared_frames(frame: bytes) -> int:
    """Return the number of frames that the Xing or Info header in the first frame declares, 0 without one."""
    mono = frame[3] >> 6 == 3
    at = 4 + ((17 if mono else 32) if frame[1] & 8 else (9 if mono else 17))
    if frame[at : at + 4] not in (b"Xing", b"Info") or len(frame) < at + 12:
        return 0
    flags, n_frames = struct.unpack(">II", frame[at + 4 : at + 12])
    return n_frames if flags & 1 else 0


def _look_into_mpeg(file: BinaryIO, start: int, size: int, name: str) -> Content:
    data = _read(file, start, min(SEARCHED, size - start))
    at = _find_frame(data)
    if at is None:
        return Content()
    n_declared = _declared_frames(data[at : at + _frame_size(data, at)])
    if not n_declared:
        # libsndfile takes the first frame's bit rate for all and reads no further than that; it knows no VBRI header.
        note = "" if _is_one_run(file, start + at, size) else _DAMAGED
        return Content(name, incomplete="its MPEG audio has no header that tells the length", note=note)
    n_frames, end, changes = _walk_frames(file, start + at, size)
    if changes:
        return Content(name, incomplete="its MPEG audio changes sampling rate or channels on the way")
    # The frame with the header itself is not counted by all programs.
    several = n_frames > n_declared + 2
    if not several and n_frames >= n_declared - 2 and size - end > 4096:
        several = any(_find_frame(chunk) is not None for _, chunk in _chunks(file, end, 1 << 13))
    return Content(name, incomplete="it holds more MPEG audio than its header tells" if several else "")


def _is_one_run(file: BinaryIO, start: int, size: int) -> bool:
    """Whether MPEG frames follow each other up to the end, to a tag, or to what is no MPEG audio up to the end."""
    _, end, changes = _walk_frames(file, start, size)
    if changes or size - end <= 4096 or _read(file, end, 8).startswith(_TAGS):
        return True
    return not any(_find_frame(chunk) is not None for _, chunk in _chunks(file, end + 1, 1 << 13))


def _walk_frames(file: BinaryIO, start: int, size: int) -> tuple[int, int, bool]:
    """Count the frames from `start` to the first that is none: (number, where that is, whether the kind changes)."""
    head = _read(file, start, 4)
    second, third, mono = head[1] & 0xFE, head[2] & 0x0C, head[3] >= 0xC0
    n_frames = 0
    while start < size:
        data, at = _read(file, start, min(CHUNK, size - start)), 0
        last = len(data) - 4
        while at <= last:
            length = _FRAME_SIZES.get(data[at + 1] << 8 | data[at + 2])
            if length is None or data[at] != 0xFF:
                return n_frames, start + at, False
            if data[at + 1] & 0xFE != second or data[at + 2] & 0x0C != third or (data[at + 3] >= 0xC0) != mono:
                return n_frames, start + at, True
            at, n_frames = at + length, n_frames + 1
        if len(data) < CHUNK:
            break
        start += at
    return n_frames, min(start + at, size), False

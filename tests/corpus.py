"""A small corpus of what people's disks hold, every kind once, without any music: ``python -m tests.corpus OUT``.

Each sound is the noise of a genre's band, so that its right picture and its right answer are known. Run as a script it
makes the corpus, draws it, and prints a line for each kind: what was expected, and what `render` said.
"""

import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from render import png
from tests.conftest import band_noise, spectrogram_of, write_picture

SR = 22050
SECONDS = 4.0


@dataclass
class Case:
    """One kind of file.

    Attributes
    ----------
    kind : str
        What it stands for.
    path : str
        Below the corpus; the first folder is the genre.
    seconds : float or None
        What is to be drawn; None where it is refused.
    says : str
        A word of the note or of the reason; empty where nothing is to be said.
    """

    kind: str
    path: str
    seconds: float | None = SECONDS
    says: str = ""


def wav(y, sr=SR, **kwargs):
    """Return samples as the bytes of a file that libsndfile writes."""
    file = io.BytesIO()
    soundfile.write(file, y, sr, **({"format": "WAV"} | kwargs))
    return file.getvalue()


def ffmpeg(y, *arguments, ending, folder, sr=SR, to_pipe=False):
    """Return samples as the bytes that ffmpeg writes into a file, or into a pipe, where it cannot go back."""
    source, target = folder / "source.wav", folder / f"target{ending}"
    source.write_bytes(wav(y, sr))
    call = ["ffmpeg", "-v", "error", "-y", "-i", source, *arguments]
    done = subprocess.run([*call, "pipe:1" if to_pipe else target], stdout=subprocess.PIPE, check=True)
    return done.stdout if to_pipe else target.read_bytes()


def sounds(folder):
    """Yield a `Case` and the bytes of each kind of sound; `folder` is for temporary files."""
    y = band_noise("jazz", seconds=SECONDS)
    stereo = np.stack([y, y], axis=1)

    def code(*arguments, ending, y=y, **kwargs):
        return ffmpeg(y, *arguments, ending=ending, folder=folder, **kwargs)

    vbr = "-c:a", "libmp3lame", "-q:a", "2", "-write_xing", "0", "-id3v2_version", "0"
    mp3, m4a = code(*vbr, ending=".mp3"), code("-c:a", "aac", "-movflags", "faststart", ending=".m4a")
    webm, ogg = code("-c:a", "libopus", ending=".webm"), code("-c:a", "libvorbis", ending=".ogg")
    quiet = np.concatenate([np.zeros(6 * SR), y])
    yield Case("an ordinary WAV file", "jazz/plain.wav"), wav(y)
    yield Case("VBR MP3 without a length header", "jazz/vbr.mp3"), mp3
    yield Case("the same behind silence", "jazz/late.mp3", SECONDS + 6), code(*vbr, ending=".mp3", y=quiet)
    yield Case("two MP3 files joined", "jazz/joined.mp3", 2 * SECONDS), mp3 + mp3
    yield Case("two Ogg files joined", "jazz/chained.ogg", 2 * SECONDS), ogg + ogg
    yield Case("FLAC from a pipe", "jazz/piped.flac"), code("-f", "flac", ending="", to_pipe=True)
    yield Case("FLAC in Ogg", "jazz/flac.oga"), code("-c:a", "flac", "-f", "ogg", ending=".oga")
    hole = slice(len(mp3) // 2, len(mp3) // 2 + 5000)
    yield Case("such an MP3 with a hole of zeros", "jazz/hole.mp3", SECONDS - 0.6, "is damaged"), _with_zeros(mp3, hole)
    yield Case("VOC cut in half", "jazz/sliced.voc", SECONDS / 2, "cut off"), _half(code(ending=".voc"))
    yield Case("M4A cut in half", "jazz/cut.m4a", None, "truncated"), m4a[: len(m4a) // 2]
    yield Case("WAV cut in half", "jazz/half.wav", None, "truncated"), wav(y)[: len(y)]
    yield Case("MP3 named .m4a", "jazz/an mp3.m4a"), mp3
    yield Case("M4A named .mp3", "jazz/an m4a.mp3"), m4a
    yield Case("WebM named .wav", "jazz/browser.wav"), webm
    yield Case("QuickTime", "jazz/movie.mov"), code("-c:a", "aac", ending=".mov")
    yield Case("RF64", "jazz/rf64.wav"), code("-rf64", "always", ending=".wav")
    yield Case("W64", "jazz/w64.w64"), code(ending=".w64")
    yield Case("AU", "jazz/au.au"), wav(y, format="AU")
    yield Case("AIFF", "jazz/aiff.aif"), wav(y, format="AIFF")
    yield Case("inverted phase", "jazz/phase.wav", says="inverted phase"), wav(stereo * [1, -1])
    yield (
        Case("inverted phase after a codec", "jazz/phase.m4a.mp4", says="inverted phase"),
        code("-c:a", "aac", ending=".mp4", y=stereo * [1, -1]),
    )
    yield Case("digital silence", "jazz/nothing.wav", says="silent"), wav(0 * y)
    hiss = np.random.default_rng(0).integers(-1, 2, len(y)) / 32768
    yield Case("the hiss of the last bit", "jazz/hiss.wav", says="silent"), wav(hiss)
    yield Case("8 kHz", "jazz/telephone.wav", says="8000 Hz"), wav(band_noise("jazz", 8000, SECONDS), 8000)
    yield Case("an empty file", "jazz/empty.wav", None, "empty"), b""
    yield Case("no sound at all", "jazz/text.wav", None, "cannot be decoded"), b"no sound\n" * 100
    yield Case("a track of an artist's album", "jazz/Artist A/01 Track.wav"), wav(y)
    yield Case("one of the same name of another artist", "jazz/Artist B/01 Track.wav"), wav(y[::-1])
    yield Case("a name with terminal escapes", "jazz/\x1b[31mred.wav"), wav(y)
    yield Case("a name in decomposed Unicode", "jazz/Forro\u0301.wav"), wav(y)


def _half(data):
    return data[: len(data) // 2]


def _with_zeros(data, where):
    return data[: where.start] + bytes(where.stop - where.start) + data[where.stop :]


def pictures(folder, magick=None, pngquant=None):
    """Make every kind of picture in `folder`; returns (kind, path, whether it can be used) of each.

    ImageMagick's and pngquant's are made where those programs are named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours = write_picture(folder / "ours.png", spectrogram_of("jazz", 1, 200))
    levels = np.asarray(Image.open(ours))
    made = [("ours", ours, True)]

    def add(kind, name, save, usable=True):
        save(folder / name)
        made.append((kind, folder / name, usable))

    coloured = Image.open(ours).convert("RGB")
    add("a JPEG of ours named .jfif", "a.jfif", lambda path: coloured.save(path, "JPEG", quality=95))
    deep = Image.fromarray(levels.astype(np.uint16) << 2)
    add("16-bit grey that holds 10 bits", "deep.png", lambda path: deep.save(path))
    turned, exif = coloured.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6
    add("a JPEG turned by EXIF", "turned.jpg", lambda path: turned.save(path, quality=95, exif=exif))
    frames = [Image.fromarray(levels), Image.fromarray(255 - levels)]
    save = lambda path: frames[0].save(path, save_all=True, append_images=frames[1:])  # noqa: E731
    add("an animation", "moving.gif", save, usable=False)
    add("a blank page", "white.png", lambda path: Image.new("RGB", (300, 200), "white").save(path), usable=False)
    add("text", "text.png", lambda path: path.write_text("no picture"), usable=False)
    if magick:
        for name, options in {"resized": ["-resize", "50%!"], "widened": ["-resize", "300%x100%!"]}.items():
            call = [magick, ours, *options]
            add(f"ours, {name} by ImageMagick", f"{name}.png", lambda path, call=call: run([*call, path]))
    if pngquant:
        add("ours, recoloured by pngquant", "few.png", lambda path: run([pngquant, "16", "-o", path, ours]))
    return made


def run(call):
    """Run another program."""
    subprocess.run(call, check=True)


def make(root):
    """Write the sounds and what lies beside them; returns the cases."""
    root.mkdir(parents=True)
    cases = []
    for case, content in sounds(root):
        path = root / "genres" / case.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        cases.append(case)
    for genre in ("blues", "metal"):
        for number in range(6):
            (root / "genres" / genre).mkdir(exist_ok=True)
            y = band_noise(genre, seconds=SECONDS) * (1 - number / 20)
            (root / "genres" / genre / f"{genre}.{number:05}.wav").write_bytes(wav(np.roll(y, number * SR // 3)))
    beside = root / "genres" / "jazz"
    (beside / "@eaDir").mkdir()
    for name in ("@eaDir/plain.wav", "notes.txt", "cover.jpg"):
        (beside / name).write_bytes(b"none of the music")
    (beside / "plain.mp3").write_bytes((beside / "vbr.mp3").read_bytes())
    return cases


def outcome(case, out, lines):
    """What became of a file: (seconds drawn or None, the lines about it)."""
    picture = (out / case.path).with_suffix(".png")
    seconds = None
    if picture.exists():
        with Image.open(picture) as image:
            about = png.read_about(image)
            seconds = image.width * about["hop_length"] / about["sr"]
    name = case.path.encode("unicode_escape").decode() if "\x1b" in case.path else case.path
    return seconds, [line for line in lines if f"genres/{name}: " in line]


def main():
    """Make the corpus, draw it, and print what became of each kind."""
    root = Path(sys.argv[1])
    cases = make(root)
    call = [sys.executable, "-m", "render", "genres"]
    done = subprocess.run(call, cwd=root, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()})
    for case in cases:
        seconds, lines = outcome(case, root / "images_original", done.stderr.splitlines())
        wanted = "refused" if case.seconds is None else f"{case.seconds:g} s"
        found = "refused" if seconds is None else f"{seconds:.1f} s"
        said = "; ".join(line.partition(": ")[2].rpartition(": ")[2] for line in lines)
        print(f"{case.kind:40} expected {wanted:8} found {found:8} {said}")


if __name__ == "__main__":
    main()

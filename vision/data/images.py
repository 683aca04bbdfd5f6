"""Open picture files safely, and hash their pixels."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from render import png

#: Smaller pictures hold no spectrogram.
MIN_SIDE = 4


def load(path: str | Path) -> Image.Image:
    """Open one picture with its pixels decoded, refusing what cannot be a spectrogram.

    Parameters
    ----------
    path : str or Path
        Any format Pillow reads.

    Returns
    -------
    image : PIL.Image.Image
        Upright; 16-bit grey is brought to 8 bits; other modes are as they are. ``info`` keeps the text chunk. Of the
        several views in the JPEG of a phone (MPO) it is the first.

    Raises
    ------
    png.PictureError
        When it is corrupt, too large, too small, animated, a figure for people, or of floating-point pixels.
    """
    with png.open_picture(path) as image:
        if min(image.size) < MIN_SIDE:
            width, height = image.size
            raise png.PictureError(f"is {width}x{height} pixels, too small for a spectrogram")
        _refuse_figure(image)
        _refuse_frames(image)
        deep_colours = _has_deep_colours(image)
        png.load_pixels(image)
        _refuse_figure(image)  # ImageMagick writes the text chunk behind the pixels
        if image.format == "MPO":
            image.format = "JPEG"
        if image.mode.startswith("I"):
            return _to_8_bits(image)
        if image.mode == "F":
            raise png.PictureError("has floating-point pixels; expected 8 or 16 bits")
        if deep_colours and _brightest(image) < 1 << 6:
            raise png.PictureError("has 16 bits a channel and uses the lower ones alone; save it with 8 bits a channel")
        return image


def _refuse_figure(image: Image.Image) -> None:
    about = png.read_about(image)
    if about and about.get("style") == "figure":
        raise png.PictureError("is a figure with axes, drawn for people; render it without --style figure")


def _refuse_frames(image: Image.Image) -> None:
    # `n_frames` of a TIFF or GIF would read all of them, which takes minutes; whether there is a second takes no time.
    try:
        several = image.format != "MPO" and getattr(image, "is_animated", False)
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise png.PictureError(f"is damaged ({error})") from None
    if several:
        # PNG and WebP say how many at their beginning.
        n_frames = getattr(image, "n_frames", 0) if image.format in ("PNG", "WEBP") else 0
        count = f"{n_frames} frames" if n_frames else "several frames or pages"
        raise png.PictureError(f"is animated ({count}); save one frame of it as PNG")


def _has_deep_colours(image: Image.Image) -> bool:
    """Whether an open picture has 16 bits in each of several channels, of which Pillow decodes the upper 8."""
    tiles = getattr(image, "tile", [])
    modes = [args if isinstance(args, str) else next(iter(args or ()), "") for *_, args in tiles]
    return any(str(mode).partition(";")[2].startswith("16") for mode in modes) and len(image.getbands()) > 1


def _brightest(image: Image.Image) -> int:
    """The highest value in any channel but alpha."""
    return max(int(np.asarray(image.getchannel(band)).max()) for band in image.getbands() if band != "A")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 9 to 16 bits to 8, whichever of them it uses: scanners and cameras write 10 or 12 bits into 16."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise png.PictureError(f"has pixels from {values.min()} to {values.max()}; expected 8 or 16 bits")
    highest = (1 << max(8, int(values.max()).bit_length())) - 1
    levels = ((values * 510 + highest) // (2 * highest)).astype(np.uint8)
    # Of TIFF's two kinds of grey Pillow knows the one in which 0 is white only up to 8 bits.
    white_is_0 = image.format == "TIFF" and image.getexif().get(ExifTags.Base.PhotometricInterpretation) == 0
    return Image.fromarray(255 - levels if white_is_0 else levels, "L")


def pixel_hash(image: Image.Image) -> str:
    """Hash the size and pixels: equal for pictures that look the same, whatever the file format.

    Returns
    -------
    digest : str
        32 hexadecimal digits (BLAKE2b).
    """
    rgba = image.convert("RGBA" if "A" in image.mode or "transparency" in image.info else "RGB")
    if rgba.mode == "RGBA" and rgba.getchannel("A").getextrema() == (255, 255):
        rgba = rgba.convert("RGB")
    head = f"{rgba.mode}{rgba.size}".encode()
    return hashlib.blake2b(head + rgba.tobytes(), digest_size=16).hexdigest()

"""Open picture files safely, and hash their pixels."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

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
        16-bit grey is brought to 8 bits; other modes are as they are. ``info`` keeps the text chunk.

    Raises
    ------
    png.PictureError
        When it is corrupt, too large, too small, animated, or of floating-point pixels.
    """
    with png.open_picture(path) as image:
        if min(image.size) < MIN_SIDE:
            width, height = image.size
            raise png.PictureError(f"is {width}x{height} pixels, too small for a spectrogram")
        about = png.read_about(image)
        if about and about.get("style") == "figure":
            raise png.PictureError("is a figure with axes, drawn for people; render it without --style figure")
        try:
            frames = getattr(image, "n_frames", 1)
            if frames == 1:
                image.load()
        except Exception as error:  # Pillow's decoders raise many kinds on damaged files
            raise png.PictureError(f"is damaged ({error})") from None
        if frames > 1:
            raise png.PictureError(f"is animated ({frames} frames); save one frame of it as PNG")
        if image.mode.startswith("I"):
            values = np.asarray(image).astype(np.int64)
            if values.min() < 0 or values.max() > 65535:
                raise png.PictureError(f"has pixels from {values.min()} to {values.max()}; expected 8 or 16 bits")
            return Image.fromarray(((values + 128) // 257).astype(np.uint8), "L")
        if image.mode == "F":
            raise png.PictureError("has floating-point pixels; expected 8 or 16 bits")
        return image


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

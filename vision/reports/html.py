"""Self-contained web pages: jinja2 templates, with the pictures embedded as data URIs.

The pages are the files in ``templates/``: ``base.html`` holds the style, ``macros.html`` tables, tiles and figures,
and one file a page extends them. Every value is escaped when it is inserted, so names may hold anything.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from render import atomic

if TYPE_CHECKING:
    import jinja2

#: Quality of embedded JPEGs, as Pillow counts it.
JPEG_QUALITY = 85


def data_uri(picture: str | Path | Image.Image) -> str:
    """Encode a picture for the ``src`` of an ``<img>``.

    Parameters
    ----------
    picture : str, Path or PIL.Image.Image
        A PNG file, embedded as it is, or a picture in memory, embedded as JPEG.

    Returns
    -------
    uri : str
        ``data:image/...;base64,...``
    """
    if isinstance(picture, Image.Image):
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
        kind, data = "jpeg", buffer.getvalue()
    else:
        kind, data = "png", Path(picture).read_bytes()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@functools.cache
def _environment() -> jinja2.Environment:
    # Imported here: no command needs jinja2 for its --help.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vision.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = data_uri
    return environment


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """Render a template.

    Parameters
    ----------
    template : str
        Name of a file in ``templates/``.
    context : dict
        The variables that the template uses; a missing one is an error.

    Returns
    -------
    html : str

    Raises
    ------
    jinja2.TemplateError
        When there is no such template, or a variable of it is missing.
    """
    return _environment().get_template(template).render(context)


def write_page(path: str | Path, template: str, context: Mapping[str, Any]) -> None:
    """Render a template to a file, atomically; see `render_page`."""
    atomic.write_text(path, render_page(template, context))

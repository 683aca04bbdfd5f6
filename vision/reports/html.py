"""Self-contained web pages, and text files written whole or not at all."""

import base64
import html
import io
from pathlib import Path

from render import atomic

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>melvision: {title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 50rem; padding: 1rem; color: #222; }}
h1 {{ margin: 0; overflow-wrap: anywhere; }} h2 {{ border-top: 1px solid #bbb; margin-top: 2rem; padding-top: .5rem; }}
img {{ max-width: 100%; height: auto; }} figure {{ margin: 0 0 1.2rem; break-inside: avoid; }}
figcaption {{ overflow-wrap: anywhere; }} figure img {{ display: block; width: 100%; margin: .2rem 0; }}
pre {{ overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }}
pre {{ background: #f5f5f5; padding: .7rem; font-size: .8rem; }}
.scroll {{ overflow-x: auto; margin: .7rem 0; }}
table {{ border-collapse: collapse; font-size: .9rem; white-space: nowrap; }}
th, td {{ padding: .15rem .6rem; text-align: right; }}
@media (max-width: 40rem) {{ table {{ font-size: .75rem; }} th, td {{ padding: .15rem .35rem; }} }}
th {{ border-bottom: 2px solid #888; }} td {{ border-bottom: 1px solid #ddd; }}
th:first-child, td:first-child {{ text-align: left; }}
li {{ overflow-wrap: anywhere; }}
.tiles {{ display: flex; flex-wrap: wrap; gap: .7rem; margin: 1rem 0; }}
.tiles div {{ background: #f5f5f5; padding: .5rem .9rem; flex: 1 1 9rem; }}
.tiles b {{ display: block; font-size: 1.6rem; line-height: 1.2; }}
.columns {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 0 1.2rem; }}
.big {{ font-size: 1.3rem; }} .note {{ border-left: .3rem solid #D55E00; padding-left: .7rem; }}
</style></head><body>
<h1>{title}</h1>
{note}
<p class="big">{headline}</p>
{sections}
</body></html>
"""


class Markup(str):
    """A piece of a page, escaped already."""


def paragraph(text):
    """A paragraph of plain text, as `Markup`."""
    return Markup(f"<p>{html.escape(text)}</p>")


def bullets(texts):
    """A list of plain texts, as `Markup`."""
    return Markup(f"<ul>{''.join(f'<li>{html.escape(text)}</li>' for text in texts)}</ul>")


def pre(text):
    """Text in the lines it has, as `Markup`."""
    return Markup(f"<pre>{html.escape(text)}</pre>")


def details(summary, text):
    """Text in the lines it has, folded away behind a line of summary, as `Markup`."""
    return Markup(f"<details><summary>{html.escape(summary)}</summary>{pre(text)}</details>")


def table(head, rows):
    """A table of plain texts, as `Markup`; the first column is aligned left, the others right.

    Parameters
    ----------
    head : sequence of str
        Names of the columns.
    rows : iterable of sequence
        What each cell says; anything with a `str`.
    """

    def line(cells, kind):
        return "<tr>" + "".join(f"<{kind}>{html.escape(str(cell))}</{kind}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return Markup(f'<div class="scroll"><table>{line(head, "th")}{body}</table></div>')


def tiles(entries):
    """Figures to be seen at a glance, as `Markup`: (what it is, the figure, a remark) each."""
    parts = [[html.escape(part) for part in entry] for entry in entries]
    return Markup(f'<div class="tiles">{"".join(f"<div>{a}<b>{b}</b>{c}</div>" for a, b, c in parts)}</div>')


def columns(pieces):
    """Pieces of `Markup` side by side where there is room, as `Markup`."""
    return Markup(f'<div class="columns">{"".join(pieces)}</div>')


def figure(pictures, caption):
    """Pictures one above the other, and a line that tells what they show, as `Markup`.

    Parameters
    ----------
    pictures : sequence of (PIL.Image.Image, str)
        Each with a text for those who cannot see it.
    caption : str
        Plain text, put on top.
    """
    parts = []
    for image, told in pictures:
        data = io.BytesIO()
        image.convert("RGB").save(data, "JPEG", quality=85)
        parts.append(f'<img alt="{html.escape(told)}" src="{_embed(data.getvalue(), "jpeg")}">')
    return Markup(f"<figure><figcaption>{html.escape(caption)}</figcaption>{''.join(parts)}</figure>")


def plot(path):
    """A PNG file, as `Markup`."""
    told = html.escape(path.stem.replace("_", " "))
    return Markup(f'<img alt="{told}" src="{_embed(path.read_bytes(), "png")}">')


def _embed(data, kind):
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()


def write_page(path, title, headline, sections, note=""):
    """Write a self-contained page.

    Parameters
    ----------
    path : Path
        HTML file to write.
    title, headline, note : str
        Plain text.
    sections : dict of str to list
        For each heading, in order: `Markup`, paths of PNG pictures, and strings, shown in the lines
        they have.
    """
    parts = []
    for heading, contents in sections.items():
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        for content in contents:
            shown = content if isinstance(content, Markup) else plot(content) if isinstance(content, Path) else None
            parts.append(shown or pre(content))
    note = f'<p class="note">{html.escape(note)}</p>' if note else ""
    title, headline = html.escape(title), html.escape(headline)
    write_text(path, PAGE.format(title=title, note=note, headline=headline, sections="\n".join(parts)))


def write_text(path, text):
    """Write text, whole or not at all."""
    with atomic.replacing(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)

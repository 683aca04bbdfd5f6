"""A map of tracks as one web page: alike tracks lie close together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from PIL import Image

from render import png
from render.cli import progress
from render.errors import MelvisionError
from vision.data.genres import match_genre
from vision.data.preprocess import UNUSABLE
from vision.inference.embeddings import nearest, values_of
from vision.inference.predictor import Prediction, Predictor
from vision.reports.html import data_uri, write_page
from vision.reports.recordings import sound_of, url_of

#: Tracks on one page, at most: with their pictures they take 5 kB each.
MOST = 20_000

#: Width and height of a track's picture on the page, in pixels.
THUMBNAIL = (128, 64)

#: Neighbours that are named for each track.
NEIGHBOURS = 5

#: Axes that t-SNE takes; its cost grows with them, and what the others hold is noise.
AXES = 50


def place(values: np.ndarray) -> np.ndarray:
    """Place tracks on a plane by their embeddings: principal axes, then t-SNE.

    After van der Maaten and Hinton, "Visualizing Data using t-SNE" (2008), by scikit-learn. Neighbours stay
    neighbours; how far apart two groups lie, and how large they are, means nothing.

    Parameters
    ----------
    values : np.ndarray, shape (n, d)
        Embeddings.

    Returns
    -------
    places : np.ndarray, shape (n, 2), float
        In [0, 1]. The same embeddings get the same places.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    standard = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    places = np.zeros((len(values), 2))
    if len(values) > 1:
        axes = min(AXES, *standard.shape)
        with np.errstate(invalid="ignore"):  # equal tracks have no variance to be a fraction of
            places = PCA(axes, random_state=0).fit_transform(standard.astype(np.float64))
    # scikit-learn divides by the spread along the first axis, and crashes where there is none.
    if len(values) > 4 and places[:, 0].std() > 1e-9:
        perplexity = min(30.0, (len(values) - 1) / 3)
        places = TSNE(2, init="pca" if places.shape[1] > 1 else "random", perplexity=perplexity, random_state=0,
                      n_jobs=1).fit_transform(places)  # fmt: skip
    if places.shape[1] < 2:
        places = np.pad(places, ((0, 0), (0, 1)))
    low, high = places[:, :2].min(axis=0), places[:, :2].max(axis=0)
    return (places[:, :2] - low) / np.maximum(high - low, 1e-9)


def _thumbnail(path: Path, predictor: Predictor) -> str:
    try:
        x = predictor.read(path).x
    except UNUSABLE:  # was read before, and may be gone since
        return ""
    image = Image.fromarray(x[0].numpy()) if len(x) == 1 else Image.fromarray(x.permute(1, 2, 0).numpy())
    image = image.resize(THUMBNAIL, Image.Resampling.BILINEAR)
    if len(x) == 1:
        image.putpalette(png.palette("magma").tobytes())
    return data_uri(image)


def write_map(
    path: str | Path,
    predictions: Sequence[Prediction],
    predictor: Predictor,
    recordings: Mapping[tuple[str, ...], Path] | None = None,
) -> None:
    """Write the page.

    Parameters
    ----------
    path : str or Path
        Where.
    predictions : list of Prediction
        With embeddings; their folders name their genres, where the model knows these.
    predictor : Predictor
        That made them.
    recordings : dict, optional
        From `find_recordings`.

    Raises
    ------
    MelvisionError
        When there are no tracks, or more than one page can hold.
    """
    if not 0 < len(predictions) <= MOST:
        raise MelvisionError(f"{path}: {len(predictions)} tracks; expected from 1 to {MOST} on one page")
    path, files = Path(path), [Path(str(one.path)) for one in predictions]
    values, classes = values_of(predictions), predictor.classes
    numbers, similarity = nearest(values, values, NEIGHBOURS + 1)
    calls = Parallel(n_jobs=-1, prefer="threads", return_as="generator")(
        delayed(_thumbnail)(file, predictor) for file in files
    )
    pictures = list(progress(calls, total=len(files), desc="pictures", unit="file"))
    rows: list[dict[str, Any]] = []
    for number, (file, one, (x, y)) in enumerate(zip(files, predictions, place(values).tolist(), strict=True)):
        others = list(zip(numbers[number].tolist(), similarity[number].tolist(), strict=True))
        genre, sound = match_genre(file.parent.name, classes), sound_of(file, recordings or {})
        rows.append({
            "name": file.stem,
            "genre": classes.index(genre) if genre in classes else -1,
            "guess": classes.index(one.genre or ""),
            "p": round(float(one.probability or 0), 3),
            "x": round(x, 4),
            "y": round(y, 4),
            "near": [[other, round(cosine, 2)] for other, cosine in others if other != number][:NEIGHBOURS],
            "picture": pictures[number],
            "sound": url_of(sound, path) if sound else "",
        })  # fmt: skip
    labelled = sum(row["genre"] >= 0 for row in rows)
    alike = [rows[row["near"][0][0]]["genre"] == row["genre"] for row in rows if row["near"] and row["genre"] >= 0]
    headline = f"{len(rows)} tracks of {len({row['genre'] for row in rows if row['genre'] >= 0})} genres"
    if alike:
        headline += f"; the nearest track is of the same genre for {np.mean(alike):.0%}"
    context = {"title": "Map of tracks", "note": "", "headline": headline if labelled else f"{len(rows)} tracks"}
    write_page(path, "map.html", context | {"data": {"classes": classes, "tracks": rows, "labelled": labelled > 0}})

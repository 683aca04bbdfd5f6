"""Predictions over time for many files, with a plot and a table of each."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from vision.inference.predictor import Prediction, Predictor
from vision.inference.timeline import Segment, predict_over_time, segments, write_timeline
from vision.reports.plots import MAX_NAME, plot_timeline


def write_timelines(
    predictor: Predictor, files: Iterable[Path], folder: str | Path, kind: str = "png"
) -> Iterator[tuple[Prediction, list[Segment]]]:
    """Predict files over time and write a plot and a CSV table for each.

    Parameters
    ----------
    predictor : Predictor
        The model.
    files : iterable of Path
        Pictures and recordings.
    folder : str or Path
        Where the plots and tables go.
    kind : str
        Ending of the plots: ``"png"``, ``"svg"`` or ``"pdf"``.

    Yields
    ------
    prediction : Prediction
        Of the whole file.
    segments : list of Segment
        Empty where the file could not be used.
    """
    counts: Counter[str] = Counter()
    for path in files:
        prediction, times, probabilities = predict_over_time(predictor, path)
        if times is None or probabilities is None:
            yield prediction, []
            continue
        # Files of one name from two folders get numbers.
        name = path.name[:MAX_NAME]
        counts[name] += 1
        name += f" ({counts[name]})" if counts[name] > 1 else ""
        write_timeline(Path(folder) / f"{name}.csv", times, probabilities, predictor.classes)
        plot_timeline(Path(folder) / f"{name}.{kind}", times, probabilities, predictor.classes, name)
        yield prediction, segments(times, probabilities)

"""One training for each of several seeds, or for each fold of a cross-validation."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from render import atomic
from render.errors import MelvisionError
from vision.reports import metrics
from vision.reports.tables import SplitPredictions, read_split_predictions, summary_line
from vision.splits.folds import _select
from vision.training.report import PooledResult, write_pooled
from vision.training.run import LAST, fit, versions


def run_fold(config, pictures, numbers, how, out, say):
    """Learn from some pictures and score others, or read what an earlier call left.

    Parameters
    ----------
    config : Config
    pictures : Pictures
    numbers : (list of int, list of int)
        From `cut`.
    how : dict
        ``spec``, how pictures are read, and ``hardware``.
    out : Path
        Folder of this fold.
    say : callable
        Takes a line of text.

    Returns
    -------
    probabilities : np.ndarray, shape (n, n_classes)
        Of the scored pictures.
    """
    import numpy as np

    from vision.inference.windows import predict_proba
    from vision.training.loop import learn
    from vision.training.run import check_genres, fingerprint, make_model_spec
    from vision.training.state import read_state

    train, held_out = (_select(pictures, part) for part in numbers)
    check_genres(train, out)
    device, precision, threads = how["hardware"]
    about = {"config": asdict(config), "device": device.type, "precision": precision, "threads": threads}
    about |= {"processes": 1, "pictures": fingerprint({"train": train, "held out": held_out})}
    done = out / "done.json"
    if done.exists():
        found = json.loads(done.read_text("utf-8"))
        if found["about"] != about:
            raise MelvisionError(f"{out}: was done with other settings or pictures; use another --out")
        return np.array(found["probabilities"])
    out.mkdir(parents=True, exist_ok=True)
    spec = make_model_spec(config, train, how["spec"], dict(about))
    _, model = learn(config, spec, train, None, out, device, state=read_state(out, about, say), say=say)
    probabilities = predict_proba(model, held_out.x).double().numpy()
    with atomic.replacing(done, "w", encoding="utf-8") as file:
        json.dump({"about": about, "probabilities": probabilities.tolist()}, file)
    for name in ("model.pt", "last.pt", "before.pt"):
        (out / name).unlink(missing_ok=True)
    return probabilities


#: In the folder that holds the runs, their seeds and config.
SEEDS_FILE = "seeds.json"


def read_seeds(out):
    """The seeds and settings of a folder of runs.

    Raises
    ------
    MelvisionError
        When ``seeds.json`` is missing or damaged.
    """
    path = Path(out) / SEEDS_FILE
    try:
        found = json.loads(path.read_text("utf-8"))
        return [int(seed) for seed in found["seeds"]], found["config"]
    except (OSError, ValueError, KeyError, TypeError):
        raise MelvisionError(f"{path}: missing or damaged; {out} is no folder of runs") from None


def fit_seeds(config, seeds, out, *, say=print, rank=0, world=1):
    """Train once for each seed, into ``seed-0`` and so on; runs that are complete are kept.

    Parameters
    ----------
    config : Config
        Its seed is not used.
    seeds : list of int
        One a run.
    out : Path
        Folder of the runs.
    say : callable
        Takes a line of text for the user.
    rank, world : int
        As `parallel.group` gives them.

    Returns
    -------
    summary : dict or None
        What ``summary.json`` holds; None in all but the first of several processes.
    problems : list of str
        Pictures that could not be used.
    """
    out.mkdir(parents=True, exist_ok=True)
    if rank == 0:
        with atomic.replacing(out / SEEDS_FILE, "w", encoding="utf-8") as file:
            json.dump({"seeds": seeds, "config": asdict(config)}, file, indent=1)
    problems = []
    for seed in seeds:
        folder = out / f"seed-{seed}"
        if (folder / "metrics.json").exists():
            continue
        say(f"seed {seed}:")
        begun = (folder / "config.json").exists()
        _, unusable = fit(replace(config, seed=seed), folder, resume=begun, say=say, rank=rank, world=world)
        problems += [line for line in unusable if line not in problems]
    return (_report_seeds(out, seeds, config) if rank == 0 else None), problems


def _report_seeds(out, seeds, config):
    folders = [out / f"seed-{seed}" for seed in seeds]
    scores = [json.loads((folder / "metrics.json").read_text("utf-8")) for folder in folders]
    judged = "test" if "test" in scores[0] else LAST
    summary = {
        split: metrics.mean_and_interval([found[split]["accuracy"] for found in scores]) for split in ("dev", LAST)
    }
    if judged == "test":
        summary["test"] = metrics.mean_and_interval([found["test"]["accuracy"] for found in scores])
    predictions = [read_split_predictions(folder / "predictions.csv", judged) for folder in folders]
    (paths, y, _), classes = predictions[0]
    probabilities = np.mean([of_seed.probabilities for of_seed, _ in predictions], axis=0)
    together = metrics.score(y, probabilities)
    named = {"dev": "dev, kept epochs (optimistic: dev chose them)", LAST: "dev, last epochs", "test": "test"}
    lines = [summary_line(named[split], scores) for split, scores in summary.items()]
    low, high = together["interval"]
    lines.append(
        f"{named[judged]}, mean of the {len(seeds)} models' probabilities: {together['accuracy']:.3f} "
        f"(95 % {low:.3f} to {high:.3f})"
    )
    about = {"config": asdict(config), "seeds": seeds, "versions": versions()}
    side = judged.split("_")[0]
    headline = f"{summary[judged]['mean']:.1%} of {len(y)} {side} tracks right, mean of {len(seeds)} seeds"
    headline += f"; {together['accuracy']:.1%} together"
    result = PooledResult(
        title=f"{side} tracks, all seeds together", headline=headline, lines=lines,
        predictions=SplitPredictions(paths, y, probabilities), classes=classes,
        summary=summary | {"judged": judged}, about=about, note=config.note,
    )  # fmt: skip
    text = write_pooled(out, result)
    return summary | {"judged": judged, "together": together, "text": text}

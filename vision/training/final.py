"""The model that one really uses: trained on all tracks, with the settings of a run that was measured."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from render import atomic
from render.cli import note_and_failure_lines
from render.errors import MelvisionError
from vision.data.dataset import Pictures
from vision.data.preprocess import InputSpec
from vision.data.validate import read_json
from vision.inference.device import use_threads
from vision.models import checkpoint, run_files
from vision.models.spec import ModelSpec
from vision.reports import html, plots
from vision.reports.tables import tracks_right
from vision.splits.leaks import find_splits
from vision.splits.tracks import small_genres
from vision.training.config import TrainConfig, command_of
from vision.training.distributed import Distributed
from vision.training.loop import RunContext, learn
from vision.training.report import subtitle
from vision.training.run import (
    check_genres,
    describe_run,
    make_model_spec,
    pick_hardware,
    picture_groups_of,
    read_together,
    run_folder,
    versions,
    write_split,
)
from vision.training.state import read_config, read_state, threads_before
from vision.training.tensorboard import require_tensorboard


@dataclass
class Measured:
    """A finished run whose settings are used again.

    Attributes
    ----------
    run : Path
        Its folder.
    config : TrainConfig
    spec : ModelSpec
        Of its model: the temperature and thresholds that were learned on its dev tracks.
    split : str
        What it is judged by: test, or dev where there is no test.
    scores : dict
        Of that; see `metrics.score`.
    """

    run: Path
    config: TrainConfig
    spec: ModelSpec
    split: str
    scores: dict[str, Any]

    @property
    def sentence(self) -> str:
        """How good it is, in words."""
        optimistic = "; optimistic: its epoch was chosen on them" if self.split == "dev" else ""
        return f"{self.run}, trained with these settings on a part of the tracks, had {self._right}{optimistic}"

    @property
    def _right(self) -> str:
        return tracks_right(self.scores, self.split)


def read_measured(run: str | Path) -> Measured:
    """Read a finished run of ``vision.train``.

    Raises
    ------
    MelvisionError
        When it is no such run, not finished, or a final model itself, which nothing has measured.
    """
    folder = Path(run)
    if (folder / run_files.SEEDS).exists():
        raise MelvisionError(f"{run}: holds several runs; name one of them, such as {run_files.seed_folder(folder, 0)}")
    path = folder / run_files.METRICS
    scores: dict[str, Any] = dict(read_json(path, run_files.MetricsFile, "expected a finished run of vision.train"))
    if "like" in scores:
        raise MelvisionError(
            f"{run}: is a final model, which was not measured; name the run that was: {scores['like']}"
        )
    _, spec = checkpoint.load_model(folder)
    split = "test" if "test" in scores else "dev"
    if split not in scores:
        raise MelvisionError(f"{path}: dev is missing; expected a finished run of vision.train")
    return Measured(folder, read_config(folder), spec, split, scores[split])


@dataclass
class FinalResult:
    """What `fit_final` returns.

    Attributes
    ----------
    run : Path
        The run folder.
    measured : Measured
        The run whose settings were used.
    n_tracks : int
        How many it was trained on.
    problems, notes : list of str
        Pictures that could not be used, and what else the user should know of them.
    """

    run: Path
    measured: Measured
    n_tracks: int
    problems: list[str]
    notes: list[str]


def fit_final(
    like: str | Path,
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    resume: bool = False,
    progress: Callable[[str], None] | None = None,
) -> FinalResult:
    """Train on train, dev and test together, for all epochs, with the settings of a run that was measured.

    Nothing is left to measure the model on. It gets the temperature and the thresholds of that run.

    Parameters
    ----------
    like : str or Path
        Run folder of ``vision.train``.
    out : str or Path, optional
        The new run folder; by default the first of ``runs/final-001`` and so on that is free.
    data : str or Path, optional
        A folder of train, dev and test, or of genres; by default that of `like`.
    resume : bool
        Go on where an interrupted call with this `out` stopped.
    progress : callable, optional
        Takes a line of text for the user, such as `print`. By default lines go to `logging`.

    Returns
    -------
    result : FinalResult

    Raises
    ------
    MelvisionError
        When `like` is no finished run, `out` is in use, or the genres are not those of `like`.
    """
    measured = read_measured(like)
    config = replace(measured.config, data=str(data or measured.config.data), patience=0)
    with Distributed() as distributed, run_folder(config, out, resume, distributed, name="final") as folder:
        if resume and config.threads is None:
            use_threads(threads_before(folder))
        hardware = pick_hardware(config, distributed)
        context = RunContext(folder, hardware.device, distributed, progress)
        require_tensorboard(config)
        pictures, input_spec = _read_everything(config, measured.spec.classes)
        for line in note_and_failure_lines(pictures.notes, pictures.problems):
            context.say(line)
        n_tracks = len(set(pictures.tracks))
        context.say(f"all {len(pictures.y)} pictures of {n_tracks} tracks; {hardware.device}, {hardware.precision}")
        about = describe_run(config, hardware, {"train": pictures}, distributed.world) | {"versions": versions()}
        about |= {"like": os.path.relpath(measured.run, folder)}
        spec = make_model_spec(config, pictures, input_spec, about)
        state = distributed.once(lambda: read_state(folder, about, context.say) if resume else None)
        if state is None and distributed.is_first:
            atomic.write_json(folder / run_files.CONFIG, about)
            write_split(folder, {"train": pictures})
        groups = picture_groups_of(config, pictures) if config.soft_labels else None
        history, _ = learn(config, spec, pictures, None, context, state, groups)
        if distributed.is_first:
            _finish(folder, measured, pictures, history)
        distributed.wait()
    return FinalResult(folder, measured, n_tracks, pictures.problems, pictures.notes)


def _read_everything(config: TrainConfig, classes: Sequence[str]) -> tuple[Pictures, InputSpec]:
    """Read all pictures of a data folder, whatever split they are in; see `read_together`."""
    folders = list(find_splits(config.data).values()) or [Path(config.data)]
    pictures, spec = read_together(config, folders, classes)
    check_genres(pictures, config.data)
    pictures.notes += small_genres(pictures, config.data)
    return pictures, spec


def _finish(out: Path, measured: Measured, pictures: Pictures, history: list[dict[str, Any]]) -> None:
    """Give the model what was learned on dev, and write the report."""
    model, spec = checkpoint.load_model(out)
    temperature = float(measured.spec.about.get("temperature", 1.0))
    model.temperature.fill_(temperature)
    spec.about["temperature"], spec.thresholds = temperature, measured.spec.thresholds
    checkpoint.save(out / run_files.MODEL, model, spec)
    n_tracks = len(set(pictures.tracks))
    headline = f"Trained on all {n_tracks} tracks: nothing is left to measure this model on."
    atomic.write_text(out / run_files.TEXT_REPORT, f"{headline}\n{measured.sentence}.\n")
    plot = out / run_files.LOSS_PLOT if history[-1]["epoch"] else None
    if plot:
        plots.plot_history(plot, history, "loss", history[-1]["epoch"])
    counts = torch.bincount(pictures.y[sorted(set(pictures.tracks))], minlength=len(pictures.classes)).tolist()
    report = measured.run / run_files.PAGE
    context = {
        "title": out.resolve().name,
        "subtitle": subtitle(TrainConfig.from_dict(spec.about["config"])),
        "headline": headline,
        "note": spec.about["config"]["note"],
        "sentence": measured.sentence,
        "link": Path(os.path.relpath(report, out)).as_posix() if report.exists() else "",
        "like": str(measured.run),
        "plot": plot,
        "count_rows": [*zip(pictures.classes, counts, strict=True), ("all", n_tracks)],
        "temperature": temperature,
        "command": command_of(TrainConfig.from_dict(spec.about["config"])),
        "settings": json.dumps(spec.about["config"], indent=1),
        "versions": json.dumps(spec.about["versions"], indent=1),
    }
    html.write_page(out / run_files.PAGE, "final.html", context)
    like = os.path.relpath(measured.run, out)
    atomic.write_json(out / run_files.METRICS, {"like": like, "measured": {measured.split: measured.scores}})
    for name in (run_files.STATE, run_files.OLDER_STATE):
        (out / name).unlink(missing_ok=True)

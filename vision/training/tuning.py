"""A search for better settings, by Optuna: trials over grouped folds of the train and dev tracks, never of test."""

import contextlib
import logging
import math
import shutil
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from render import atomic
from render.cli import note_and_failure_lines
from render.errors import MelvisionError, ParameterError
from vision.data.dataset import Pictures, SpectrogramFolder
from vision.data.folder_lock import locked
from vision.models import run_files
from vision.reports import metrics
from vision.reports.tuning import FoldScores, TrialRow, TuningReport, write_tuning
from vision.splits.folder import named_pieces, split_groups
from vision.splits.folds import make_folds, picture_groups
from vision.splits.groups import merge_groups, read_groups
from vision.splits.leaks import train_splits
from vision.splits.tracks import small_genres
from vision.training.calibration import calibrated_loss
from vision.training.config import NETWORK, TrainConfig
from vision.training.loop import RunContext
from vision.training.repeats import check_folds, no_lines, run_fold
from vision.training.run import (
    check_genres,
    check_model,
    fingerprint,
    pick_hardware,
    read_together,
    versions,
)

if TYPE_CHECKING:
    import optuna

#: What the search itself does not depend on: a study may go on upon another machine.
_ELSEWHERE = ("data", "device", "precision", "threads", "note")

#: Trials that are not stopped early: there must be something to compare with.
STARTUP_TRIALS = 5

#: Seconds between signs of life of a trial; others take it for dead after two without.
HEARTBEAT = 60

#: Tries to open a database.
OPENINGS = 3

#: With fewer complete trials the importance of settings is a guess.
LEAST_FOR_IMPORTANCE = 10


@dataclass
class TuneResult:
    """What `tune` returns.

    Attributes
    ----------
    run : Path
        Folder of the results.
    best : TrainConfig
        The settings of the best trial, as in ``best.json``.
    report : TuningReport
        All trials, and what choosing among them is worth.
    problems : list of str
        Pictures that could not be used.
    """

    run: Path
    best: TrainConfig
    report: TuningReport
    problems: list[str]


def searched_settings(config: TrainConfig, fixed: Collection[str], only: Sequence[str] = ()) -> list[str]:
    """The settings that a search varies.

    Parameters
    ----------
    config : TrainConfig
        Where it begins.
    fixed : collection of str
        Settings that are to stay as they are.
    only : sequence of str
        Vary only these; by default all that have a range to search and matter to this model.

    Returns
    -------
    names : list of str

    Raises
    ------
    ParameterError
        When `only` names another setting, or nothing is left to vary.
    """
    ranges = {one.name: one.metadata["search"] for one in fields(TrainConfig) if one.metadata["search"]}
    unknown = [name for name in only if name not in ranges]
    if unknown:
        raise ParameterError("search", ",".join(only), f"some of {','.join(ranges)}")
    names = [name for name in only or ranges if name not in fixed]
    if config.model not in ranges["model"]:
        names = [name for name in names if name != "model"]
    weights = config.expert_weights
    if config.model not in weights or len(weights) < 2:
        names = [name for name in names if name != "experts"]
    if config.model not in weights:
        raise ParameterError("experts", config.experts, "network among them: without it there is nothing to tune")
    if not names:
        raise ParameterError("search", ",".join(only), "a setting that no flag gives a value to")
    return names


def suggest(trial: "optuna.trial.BaseTrial", config: TrainConfig, names: Sequence[str]) -> TrainConfig:
    """Let a trial choose the settings of these names; the others are those of `config`."""
    chosen: dict[str, Any] = {}
    for name in names:
        one = TrainConfig.__dataclass_fields__[name].metadata["search"]
        if isinstance(one[0], str):
            chosen[name] = trial.suggest_categorical(name, one)
        elif isinstance(one[0], int):
            chosen[name] = trial.suggest_int(name, *one)
        else:  # what spans more than a factor of ten is searched by its logarithm
            value = trial.suggest_float(name, *one, log=one[0] > 0 and one[1] / one[0] > 10)
            chosen[name] = float(f"{value:.3g}")  # people will read it
    return _with(config, chosen)


def _with(config: TrainConfig, chosen: dict[str, Any]) -> TrainConfig:
    """Settings with some of them replaced; the number for ``experts`` is the weight of the network."""
    if "experts" in chosen:
        own = chosen["experts"]
        others = {name: weight for name, weight in config.expert_weights.items() if name != config.model}
        rest = (1 - own) / sum(others.values())
        parts = [f"{NETWORK}:{own:.3g}", *(f"{name}:{weight * rest:.3g}" for name, weight in others.items())]
        chosen = chosen | {"experts": ",".join(parts)}
    return replace(config, **chosen)


def starting_point(config: TrainConfig, names: Sequence[str]) -> dict[str, Any]:
    """The values that `config` has for the settings of these names, as `suggest` would choose them."""
    return {name: config.expert_weights[config.model] if name == "experts" else getattr(config, name) for name in names}


def tune(
    config: TrainConfig,
    *,
    trials: int = 30,
    folds: int = 5,
    fixed: Collection[str] = (),
    search: Sequence[str] = (),
    groups: Sequence[str | Path] = (),
    storage: str | None = None,
    out: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> TuneResult:
    """Search for settings with a lower log loss on tracks that a model was not trained on.

    Each trial trains a model for each fold of the train and dev tracks, and scores it on that fold. A trial that is
    worse so far than half of the others ends early. The first trial is `config` itself. Called again, or at once in
    several processes with one storage, it goes on with the same study until there are `trials` of them.

    Parameters
    ----------
    config : TrainConfig
        Where to begin, and all that is not searched. Its `data` holds train and dev; test is not read.
    trials : int
        How many, over all processes and calls.
    folds : int
        At least 2. Pictures of one track, equal pictures and pictures of one group are in one fold.
    fixed : collection of str
        Settings that are not searched.
    search : sequence of str
        Search these only; see `searched_settings`.
    groups : sequence of str or Path
        Files of groups, such as artists, besides those that the data folder was split by.
    storage : str, optional
        Database of the study, as Optuna takes it; by default ``tune.db`` in `out`.
    out : str or Path, optional
        Folder of the results; by default ``runs/tune-<recipe>``.
    progress : callable, optional
        Takes a line of text for the user, such as `print`. By default lines go to `logging`.

    Returns
    -------
    result : TuneResult

    Raises
    ------
    MelvisionError
        When Optuna is not installed, a setting is out of range, there are too few tracks, or the study is of other
        pictures or settings.
    """
    names = check_search(config, trials=trials, folds=folds, fixed=fixed, search=search)
    out, say = Path(out or f"runs/tune-{config.recipe}"), progress or logging.getLogger(__name__).info
    tables = merge_groups([split_groups(config.data), *(read_groups(path) for path in groups)])
    splits = train_splits(config.data)
    check_model(config)
    used = [splits["train"], splits["dev"]]
    pictures, spec = read_together(config, used, SpectrogramFolder(splits["train"]).classes)
    check_genres(pictures, config.data)
    for line in note_and_failure_lines(pictures.notes + small_genres(pictures, config.data), pictures.problems):
        say(line)
    kept: dict[str, Any] = {"groups": tables, "pieces": named_pieces(config.data)}
    cuts = make_folds(pictures, folds=folds, repeat=0, seed=config.seed, **kept)
    how = {"spec": spec, "hardware": pick_hardware(config), "groups": picture_groups(pictures, **kept)}
    settings = {name: value for name, value in asdict(config).items() if name not in _ELSEWHERE}
    about = {"config": settings, "search": names, "folds": folds, "pictures": fingerprint({"all": pictures})}
    with locked(out, "opening the search", wait=60):  # processes that begin at once would all make the tables
        study = _open_study(out, storage, about, starting_point(config, names))
    say(f"{len(set(pictures.tracks))} tracks of train and dev in {folds} folds; searching {', '.join(names)}")
    _run_trials(study, trials, config, names, _Folds(pictures, cuts, how, out, progress), say)
    report = _report(study, config, names)
    best = _with(config, {name: _readable(value) for name, value in report.best.params.items()})
    note = config.note or f"settings by vision.tune, {report.best_name}, chosen on train and dev: dev is optimistic"
    best = replace(best, note=note)
    with locked(out, "reporting", wait=60):
        content = {"config": {key: value for key, value in asdict(best).items() if key != "data"}}
        atomic.write_json(out / run_files.BEST, content | {"about": report.summary() | {"versions": versions()}})
        write_tuning(out, report, best_file=(out / run_files.BEST).as_posix(), data=config.data)
    return TuneResult(out, best, report, pictures.problems)


def check_search(
    config: TrainConfig, *, trials: int, folds: int, fixed: Collection[str] = (), search: Sequence[str] = ()
) -> list[str]:
    """Check what can be checked before pictures are split and read; arguments and errors as of `tune`.

    Returns
    -------
    names : list of str
        The settings that are searched.
    """
    try:
        import optuna
    except ImportError:
        raise MelvisionError('the search needs Optuna: pip install -e ".[tune]"') from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    check_folds(config, folds, repeats=1)
    if trials < 1:
        raise ParameterError("trials", trials, "at least 1")
    return searched_settings(config, fixed, search)


def _readable(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _open_study(out: Path, storage: str | None, about: dict[str, Any], start: dict[str, Any]) -> "optuna.Study":
    """Make the study, or open it where an earlier call or another process made it."""
    import optuna
    import sqlalchemy

    url = storage or sqlalchemy.URL.create("sqlite", database=str(out / "tune.db")).render_as_string()
    try:
        database = _open_database(url)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
        study = optuna.create_study(storage=database, pruner=pruner, study_name=out.name, load_if_exists=True)
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError, ImportError, ValueError) as error:
        reason = str(error).splitlines()[0]
        todo = "expected a database such as sqlite:///tune.db that can be written, made by this version of Optuna"
        raise MelvisionError(f"{url}: {reason}; {todo}") from None
    earlier = study.user_attrs.get("about")
    if earlier is None:
        study.set_user_attr("about", about)
    elif earlier != about:
        different = [name for name in about if earlier.get(name) != about[name]]
        if different == ["config"]:
            different = [name for name, value in about["config"].items() if earlier["config"].get(name) != value]
        raise MelvisionError(f"{out}: holds a search with other {', '.join(different)}; choose another folder (--out)")
    begun = (trial for trial in study.get_trials(deepcopy=False) if trial.state != optuna.trial.TrialState.FAIL)
    if not any(start in (trial.params, trial.system_attrs.get("fixed_params")) for trial in begun):
        study.enqueue_trial(start)
    return study


def _open_database(url: str) -> "optuna.storages.RDBStorage":
    """Open the database; once more where another machine was making its tables at that moment."""
    import optuna
    import sqlalchemy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        for _ in range(OPENINGS - 1):
            with contextlib.suppress(sqlalchemy.exc.DBAPIError):
                return optuna.storages.RDBStorage(url, heartbeat_interval=HEARTBEAT)
            time.sleep(1)
        return optuna.storages.RDBStorage(url, heartbeat_interval=HEARTBEAT)


@dataclass
class _Folds:
    """What every trial is scored on."""

    pictures: Pictures
    cuts: Sequence[tuple[list[int], list[int]]]
    how: dict[str, Any]
    out: Path
    progress: Callable[[str], None] | None

    def score(self, config: TrainConfig, trial: int, fold: int) -> FoldScores:
        """Train on all folds but one, and score that one."""
        folder = self.out / f"trial-{trial:04}" / f"fold-{fold + 1}"
        context = RunContext(folder, self.how["hardware"].device, progress=self.progress and no_lines)
        p = run_fold(config, self.pictures, self.cuts[fold], self.how, context)
        held_out = self.cuts[fold][1]
        tracks = [self.pictures.tracks[picture] for picture in held_out]
        y, p, _ = metrics.by_track(self.pictures.y[held_out].numpy(), p, tracks)
        if not np.isfinite(p).all():
            return FoldScores(math.nan, 0.0, len(y))
        return FoldScores(calibrated_loss(y, p), float((p.argmax(axis=1) == y).mean()), len(y))


def _run_trials(
    study: "optuna.Study",
    trials: int,
    config: TrainConfig,
    names: Sequence[str],
    folds: _Folds,
    say: Callable[[str], None],
) -> None:
    """Run trials until the study has as many as it should."""
    import optuna

    def objective(trial: optuna.Trial) -> float:
        start, loss = time.monotonic(), math.nan
        scores: list[FoldScores] = []
        chosen = suggest(trial, config, names)
        ended = False
        try:
            while len(scores) < len(folds.cuts) and not ended:
                scores.append(folds.score(chosen, trial.number, len(scores)))
                trial.set_user_attr("folds", [list(one) for one in scores])
                loss = float(np.mean([one.loss for one in scores]))
                ended = not math.isfinite(loss)
                if not ended:
                    trial.report(loss, len(scores) - 1)
                    ended = len(scores) < len(folds.cuts) and trial.should_prune()
        finally:
            shutil.rmtree(folds.out / f"trial-{trial.number:04}", ignore_errors=True)
        done = f"{_n_scored(study) + 1} of {trials}"
        say(_trial_line(trial.number, done, scores, len(folds.cuts), time.monotonic() - start))
        if ended:
            raise optuna.TrialPruned
        return loss

    while _n_scored(study) < trials:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Seeded anew for each trial, so that a search that was interrupted goes on as it would have.
            seed = config.seed * 100003 + len(study.get_trials(deepcopy=False))
            study.sampler = optuna.samplers.TPESampler(seed=seed % (1 << 32), constant_liar=True)
        try:
            study.optimize(objective, n_trials=1)
        except KeyboardInterrupt as stop:
            stop.args = ("run the same command again to go on",)
            raise


def _n_scored(study: "optuna.Study") -> int:
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _trial_line(number: int, done: str, scores: Sequence[FoldScores], folds: int, seconds: float) -> str:
    loss, accuracy = (np.mean([getattr(one, name) for one in scores]) for name in ("loss", "accuracy"))
    ended = f" (ended after {len(scores)} of {folds} folds)" if len(scores) < folds else ""
    return f"trial {number + 1} ({done}): loss {loss:.3f}, accuracy {accuracy:.3f}{ended}, {seconds:.0f} s"


def _report(study: "optuna.Study", config: TrainConfig, names: Sequence[str]) -> TuningReport:
    """Collect what the study has found."""
    import optuna
    from optuna.trial import TrialState

    rows = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        folds = [FoldScores(*one) for one in trial.user_attrs.get("folds", [])]
        rows.append(TrialRow(trial.number, dict(trial.params), folds, trial.state == TrialState.COMPLETE))
    complete = [row for row in rows if row.complete]
    if not complete:
        raise MelvisionError(
            f"{study.study_name}: no trial could be scored: losses were not finite; search other settings (--search)"
        )
    importance: dict[str, float] = {}
    if len(complete) >= LEAST_FOR_IMPORTANCE and len({row.loss for row in complete}) > 1:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        importance = dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    ranges = {name: TrainConfig.__dataclass_fields__[name].metadata["search"] for name in names}
    return TuningReport(config.recipe, starting_point(config, names), ranges, rows, importance)

"""A run as text and tables for a thesis or a paper: LaTeX, made from what the run recorded and nothing else."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from render import atomic
from render.errors import MelvisionError
from vision.data.validate import read_json
from vision.models import run_files
from vision.reports import metrics, plots
from vision.reports.runs import Run, read_run
from vision.reports.tables import SplitPredictions, genre_scores, read_split_predictions
from vision.splits.keys import picture_key
from vision.training.config import NETWORK, TrainConfig

#: Files in the folder of the results.
SCORES, GENRES, METHODS, REFERENCES = "scores.tex", "genres.tex", "methods.tex", "references.bib"

#: What the methods cite, by key.
SOURCES = {
    "wilson1927": "@article{wilson1927, author={Wilson, Edwin B.}, title={Probable Inference, the Law of Succession, "
    "and Statistical Inference}, journal={Journal of the American Statistical Association}, volume={22}, number={158}, "
    "pages={209--212}, year={1927}}",
    "guo2017": "@inproceedings{guo2017, author={Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.}, "
    "title={On Calibration of Modern Neural Networks}, booktitle={ICML}, year={2017}}",
    "loshchilov2019": "@inproceedings{loshchilov2019, author={Loshchilov, Ilya and Hutter, Frank}, title={Decoupled "
    "Weight Decay Regularization}, booktitle={ICLR}, year={2019}}",
    "smith2018": "@article{smith2018, author={Smith, Leslie N. and Topin, Nicholay}, title={Super-Convergence: Very "
    "Fast Training of Neural Networks Using Large Learning Rates}, journal={arXiv:1708.07120}, year={2018}}",
    "zhang2018": "@inproceedings{zhang2018, author={Zhang, Hongyi and Cisse, Moustapha and Dauphin, Yann N. and "
    "Lopez-Paz, David}, title={mixup: Beyond Empirical Risk Minimization}, booktitle={ICLR}, year={2018}}",
    "park2019": "@inproceedings{park2019, author={Park, Daniel S. and Chan, William and Zhang, Yu and Chiu, "
    "Chung-Cheng and Zoph, Barret and Cubuk, Ekin D. and Le, Quoc V.}, title={SpecAugment: A Simple Data "
    "Augmentation Method for Automatic Speech Recognition}, booktitle={Interspeech}, year={2019}}",
    "pons2019": "@inproceedings{pons2019, author={Pons, Jordi and Serra, Xavier}, title={musicnn: Pre-trained "
    "Convolutional Neural Networks for Music Audio Tagging}, booktitle={Late-breaking/demo of ISMIR}, year={2019}}",
    "hinton2015": "@article{hinton2015, author={Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff}, title={Distilling "
    "the Knowledge in a Neural Network}, journal={arXiv:1503.02531}, year={2015}}",
}


def escape(text: object) -> str:
    """Return text as LaTeX shows it: a genre or a path may hold any character."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in re.sub(r"[\x00-\x1f\x7f]", "?", str(text)))


def write_thesis(run: str | Path, out: str | Path) -> list[Path]:
    """Write LaTeX tables of the scores and the genres, a paragraph of methods, and what it cites.

    Parameters
    ----------
    run : str or Path
        A finished run of ``vision.train``, also of several seeds, or of ``vision.crossval``.
    out : str or Path
        Folder for ``scores.tex``, ``genres.tex``, ``methods.tex`` and ``references.bib``.

    Returns
    -------
    paths : list of Path
        The files.

    Raises
    ------
    MelvisionError
        When the run is not finished, or its files are damaged.
    """
    finished, out = read_run(run), Path(out)
    predictions, classes = _predictions(finished)
    methods = methods_text(finished)
    cited = [key for key in SOURCES if key in methods]
    texts = {
        SCORES: scores_table(finished),
        GENRES: genre_table(predictions, classes, finished),
        METHODS: methods,
        REFERENCES: "\n".join(SOURCES[key] for key in cited) + "\n",
    }
    for name, text in texts.items():
        atomic.write_text(out / name, text)
    return [out / name for name in texts]


def _predictions(run: Run) -> tuple[SplitPredictions, list[str]]:
    path = Path(run.name) / run_files.PREDICTIONS
    try:
        return read_split_predictions(path, run.split)
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        raise MelvisionError(f"{path}: missing or damaged; {run_files.TODO}") from None


def write_plots(run: str | Path, out: str | Path, kind: str) -> list[Path]:
    """Draw the plots of a finished run again, in another format.

    Parameters
    ----------
    run : str or Path
        As of `write_thesis`.
    out : str or Path
        Folder for them.
    kind : str
        One of `vision.command_line.PLOT_FORMATS`.

    Returns
    -------
    paths : list of Path
        The files.
    """
    finished, out = read_run(run), Path(out)
    predictions, classes = _predictions(finished)
    y, p, _ = predictions.by_track()
    paths = []

    def path(name: str) -> Path:
        paths.append((out / name).with_suffix(f".{kind}"))
        return paths[-1]

    plots.plot_confusion(path(run_files.CONFUSION_PLOT), metrics.confusion(y, p), classes, f"{finished.judged} tracks")
    if len(y) >= metrics.FEW_TRACKS:
        plots.plot_reliability(path(run_files.RELIABILITY_PLOT), metrics.reliability(y, p))
    if finished.kept_epoch and finished.histories:
        for name, quantity in ((run_files.ACCURACY_PLOT, "accuracy"), (run_files.LOSS_PLOT, "loss")):
            history = [{**row, "epoch": int(row["epoch"])} for row in finished.histories[0]]
            plots.plot_history(path(name), history, quantity, finished.kept_epoch)
    return paths


def _table(columns: str, head: list[str], rows: list[list[str]], caption: str, label: str) -> str:
    lines = ["% needs \\usepackage{booktabs}", r"\begin{table}", r"\centering", f"\\caption{{{caption}}}"]
    lines += [f"\\label{{tab:{label}}}", f"\\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(head) + r" \\", r"\midrule", *(" & ".join(row) + r" \\" for row in rows)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def scores_table(run: Run) -> str:
    """Return a LaTeX table of what the run is judged by.

    Parameters
    ----------
    run : Run
    """
    scores, (low, high) = run.scores, run.scores["interval"]
    rows = [
        ["Accuracy", f"{scores['accuracy']:.3f}", f"{low:.3f} to {high:.3f}"],
        ["Macro F1", f"{scores['macro_f1']:.3f}", "--"],
        ["Log loss", f"{scores['loss']:.3f}", "--"],
    ]
    if run.spread and run.spread["std"] is not None:
        low, high = run.spread["interval"]
        what = f"Accuracy, mean of {len(run.spread['values'])} {_parts(run)}"
        mean = f"{run.spread['mean']:.3f} $\\pm$ {run.spread['std']:.3f}"
        rows.insert(0, [what, mean, f"{low:.3f} to {high:.3f}"])
    caption = f"Scores on {scores['n']} {_scored(run)} tracks, with 95\\,\\% confidence intervals."
    return _table("lrr", ["", "Value", "95\\,\\% interval"], rows, caption, "scores")


def _parts(run: Run) -> str:
    return "seeds" if isinstance(run.settings.get("seed"), list) else "folds"


def _scored(run: Run) -> str:
    return "development" if run.judged.startswith("dev") else "test" if run.judged == "test" else "held-out"


def genre_table(predictions: SplitPredictions, classes: list[str], run: Run) -> str:
    """Return a LaTeX table of precision, recall and F1 of each genre.

    Parameters
    ----------
    predictions : SplitPredictions
        Of the tracks that the run is judged by.
    classes : list of str
        Genres.
    run : Run
    """
    y, p, _ = predictions.by_track()
    table = metrics.per_genre(y, p, classes)
    rows = [[escape(name), *genre_scores(table[name], 3), f"{table[name]['support']:.0f}"] for name in classes]
    rows.append(["Macro average", *genre_scores(table["macro avg"], 3), f"{table['macro avg']['support']:.0f}"])
    caption = f"Precision, recall and F1 of each genre on the {_scored(run)} tracks."
    return _table("lrrrr", ["Genre", "Precision", "Recall", "F1", "Tracks"], rows, caption, "genres")


def methods_text(run: Run) -> str:
    """Return a paragraph of methods in LaTeX: settings, data, how it was scored, and the software.

    Parameters
    ----------
    run : Run
    """
    known = {name: value for name, value in run.settings.items() if name in TrainConfig.__dataclass_fields__}
    try:
        config = TrainConfig.from_dict({name: value for name, value in known.items() if name != "seed"})
    except ValueError as error:
        raise MelvisionError(f"{run.name}: its settings are damaged ({error}); {run_files.TODO}") from None
    sentences = [_input_text(config), *_model_text(config), _scoring_text(run, config), _software_text(run)]
    text = " ".join(sentences)
    return f"% Made from the files of {escape(run.name)}. Check each sentence before you use it.\n{text}\n"


def _input_text(config: TrainConfig) -> str:
    size = f"{config.size}\\,$\\times$\\,{config.size} pixels"
    if not config.window:
        return f"Each track was given to the model as one Mel spectrogram of {size}."
    return (
        f"Mel spectrograms of the tracks were cut into windows of {config.window:g}\\,s, of {size} each: at random "
        "places in training, and evenly spaced in scoring, where the probabilities of a track's windows were averaged."
    )


def _model_text(config: TrainConfig) -> list[str]:
    experts, sentences = config.expert_weights, []
    if len(experts) > 1:
        named = ", ".join(f"{_expert(name)} ({weight:.2g})" for name, weight in experts.items())
        sentences.append(f"The answer is the weighted mean of the probabilities of several classifiers: {named}.")
    else:
        sentences.append(f"The classifier was {_expert(next(iter(experts)))}.")
    if config.model not in experts:
        return sentences
    optimiser = {"adamw": r"AdamW~\cite{loshchilov2019}", "adam": "Adam", "sgd": "SGD with Nesterov momentum 0.9"}
    schedule = {"onecycle": r"a one-cycle schedule~\cite{smith2018}", "cosine": "a cosine schedule"}
    how = f"highest learning rate {config.lr:g} under {schedule.get(config.schedule, 'a constant schedule')}"
    how += f", weight decay {config.weight_decay:g}, batches of {config.batch_size}, dropout {config.dropout:g}"
    how += f", label smoothing {config.label_smoothing:g}" if config.label_smoothing else ""
    text = f"The network was trained for {config.epochs} epochs with {optimiser[config.optimizer]} ({how})."
    start = f" It began with the weights {escape(config.weights)} of torchvision." if config.weights else ""
    sentences.append(text + start)
    if config.soft_labels:
        share = f"{100 * config.soft_labels:.0f}\\,\\%"
        sentences.append(f"Of its targets, {share} came from the texture classifiers, fitted without the track in "
                         r"question, after~\cite{hinton2015}.")  # fmt: skip
    changes = {
        "stretch": f"tempo ($\\pm${100 * config.stretch:.0f}\\,\\%)",
        "shift": f"vertical shifts (up to {100 * config.shift:g}\\,\\% of the height)",
        "random_eq": f"random equalisation ({config.random_eq:g}\\,dB)",
        "mixup": f"mixup ($\\alpha = {config.mixup:g}$)~\\cite{{zhang2018}}",
        "masks": f"{config.masks} time and frequency masks~\\cite{{park2019}}",
    }
    used = [text for name, text in changes.items() if getattr(config, name)]
    return [*sentences, f"Augmentation: {', '.join(used)}." if used else "No augmentation was used."]


def _expert(name: str) -> str:
    texture = "support vector machines on fixed statistics of the picture's texture"
    musicnn = r"a linear discriminant on the embedding of the pretrained network musicnn~\cite{pons2019}"
    known = {"texture": texture, "musicnn": musicnn, NETWORK: "the network"}
    return known.get(name, f"the network \\texttt{{{escape(name)}}}")


def _scoring_text(run: Run, config: TrainConfig) -> str:
    n, accuracy, (low, high) = run.scores["n"], run.scores["accuracy"], run.scores["interval"]
    result = f"{100 * accuracy:.1f}\\,\\% of {n} {_scored(run)} tracks were classified correctly (95\\,\\% Wilson "
    result += f"interval~\\cite{{wilson1927}} {100 * low:.1f} to {100 * high:.1f}\\,\\%)"
    if _parts(run) == "folds" and run.spread:
        how = f"In a cross-validation with {len(run.spread['values'])} folds, stratified by genre, with the pieces of "
        how += "a track and equal pictures in one fold, every model was trained for its whole schedule."
        return f"{how} Of all folds together, {result}."
    rows = run_files.read_split(run.name)
    tracks = {(row["split"], row["genre"], picture_key(row["genre"], row["file"])) for row in rows}
    counts = Counter(split for split, *_ in tracks)
    n_genres = len({row["genre"] for row in rows})
    learned = f"{counts['train']} tracks of {n_genres} genres were used for training"
    learned += f", {counts['dev']} for development" if "dev" in counts else ""
    learned += f" and {counts['test']} for testing" if "test" in counts else ""
    if _scored(run) == "development":
        kept = "Scores are those of the last epoch, since there was no test set"
    else:
        kept = "The epoch that was kept was chosen by the accuracy on the development tracks; its probabilities were "
        kept += r"calibrated on them with one temperature~\cite{guo2017}; the test tracks were scored once"
    spread = ""
    if run.spread and run.spread["std"] is not None:
        spread = f" Over {len(run.spread['values'])} seeds the accuracy was {run.spread['mean']:.3f} $\\pm$ "
        spread += f"{run.spread['std']:.3f}; the mean of the models' probabilities was scored last."
    return f"{learned}. {kept}.{spread} {result[0].upper()}{result[1:]}."


def _software_text(run: Run) -> str:
    versions = _versions(Path(run.name))
    named = {"melvision": "melvision", "torch": "PyTorch", "torchvision": "torchvision", "python": "Python"}
    used = ", ".join(f"{title} {escape(versions[name])}" for name, title in named.items() if name in versions)
    seed = run.settings.get("seed")
    seeds = ", ".join(map(str, seed)) if isinstance(seed, list) else str(seed)
    return f"Software: {used or 'melvision'}; seed {seeds}."


def _versions(run: Path) -> Mapping[str, Any]:
    name = run_files.SUMMARY if (run / run_files.SUMMARY).exists() else run_files.CONFIG
    content = read_json(run / name, dict[str, Any], run_files.TODO)
    versions = content.get("versions") or (content.get("about") or {}).get("versions")
    return versions if isinstance(versions, dict) else {}

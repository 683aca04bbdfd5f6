"""Command line: ``python -m vision.predict runs/x FILES_OR_FOLDERS...``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from render.cli import command, print_notes_and_failures, progress
from render.errors import AudioError, MelvisionError, ParameterError
from vision.command_line import add_device_flag, add_plots_flag

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m vision.predict",
        description="Predict the genre of spectrogram pictures and audio files. Audio is drawn the way the model's "
        "train pictures were; a track much longer than those is predicted in pieces and averaged.",
        epilog="example: python -m vision.predict runs/standard-001 song.mp3 images_original/blues --csv genres.csv",
    )
    parser.add_argument("run", nargs="?", help="run folder of vision.train, a folder of seeds, or an exported .onnx "
                        "file")  # fmt: skip
    parser.add_argument("paths", nargs="*", metavar="FILE_OR_FOLDER", help="pictures and audio, any mixture; patterns "
                        "that the shell leaves as they are ('songs/**/*.mp3') are expanded")  # fmt: skip
    group = parser.add_argument_group("output")
    group.add_argument("--csv", metavar="FILE", help="also write all probabilities, one row a file; after a stop the "
                       "same command goes on")  # fmt: skip
    group.add_argument("--json", action="store_true", help="print all probabilities as JSON instead of the table")
    group.add_argument("--pieces", action="store_true", help="song_0 and song_1 are pieces of one track, which gets "
                       "a line of its own, as pieces cut by --segment do")  # fmt: skip
    group.add_argument("--similar", type=int, metavar="N", help="also name the N tracks that the model was trained on "
                       "and that are most like each file")  # fmt: skip
    group = parser.add_argument_group("genre over time")
    group.add_argument("--timeline", action="store_true", help="also print which part of each file is which genre")
    group.add_argument("--plots", metavar="FOLDER", help="where --timeline writes a plot and a CSV table of each file "
                       "(default: timelines)")  # fmt: skip
    add_plots_flag(group, "format of --timeline's plots (default: png)")
    group = parser.add_argument_group("folders and streams")
    group.add_argument("--watch", metavar="FOLDER", help="predict each file that is in this folder or is put into it, "
                       "once, until Ctrl-C; recorded in --csv (default: predictions.csv in the folder)")  # fmt: skip
    group.add_argument("--stdin", action="store_true", help="predict standard input every second: WAV, or raw samples")
    group.add_argument("--rate", type=int, metavar="HZ", help="sampling rate of raw samples on --stdin (16-bit "
                       "little-endian mono)")  # fmt: skip
    group = parser.add_argument_group("reading pictures")
    group.add_argument("--learn-margins", action="store_true", help="learn the margins of picture sizes new to the "
                       "model from these files (default: cut each by its own edges)")  # fmt: skip
    group = parser.add_argument_group("large libraries")
    group.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="processes, each with the model; -1 is "
                       "one a core; a file that crashes or hangs one fails alone (default: this one)")  # fmt: skip
    group.add_argument("--shard", metavar="I/N", help="predict only the I-th of N parts of the files; each part with a "
                       "--csv of its own")  # fmt: skip
    group.add_argument("--scheduler", metavar="ADDRESS", help="predict on a Dask cluster, tcp://host:port, whose "
                       "workers see the run and the files under the same paths")  # fmt: skip
    add_device_flag(parser.add_argument_group("hardware"))
    return parser


def _check(args):
    if args.run is None or not _may_be_run(args):
        from vision.models.run_files import runs_here

        problem = "no run is named" if args.run is None else f"{args.run}: is no run"
        raise MelvisionError(f"{problem}; expected python -m vision.predict RUN FILES; {runs_here()}")
    sources = {"files": args.paths, "--watch": args.watch, "--stdin": args.stdin}
    given = [name for name, value in sources.items() if value]
    if len(given) != 1:
        problem = " and ".join(given) or "nothing to predict"
        raise MelvisionError(f"{problem}; expected files and folders, or --watch FOLDER, or --stdin")
    plain = "files without --timeline and --learn-margins"
    is_plain = args.paths and not args.timeline and not args.learn_margins
    for flag, is_given, needed, is_fitting in (
        ("--rate", args.rate is not None, "--stdin", args.stdin),
        ("--csv", args.csv, "files or --watch", not args.stdin),
        ("--timeline", args.timeline, "files", args.paths),
        ("--plots", args.plots, "--timeline", args.timeline),
        ("--plots-as", args.plots_as, "--timeline", args.timeline),
        ("--pieces", args.pieces, "files", args.paths),
        ("--similar", args.similar is not None, "files without --timeline", args.paths and not args.timeline),
        ("--jobs", args.jobs != 1, plain, is_plain),
        ("--shard", args.shard, plain, is_plain),
        ("--scheduler", args.scheduler, plain, is_plain),
    ):
        if is_given and not is_fitting:
            raise MelvisionError(f"{flag}: goes with {needed} only")
    if args.similar is not None and not 1 <= args.similar <= 1000:
        raise ParameterError("similar", args.similar, "from 1 to 1000 tracks")
    if args.rate is not None and not 1000 <= args.rate <= 768000:
        raise ParameterError("rate", args.rate, "1000 to 768000 Hz")


def _may_be_run(args):
    """Whether the first argument may be meant as a run: a song or a folder of songs in its place was meant as such."""
    from render.formats import AUDIO_ENDINGS, PICTURE_ENDINGS
    from vision.models import run_files

    first = Path(args.run)
    if args.paths or args.watch or args.stdin:
        return first.suffix.lower() not in (*AUDIO_ENDINGS, *PICTURE_ENDINGS) or first.is_dir()
    is_model = first.suffix in (".pt", ".onnx")
    return is_model or any((first / name).exists() for name in (run_files.MODEL, run_files.SEEDS))


def _predict_files(args):
    from render import workers
    from render.passed_over import PassedOver
    from vision.data.folders import find_files
    from vision.inference import output
    from vision.inference.predictor import Predictor

    workers.check_jobs(args.jobs)
    predictor = Predictor(args.run, args.device)
    passed = PassedOver()
    files = find_files(args.paths, passed)
    print_notes_and_failures(passed.notes(" ".join(args.paths)), passed.failures())
    if args.shard:
        n_files, files = len(files), list(workers.shard(files, args.shard))
        if not files:
            print_notes_and_failures([f"--shard {args.shard}: this part of {n_files} files is empty"])
    if args.learn_margins:
        predictor.learn_margins(files)
    similar = None
    if args.similar:
        from vision.inference.embeddings import SimilarTracks

        similar = SimilarTracks(predictor, args.run, args.similar)
    table, known = None, {}
    if args.csv:
        from vision.inference.many_files import UnfinishedTable

        how = "timeline" if args.timeline else "\n".join(map(str, files)) if args.learn_margins else ""
        table = UnfinishedTable(args.csv, args.run, predictor.classes, how)
        if not (args.json or args.timeline or similar):  # they need more of a file than the table tells
            known = {file: before for file in files if (before := table.prediction(file))}
    if known:
        print_notes_and_failures([f"{args.csv}: {len(known)} of {len(files)} files were predicted before a stop; "
                                  "the others follow"])  # fmt: skip
    new = [file for file in files if file not in known]
    width = max((len(str(file)) for file in new if len(str(file)) <= 80), default=0)
    kept, has_failed = [(before, []) for before in known.values()], False
    results = _results(args, predictor, new, similar)
    if args.json or not sys.stdout.isatty():  # else the lines show how far it is
        results = progress(results, total=len(new), desc="predict", unit="file")
    for prediction, segments in results:
        if table:
            table.add(prediction)
        print_notes_and_failures(*output.notes_and_failures(prediction))
        has_failed |= bool(prediction.error)
        if not args.json and (prediction.silent or not prediction.error):
            print(output.prediction_line(prediction, segments, width=width))
            print("".join(f"{line}\n" for line in output.segment_lines(segments, predictor.classes)), end="")
            if similar and not prediction.error:
                print("".join(f"    {line}\n" for line in similar.lines(prediction)), end="")
        kept.append((prediction, segments))
    place = {file: number for number, file in enumerate(files)}
    kept.sort(key=lambda result: place[result[0].path])  # several processes answer in any order
    tracks = output.tracks_of_pieces([prediction for prediction, _ in kept], pieces=args.pieces)
    if args.json:
        track_of = {id(piece): track for track in tracks.items() for piece in track[1]}
        dicts = [output.prediction_dict(*result, track_of.get(id(result[0]))) for result in kept]
        for one, (prediction, _) in zip(dicts, kept, strict=True):
            if similar and not prediction.error:
                one["similar"] = [{"file": file, "similarity": round(p, 4)} for file, p in similar.of(prediction)]
        print(json.dumps(dicts, indent=1))
    else:
        print("".join(f"{line}\n" for line in output.track_lines(tracks, predictor.classes)), end="")
    if table:
        table.finish(files)
    return 1 if passed.unreadable or has_failed else 0


def _results(args, predictor, files, similar):
    """Yield (prediction, segments) of each file as it is done."""
    expert = similar.expert if similar else None
    if args.timeline:
        from vision.reports.timelines import write_timelines

        yield from write_timelines(predictor, files, args.plots or "timelines", args.plots_as or "png")
    elif args.jobs != 1 or args.scheduler:
        from vision.inference.many_files import predict_parallel

        how = {"jobs": args.jobs, "scheduler": args.scheduler, "embed": expert}
        yield from ((prediction, []) for prediction in predict_parallel(predictor, args.run, files, **how))
    else:
        yield from ((prediction, []) for prediction in predictor.predict_each(files, embed=expert))


def _watch(args):
    from vision.inference import output, watch
    from vision.inference.predictor import Predictor

    folder = Path(args.watch)
    predictor = Predictor(args.run, args.device)
    watch.list_files(folder)  # refuses a missing folder before a table is made
    path = args.csv or folder / "predictions.csv"
    table = watch.PredictionTable(path, folder, predictor.classes)
    print(f"watching {folder}; predictions are written to {path}; Ctrl-C ends", file=sys.stderr, flush=True)
    unreadable = {"on_problem": lambda line: print_notes_and_failures(failures=[line])}
    for prediction in watch.watch(predictor, folder, table, **unreadable):
        print_notes_and_failures(*output.notes_and_failures(prediction))
        if args.json:
            print(json.dumps(output.prediction_dict(prediction)), flush=True)
        elif prediction.silent or not prediction.error:
            print(output.prediction_line(prediction), flush=True)


def _predict_stream(args):
    from vision.inference.output import stream_line
    from vision.inference.predictor import Predictor
    from vision.inference.stream import SampleStream, predict_stream

    predictor = Predictor(args.run, args.device)
    stream = SampleStream(sys.stdin.buffer, args.rate, name="standard input")
    is_empty = True
    try:
        for seconds, p, unlike in predict_stream(predictor, stream, stream.sr):
            is_empty = False
            print(stream_line(seconds, p, predictor.classes, unlike=unlike, as_json=args.json), flush=True)
    except AudioError as error:
        raise MelvisionError(f"standard input: {error}") from None
    print_notes_and_failures([f"standard input {stream.note}"] if stream.note else [])
    if is_empty:
        settings = predictor.preprocessor.settings
        seconds = settings.n_fft / settings.sr
        raise MelvisionError(f"standard input: too short; expected {seconds:.3f} s or more")
    return 0


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 when a file could not be used."""
    args = get_parser().parse_intermixed_args(argv)
    _check(args)
    from vision.inference.device import keep_freed_memory

    keep_freed_memory()
    if args.watch:
        return _watch(args)
    return _predict_stream(args) if args.stdin else _predict_files(args)


if __name__ == "__main__":
    sys.exit(main())

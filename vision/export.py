"""Command line: ``python -m vision.export runs/x -o model.onnx``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from render.cli import command, plural
from render.errors import MelvisionError


def get_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m vision.export",
        description="Write a trained model as one ONNX file, with class names and the preparation of pictures in its "
        "metadata: for vision.predict and vision.evaluate, and for any program with an ONNX runtime. The file is "
        "written only if its probabilities are those of the model.",
        epilog="example: python -m vision.export runs/standard-001 -o model.onnx",
    )
    parser.add_argument("run", help="run folder of vision.train, its model.pt, or a folder of seeds: their mean")
    parser.add_argument("-o", "--out", metavar="FILE", help="(default: model.onnx in the run folder)")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0."""
    args = get_parser().parse_args(argv)
    run = Path(args.run)
    out = Path(args.out or (run if run.is_dir() else run.parent) / "model.onnx")
    from vision.inference import onnx
    from vision.inference.predictor import Predictor

    if not onnx.is_exported(out) or out.is_dir():
        raise MelvisionError(f"-o {out}: expected a file that ends in {onnx.ENDING}")
    if onnx.is_exported(run):
        raise MelvisionError(f"{run}: is exported already; expected a run folder or its model.pt")
    predictor = Predictor(run, "cpu")
    difference = onnx.save(out, predictor.models, predictor.model_spec)
    n, n_classes = len(predictor.models), len(predictor.classes)
    print(f"{run}: {plural(n, 'model')}, {n_classes} genres -> {out}, {out.stat().st_size / 2**20:.1f} MiB")
    print(f"on test input, the probabilities of ONNX Runtime and PyTorch differ by at most {difference:.1g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

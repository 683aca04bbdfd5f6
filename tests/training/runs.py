"""Runs of small networks on small pictures, and how two of them compare."""

import csv
import json

import torch

from vision.models import checkpoint

QUICK = ["--size", "32", "--batch-size", "8", "--threads", "1", "--device", "cpu", "--precision", "fp32"]
QUICK += ["--no-texture"]


def write_text_only(out, result):
    """Stand in for `write_run`: its plots take longer than training such a network."""
    (out / "evaluation_report.txt").write_text("")


def flags(data, out, epochs=4, *more):
    return ["--data", str(data), "--out", str(out), "--epochs", str(epochs), *QUICK, *more]


def history_of(folder):
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def same_runs(one, other):
    """Whether two run folders hold the same, to the last bit of the weights; seconds aside."""
    a, b = (checkpoint.read(folder / "model.pt")["weights"] for folder in (one, other))
    weights = a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    rows = [[{**row, "seconds": 0} for row in history_of(folder)] for folder in (one, other)]
    scores = [json.loads((folder / "metrics.json").read_text()) for folder in (one, other)]
    return weights and rows[0] == rows[1] and scores[0] == scores[1]


def interrupt(monkeypatch, owner, name, after):
    """Make a function end in Ctrl-C when it has been called so many times, before it does anything."""
    real, calls = getattr(owner, name), []

    def stop(*args, **how):
        calls.append(name)
        if len(calls) > after:
            raise KeyboardInterrupt
        return real(*args, **how)

    monkeypatch.setattr(owner, name, stop)


def weights(path):
    return checkpoint.load_model(path)[0].state_dict()


def same_weights(one, other):
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

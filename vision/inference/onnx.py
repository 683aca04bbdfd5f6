"""Models as ONNX files: pixels to probabilities, with metadata that says how pictures are to be prepared.

The file is one graph for any ONNX runtime: ``pixels``, uint8 (batch, channels, size, size), to ``probabilities``,
float32 (batch, classes), and ``distance``, float32 (batch), from the train windows, where the models know it (see
`vision.models.texture_space`). Normalisation, the texture SVM and the mean over several models are part of it. What
comes before (cutting margins, colours to levels, windows) is described in the metadata, see `metadata_of`, and done by
`vision.data.preprocess.Preprocessor`.
"""

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from render import __version__, atomic
from render.errors import MelvisionError
from vision.data.pixel_store import EVAL_BATCH, PixelStore
from vision.models.spec import ModelSpec

if TYPE_CHECKING:
    import onnxruntime

ENDING = ".onnx"

FORMAT = 4
OLD_FORMATS = (1, 2, 3)

#: The oldest operator set that has all we need; ONNX Runtime reads it since 1.14.
OPSET = 18

#: Largest accepted difference between the probabilities of ONNX Runtime and PyTorch.
TOLERANCE = 1e-4

#: Bytes of weights that fit into a protocol buffer, which is limited to 2 GiB.
MAX_BYTES = 2_000_000_000

#: What the graph computes; files of earlier formats have the first only.
OUTPUTS = ("probabilities", "distance")

#: Precision of the exported graph.
PRECISION = "fp32"


def is_exported(path: str | Path) -> bool:
    """Return whether a path is named like an exported file and is no folder of that name."""
    return str(path).lower().endswith(ENDING) and not Path(path).is_dir()


def _runtime():
    """Import the modules onnx and onnxruntime, which are an extra."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise MelvisionError(f'an ONNX file needs {error.name}; install it: pip install -e ".[export]"') from None
    return onnx, onnxruntime


def metadata_of(spec: ModelSpec, n_models: int) -> dict[str, str]:
    """Return the metadata of an exported file.

    Parameters
    ----------
    spec : ModelSpec
        Of the models.
    n_models : int
        Number of models whose mean is exported.

    Returns
    -------
    metadata : dict of str to str
        ``melvision``, its version; ``classes``, a JSON list in the order of the probabilities; ``spec``, the
        `ModelSpec` as JSON; ``models``, their number; ``precision``; ``format``.
    """
    return {
        "melvision": __version__,
        "format": str(FORMAT),
        "precision": PRECISION,
        "models": str(n_models),
        "classes": json.dumps(spec.classes),
        "spec": json.dumps(spec.to_dict()),
    }


class _MeanOfModels(torch.nn.Module):
    """Stored pixels, uint8 (B, C, H, W), to the mean probabilities of the models, and their mean distance."""

    def __init__(self, models):
        super().__init__()
        self.models = torch.nn.ModuleList(models)
        self.outputs = OUTPUTS if all(model.space is not None for model in models) else OUTPUTS[:1]

    def forward(self, pixels):
        x = pixels.float() / 255
        if len(self.outputs) == 1:
            return _mean([model(x).float().softmax(dim=1) for model in self.models])
        logits, _, distances = zip(*(model.answer(x) for model in self.models), strict=True)
        return _mean([of_model.float().softmax(dim=1) for of_model in logits]), _mean(distances)


def _mean(values):
    return values[0] if len(values) == 1 else torch.stack(list(values)).mean(dim=0)


def save(path: str | Path, models: Sequence[torch.nn.Module], spec: ModelSpec) -> float:
    """Export models to one file, which is written only if its probabilities are those of the models.

    Parameters
    ----------
    path : str or Path
        Ends in ``.onnx``; replaced whole or not at all.
    models : list of nn.Module
        On the CPU; of the same classes.
    spec : ModelSpec
        Of the models.

    Returns
    -------
    difference : float
        The largest between any two probabilities of `trial_pictures`, at most `TOLERANCE`.

    Raises
    ------
    MelvisionError
        When a model cannot be exported, is too large, or the exported probabilities differ.
    """
    onnx, _ = _runtime()
    mean_of_models = _MeanOfModels(models).eval()
    if 4 * sum(weights.numel() for weights in mean_of_models.state_dict().values()) > MAX_BYTES:
        raise MelvisionError(f"{path}: {len(models)} models are too large for one ONNX file; export fewer")
    pixels = torch.zeros_like(torch.from_numpy(trial_pictures(spec)[:2]))
    try:
        # The warnings of the exporter are for developers of models.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                mean_of_models, (pixels,), dynamo=True, opset_version=OPSET, external_data=False, verbose=False,
                input_names=["pixels"], output_names=list(mean_of_models.outputs),
                dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
            )  # fmt: skip
    except (torch.onnx.OnnxExporterError, ImportError) as error:
        raise MelvisionError(
            f"{path}: PyTorch cannot export this model ({str(error).strip().splitlines()[0]})"
        ) from None
    assert program is not None  # it is only without `dynamo`
    model = program.model_proto
    # The exporter adds the source file and line of each operator, with the paths of this machine.
    for message in messages(model):
        if "metadata_props" in message.DESCRIPTOR.fields_by_name:
            message.ClearField("metadata_props")
        if "doc_string" in message.DESCRIPTOR.fields_by_name:
            message.ClearField("doc_string")
    model.producer_name, model.producer_version = "melvision", __version__
    onnx.helper.set_model_props(model, metadata_of(spec, len(models)))
    content = model.SerializeToString()
    difference = _difference(_open(content, path), mean_of_models, trial_pictures(spec))
    if not difference <= TOLERANCE:
        raise MelvisionError(
            f"{path}: not written, because ONNX Runtime's probabilities differ from PyTorch's by {difference:.1g}; "
            f"expected {TOLERANCE:g} at most"
        )
    with atomic.replacing(path) as file:
        file.write(content)
    return difference


def trial_pictures(spec: ModelSpec) -> np.ndarray:
    """Return pictures to compare networks on: noise, ripples and silence, the same each time.

    Parameters
    ----------
    spec : ModelSpec
        Of the models.

    Returns
    -------
    x : np.ndarray, shape (EVAL_BATCH + 1, channels, size, size), uint8
    """
    n, size, channels = EVAL_BATCH + 1, spec.input.size, spec.input.channels
    assert channels is not None  # only before training
    rng = np.random.default_rng(0)
    middle, width, slope, rate = (rng.uniform(low, high, (n, 1, 1, 1)) for low, high in
                                  ((0, 255), (0, 80), (-1, 1), (0, 0.5)))  # fmt: skip
    rows, columns = np.mgrid[:size, :size]
    x = middle + width * rng.standard_normal((n, channels, size, size))
    x = x + slope * 128 * (rows / size - 0.5) + 40 * np.cos(2 * math.pi * rate * (columns + slope * rows))
    x = x.clip(0, 255).astype(np.uint8)
    x[0], x[1] = 0, 255
    return x


@torch.inference_mode()
def _difference(network, mean_of_models, x):
    differences = []
    for part in (x[:1], x[:2], x):  # batches of one are a case of their own
        expected = mean_of_models(torch.from_numpy(part))
        p, *distance = network.run(part)
        right, *right_distance = expected if isinstance(expected, tuple) else (expected,)
        differences.append(np.abs(p - right.numpy().astype(np.float64)).max())
        for found, wanted in zip(distance, right_distance, strict=True):
            # Roots of differences of large numbers: a tenth of the digits.
            differences.append((np.abs(found - wanted.numpy()) / np.maximum(1, wanted.numpy())).max() / 10)
    return float(np.max(differences))  # NaN stays NaN


class OnnxModel:
    """An exported file that was loaded.

    Attributes
    ----------
    spec : ModelSpec
        Of the models in it.
    n_models : int
        Number of models whose mean probabilities it computes.
    """

    def __init__(self, session: "onnxruntime.InferenceSession", spec: ModelSpec, n_models: int, path: str | Path):
        self._session, self.spec, self.n_models, self._path = session, spec, n_models, path
        self.has_distance = len(session.get_outputs()) > 1

    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Compute the outputs for windows: their probabilities, and their distances where it has them.

        Parameters
        ----------
        pixels : np.ndarray, shape (n, channels, size, size), uint8
            Levels or colours.

        Returns
        -------
        outputs : list of np.ndarray, float32
            Shape (n, n_classes), and (n,).

        Raises
        ------
        MelvisionError
            When ONNX Runtime cannot compute them.
        """
        try:
            outputs = self._session.run(list(OUTPUTS[: 1 + self.has_distance]), {"pixels": pixels})
        except Exception as error:  # ONNX Runtime raises many kinds, depending on what is wrong with the file
            raise MelvisionError(f"{self._path}: ONNX Runtime cannot compute it ({_first_line(error)})") from None
        if outputs[0].shape != (len(pixels), len(self.spec.classes)) or outputs[-1].shape[:1] != (len(pixels),):
            raise MelvisionError(
                f"{self._path}: gives shape {outputs[0].shape}; expected a row of genres for each picture"
            )
        return outputs

    def predict_windows(
        self, x: PixelStore, windows: Sequence[tuple[int, int]], *, distances: bool = False
    ) -> Iterator[tuple[Sequence[tuple[int, int]], torch.Tensor]]:
        """Yield batches of windows and their probabilities; see `vision.inference.windows.predict_windows`."""
        for first in range(0, len(windows), EVAL_BATCH):
            part = windows[first : first + EVAL_BATCH]
            p, *columns = self.run(x.cut(*zip(*part, strict=True)).numpy())
            yield part, torch.from_numpy(np.column_stack([p, *columns]) if distances else p)


def load(path: str | Path, threads: int | None = None) -> OnnxModel:
    """Load an exported file; nothing in it is executed that is no ONNX operator.

    Parameters
    ----------
    path : str or Path
        As `save` wrote it.
    threads : int, optional
        CPU threads; by default as many as torch uses.

    Returns
    -------
    model : OnnxModel

    Raises
    ------
    MelvisionError
        When it is missing, damaged, stores weights in other files, or was not exported by melvision.
    """
    _runtime()  # before the file is read: it may be large
    path = Path(path)
    if not path.is_file():
        raise MelvisionError(f"{path}: there is no such file; make one: python -m vision.export RUN -o {path.name}")
    if path.stat().st_size > 1 << 31:
        raise MelvisionError(f"{path}: is larger than 2 GiB, the limit of an ONNX file that holds its weights")
    return _open(path.read_bytes(), path, threads)


def _open(content, path, threads=None):
    """Make an `OnnxModel` of the bytes of a file."""
    spec, n_models = _read_metadata(_parse(content, path), path)
    session = _create_session(content, path, threads)
    inputs = [(value.name, value.type, value.shape[1:]) for value in session.get_inputs()]
    outputs = [(value.name, value.type) for value in session.get_outputs()]
    expected = [(name, "tensor(float)") for name in OUTPUTS]
    shape = [spec.input.channels, spec.input.size, spec.input.size]
    if inputs != [("pixels", "tensor(uint8)", shape)] or outputs not in (expected, expected[:1]):
        raise MelvisionError(f"{path}: its graph does not fit its spec; export again")
    model = OnnxModel(session, spec, n_models, path)
    noise = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)
    if not all(np.isfinite(output).all() for output in model.run(noise)):
        raise MelvisionError(f"{path}: its answers are no numbers; export again")
    return model


def _parse(content, path):
    """Return the ModelProto of a file that holds its own weights and ONNX operators only."""
    onnx, _ = _runtime()
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError:
        model = onnx.ModelProto()
    if not model.graph.node:
        raise MelvisionError(f"{path}: is no ONNX file or damaged; make one: python -m vision.export RUN")
    for message in messages(model):
        if getattr(message, "external_data", None) or getattr(message, "data_location", 0):
            # Such a file names other files to read, which may be any on this machine.
            raise MelvisionError(f"{path}: stores weights in another file, which is not read; expected all in one file")
        if isinstance(message, onnx.NodeProto) and message.domain not in ("", "ai.onnx"):
            raise MelvisionError(f"{path}: uses operators of {message.domain!r}; expected those of ONNX itself")
    return model


def _read_metadata(model, path):
    """Return the ModelSpec and the number of models."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if not {"melvision", "format", "models"} <= metadata.keys() or not {"spec", "recipe"} & metadata.keys():
        raise MelvisionError(f"{path}: was not exported by melvision; make one: python -m vision.export RUN")
    if metadata["format"] not in map(str, (FORMAT, *OLD_FORMATS)):
        raise MelvisionError(f"{path}: was exported by another version of melvision; export again, or use that version")
    try:
        text = metadata["recipe"] if metadata["format"] == "1" else metadata["spec"]
        return ModelSpec.from_dict(json.loads(text)), int(metadata["models"])
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise MelvisionError(f"{path}: its spec is damaged ({_first_line(error)}); export again") from None


def _create_session(content, path, threads):
    _, runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised below, so they need not be logged too
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises many kinds, depending on what is wrong with the file
        raise MelvisionError(f"{path}: ONNX Runtime cannot use it ({_first_line(error)})") from None


def messages(message: Any) -> Iterator[Any]:
    """Yield a protocol buffer message and all messages nested in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from messages(inner)


def _first_line(error):
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

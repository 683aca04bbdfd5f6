"""Models as ONNX files: pixels in, probabilities out, and in the metadata how pictures are to be prepared.

The file is one graph for whoever has an ONNX runtime: ``pixels``, uint8 (batch, channels, size, size),
to ``probabilities``, float32 (batch, classes). Normalisation, texture statistics and the mean over several
models are inside. What comes before, cutting margins, colours to levels and windows, is told by the
metadata (`describe`), and done by `vision.predictor`.
"""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import torch

from render import __version__, atomic
from render.errors import MelvisionError
from vision.data.pixel_store import EVAL_BATCH
from vision.models.spec import ModelSpec

ENDING = ".onnx"

FORMAT = 2
OLD_FORMATS = (1,)

#: The oldest operators that have all we need: ONNX Runtime reads them since 1.14.
OPSET = 18

#: Probabilities of ONNX Runtime and PyTorch may differ by so much.
TOLERANCE = 1e-4

#: Bytes of weights that fit into a protocol buffer, which ends at 2 GiB.
LARGEST = 2_000_000_000

#: What PyTorch computes in while it is exported, and the file for good.
PRECISION = "fp32"


def is_exported(path):
    """Tell whether a path is named as an exported file, and is no folder of a run that is named so."""
    return str(path).lower().endswith(ENDING) and not Path(path).is_dir()


def _runtime():
    """The modules onnx and onnxruntime, which are an extra."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise MelvisionError(f'an ONNX file needs {error.name}; install it: pip install -e ".[export]"') from None
    return onnx, onnxruntime


def describe(spec, n_models):
    """What the metadata of a file holds: text by key.

    Parameters
    ----------
    spec : ModelSpec
        Of the models.
    n_models : int
        Whose mean is exported.

    Returns
    -------
    metadata : dict of str to str
        ``melvision``, its version; ``classes``, a JSON list in the order of the probabilities;
        ``spec``, JSON of all that `ModelSpec` holds; ``models``, their number; ``precision``; ``format``.
    """
    metadata = {"melvision": __version__, "format": FORMAT, "precision": PRECISION, "models": n_models}
    metadata = {name: str(value) for name, value in metadata.items()}
    return metadata | {"classes": json.dumps(spec.classes), "spec": json.dumps(spec.to_dict())}


class _Together(torch.nn.Module):
    """Pixels as they are stored, uint8 (B, C, H, W), to the models' mean probabilities."""

    def __init__(self, models):
        super().__init__()
        self.models = torch.nn.ModuleList(models)

    def forward(self, pixels):
        x = pixels.float() / 255
        answers = [model(x).float().softmax(dim=1) for model in self.models]
        return answers[0] if len(answers) == 1 else torch.stack(answers).mean(dim=0)


def save(path, models, spec):
    """Export models to one file, which is written only if it answers as they do.

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
        When a model cannot be exported, is too large, or does not answer as before.
    """
    onnx, _ = _runtime()
    together = _Together(models).eval()
    if 4 * sum(weights.numel() for weights in together.state_dict().values()) > LARGEST:
        raise MelvisionError(f"{path}: {len(models)} models are too large for one ONNX file; export fewer")
    pixels = torch.zeros(2, spec.input.channels, spec.input.size, spec.input.size, dtype=torch.uint8)
    try:
        # What the exporter has to say is for those who write models.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                together, (pixels,), dynamo=True, opset_version=OPSET, external_data=False, verbose=False,
                input_names=["pixels"], output_names=["probabilities"],
                dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
            )  # fmt: skip
    except (torch.onnx.OnnxExporterError, ImportError) as error:
        raise MelvisionError(
            f"{path}: PyTorch cannot export this model ({str(error).strip().splitlines()[0]})"
        ) from None
    model = program.model_proto
    # The exporter notes where in whose folder each line of the network stands.
    for message in messages(model):
        if "metadata_props" in message.DESCRIPTOR.fields_by_name:
            message.ClearField("metadata_props")
        if "doc_string" in message.DESCRIPTOR.fields_by_name:
            message.ClearField("doc_string")
    model.producer_name, model.producer_version = "melvision", __version__
    onnx.helper.set_model_props(model, describe(spec, len(models)))
    content = model.SerializeToString()
    difference = _difference(_open(content, path), together, trial_pictures(spec))
    if not difference <= TOLERANCE:
        raise MelvisionError(
            f"{path}: not written, because ONNX Runtime's probabilities differ from PyTorch's by {difference:.1g}; "
            f"expected {TOLERANCE:g} at most"
        )
    with atomic.replacing(path) as file:
        file.write(content)
    return difference


def trial_pictures(spec):
    """Pictures that try a network: noise of all kinds, ripples, silence; (n, channels, size, size), uint8.

    There is one more than a batch of `engine.EVAL_BATCH`, and the same ones each time.
    """
    n, size = EVAL_BATCH + 1, spec.input.size
    rng = np.random.default_rng(0)
    middle, width, slope, rate = (rng.uniform(low, high, (n, 1, 1, 1)) for low, high in
                                  ((0, 255), (0, 80), (-1, 1), (0, 0.5)))  # fmt: skip
    rows, columns = np.mgrid[:size, :size]
    x = middle + width * rng.standard_normal((n, spec.input.channels, size, size))
    x = x + slope * 128 * (rows / size - 0.5) + 40 * np.cos(2 * math.pi * rate * (columns + slope * rows))
    x = x.clip(0, 255).astype(np.uint8)
    x[0], x[1] = 0, 255
    return x


@torch.inference_mode()
def _difference(network, together, x):
    found = []
    for part in (x[:1], x[:2], x):  # batches of one are a case of their own
        expected = together(torch.from_numpy(part)).numpy()
        found.append(np.abs(network(part).astype(np.float64) - expected).max())
    return float(np.max(found))  # NaN stays NaN


class OnnxModel:
    """An exported file, ready to answer.

    Attributes
    ----------
    spec : ModelSpec
        Of the models in it.
    n_models : int
        Whose mean its probabilities are.
    """

    def __init__(self, session, spec, n_models, path):
        self._session, self.spec, self.n_models, self._path = session, spec, n_models, path

    def __call__(self, pixels):
        """Probabilities of windows.

        Parameters
        ----------
        pixels : np.ndarray, shape (n, channels, size, size), uint8
            Levels or colours.

        Returns
        -------
        probabilities : np.ndarray, shape (n, n_classes), float32

        Raises
        ------
        MelvisionError
            When ONNX Runtime cannot compute them.
        """
        try:
            (found,) = self._session.run(["probabilities"], {"pixels": pixels})
        except Exception as error:  # of many kinds, by what is wrong with the file
            raise MelvisionError(f"{self._path}: ONNX Runtime cannot compute it ({_first_line(error)})") from None
        if found.shape != (len(pixels), len(self.spec.classes)):
            raise MelvisionError(
                f"{self._path}: answers with shape {found.shape}, not a row of genres for each picture"
            )
        return found

    def predict_windows(self, x, windows):
        """Probabilities for single windows; see `engine.predict_windows`."""
        for first in range(0, len(windows), EVAL_BATCH):
            part = windows[first : first + EVAL_BATCH]
            yield part, torch.from_numpy(self(x.cut(*zip(*part, strict=True)).numpy()))


def load(path, threads=None):
    """Open an exported file, running none of what does not belong in it.

    Parameters
    ----------
    path : str or Path
        As `save` wrote it.
    threads : int, optional
        To compute on; by default as many as torch does.

    Returns
    -------
    network : Network

    Raises
    ------
    MelvisionError
        When it is missing, damaged, keeps its weights elsewhere, or was not exported by melvision.
    """
    _runtime()  # before the file is read: it may be large
    path = Path(path)
    if not path.is_file():
        raise MelvisionError(f"{path}: there is no such file; make one: python -m vision.export RUN -o {path.name}")
    if path.stat().st_size > 1 << 31:
        raise MelvisionError(f"{path}: is larger than 2 GiB, as no ONNX file is that holds all it needs")
    return _open(path.read_bytes(), path, threads)


def _open(content, path, threads=None):
    onnx, runtime = _runtime()
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError:
        model = onnx.ModelProto()
    if not model.graph.node:
        raise MelvisionError(f"{path}: is no ONNX file or damaged; make one: python -m vision.export RUN")
    for message in messages(model):
        if getattr(message, "external_data", None) or getattr(message, "data_location", 0):
            # Such a file names others to be read, which may be any of the machine's.
            raise MelvisionError(f"{path}: keeps weights in another file, which is not read; expected all in one file")
        if isinstance(message, onnx.NodeProto) and message.domain not in ("", "ai.onnx"):
            raise MelvisionError(f"{path}: uses operators of {message.domain!r}; expected those of ONNX itself")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if not {"melvision", "format", "models"} <= metadata.keys() or not {"spec", "recipe"} & metadata.keys():
        raise MelvisionError(f"{path}: was not exported by melvision; make one: python -m vision.export RUN")
    if metadata["format"] not in map(str, (FORMAT, *OLD_FORMATS)):
        raise MelvisionError(f"{path}: was not exported by this version of melvision; export anew, or use its version")
    try:
        spec = ModelSpec.from_dict(
            json.loads(metadata["spec"] if metadata["format"] == str(FORMAT) else metadata["recipe"])
        )
        n_models = int(metadata["models"])
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise MelvisionError(f"{path}: its spec is damaged ({_first_line(error)}); export anew") from None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 4  # what is wrong is told once, below
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of many kinds, by what is wrong with the file
        raise MelvisionError(f"{path}: ONNX Runtime cannot use it ({_first_line(error)})") from None
    given = [(value.name, value.type, value.shape[1:]) for value in session.get_inputs()]
    answers = [(value.name, value.type) for value in session.get_outputs()]
    side = [spec.input.channels, spec.input.size, spec.input.size]
    if given != [("pixels", "tensor(uint8)", side)] or answers != [("probabilities", "tensor(float)")]:
        raise MelvisionError(f"{path}: its graph does not fit its spec; export anew")
    return OnnxModel(session, spec, n_models, path)


def messages(message):
    """Yield a protocol buffer message and all that are inside it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from messages(inner)


def _first_line(error):
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

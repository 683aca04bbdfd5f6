"""Write musicnn_activations.npz: what musicnn's own TensorFlow graph answers for made-up input.

It was run once, in an environment of its own, which the tests do not need:
``pip install tensorflow-cpu numpy; pip install --no-deps musicnn==0.1.0; python make_musicnn_activations.py``
"""

import importlib.metadata
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf


def frozen_graph(folder: Path) -> tf.GraphDef:
    """The graph up to the tags, with the checkpoint's weights as constants: what is for training cannot be imported."""
    meta = tf.MetaGraphDef()
    meta.ParseFromString((folder / ".meta").read_bytes())
    graph = tf.graph_util.extract_sub_graph(meta.graph_def, ["model/Sigmoid"])
    weights = tf.train.NewCheckpointReader(str(folder) + "/")
    for node in graph.node:
        node.attr.pop("_output_shapes", None)
        node.attr.pop("_class", None)
        if node.op == "VariableV2":
            value = weights.get_tensor(node.name)
            node.op = "Const"
            for name in list(node.attr):
                node.attr.pop(name)
            node.attr["dtype"].type = tf.float32.as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        elif node.op == "Switch" and node.attr["T"].type > 100:  # a variable by reference
            node.attr["T"].type -= 100
        elif node.op == "RefSwitch":
            node.op = "Switch"
    return graph


def main() -> None:
    """Run the graph and write its answers."""
    tf.disable_eager_execution()
    index = importlib.metadata.distribution("musicnn").locate_file("musicnn/MSD_musicnn/.index")
    rng = np.random.default_rng(0)
    # A noise that gets weaker upwards, and notes that come and go.
    time, band = np.arange(187)[:, None], np.arange(96)
    level = 3.5 - band / 48 + rng.normal(0, 0.4, (2, 187, 96))
    level[1] += 1.5 * (np.sin(time / 9) > 0.3) * (np.cos(band / 3) > 0.8)
    mel = np.maximum(level, 0).astype(np.float16)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(frozen_graph(Path(index).parent), name="")
        graph = tf.get_default_graph()
        feed = {"model/Placeholder:0": mel.astype(np.float32)}
        for placeholder in (op.outputs[0] for op in graph.get_operations() if op.type == "Placeholder"):
            print(placeholder.name, placeholder.dtype, placeholder.shape)
            if placeholder.dtype == tf.bool:
                feed[placeholder.name] = False  # not training
        embedding, tags = session.run(["model/dropout_1/cond/Merge:0", "model/Sigmoid:0"], feed)
    np.savez_compressed(Path(__file__).with_name("musicnn_activations.npz"), mel=mel, embedding=embedding, tags=tags)


if __name__ == "__main__":
    main()

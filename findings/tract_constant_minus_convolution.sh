#!/bin/bash
# tract adds where a network subtracts a convolution from a constant of each channel, and gives infinity for a quotient.
#
# Expected: constant - convolution is what ONNX Runtime gives; that the constant comes first is plain in the file.
# Seen with tract 0.23.9: a constant with a value for each channel, [6, 1, 1] or [1, 6, 1, 1], becomes the bias of the
# 3x3 convolution before it: 1 - 18 gives 19, and 1 / 18 gives infinity. convolution - constant is right, and so are one
# value for all channels, a ReLU between the two, and convolutions of 1x1 or depthwise ones. Nothing is said.
# Why it matters: tract runs networks in Rust programs, on boards and in browsers. A head whose answer is taken from a
# size of its own for each anchor, or from a mean colour, answers with the other sign and loads without a word.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    tract==0.23.9 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import importlib.metadata
import sys

import numpy as np
import onnxruntime
import tract
from onnx import TensorProto, checker, helper, numpy_helper, save

path = f"{sys.argv[1]}/network.onnx"
print(f"tract {importlib.metadata.version('tract')}, ONNX Runtime {onnxruntime.__version__}")


def both(operator: str, inputs: list[str], constant: np.ndarray, middle: str = "", size: int = 3, groups: int = 1):
    """The answer of the first channel by ONNX Runtime and by tract, where the convolution gives 18."""
    nodes = [helper.make_node("Conv", ["image", "weight"], ["plain" if middle else "convolved"], group=groups)]
    if middle:
        nodes.append(helper.make_node(middle, ["plain"], ["convolved"]))
    nodes.append(helper.make_node(operator, inputs, ["answer"]))
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 6, 5, 5])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 6, 6 - size, 6 - size])],
        [
            numpy_helper.from_array(np.full((6, 6 // groups, size, size), 1 / 16, np.float32), "weight"),
            numpy_helper.from_array(constant.astype(np.float32), "constant"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    save(model, path)
    image = np.full((1, 6, 5, 5), 18 * 16 / (6 // groups * size * size), np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    right = session.run(None, {"image": image})[0]
    given = tract.onnx().load(path).into_model().into_runnable().run([image])[0].to_numpy()
    return float(right[0, 0, 0, 0]), float(given[0, 0, 0, 0])


first, last = ["constant", "convolved"], ["convolved", "constant"]
channels = np.arange(1, 7).reshape(6, 1, 1)
answers = {
    "[6, 1, 1] - 18": both("Sub", first, channels),
    "[1, 6, 1, 1] - 18": both("Sub", first, channels[None]),
    "[6, 1, 1] / 18": both("Div", first, channels),
    "18 - [6, 1, 1]": both("Sub", last, channels),
    "[] - 18": both("Sub", first, np.array(1)),
    "[6, 1, 1] - ReLU(18)": both("Sub", first, channels, middle="Relu"),
    "[6, 1, 1] - 18 from 1x1": both("Sub", first, channels, size=1),
    "[6, 1, 1] - 18 from 3x3 depthwise": both("Sub", first, channels, groups=6),
}
for name, (right, given) in answers.items():
    print(f"{name}, the constant of the first channel being 1: ONNX Runtime {right:.4g}, tract {given:.4g}")
expected = [-17, -17, 1 / 18, 17, -17, -17, -17, -17]
right = [right for right, _ in answers.values()]
assert np.abs(np.array(right) - expected).max() < 1e-4, "the behaviour has changed"
given = [given for _, given in answers.values()]
assert np.abs(np.array(given[:2]) - 19).max() < 1e-4 and given[2] == np.inf, "the behaviour has changed"
assert np.abs(np.array(given[3:]) - expected[3:]).max() < 1e-4, "the behaviour has changed"
PYTHON

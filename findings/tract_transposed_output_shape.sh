#!/bin/bash
# tract cuts a transposed convolution with output_shape at its end only: the map lies a pixel or more off.
#
# Expected: without auto_pad, ONNX takes what is too much from both ends, and an odd one from the start: from 3 pixels
# with stride 2 and a kernel of 3 come 7, of which output_shape 6 leaves the last 6, and 5 the middle 5.
# Seen with tract 0.23.9: it leaves the first 6 and the first 5, without a word. The same with pads that say so is
# right, and so is an output_shape of 7, where nothing is cut, or of 8, where a place is added. ONNX Runtime 1.32.0 and
# OpenVINO 2026.4.1 are right for each.
# Why it matters: networks that come from TensorFlow may give a decoder's layers an output_shape and no pads. Each such
# layer then moves the map by a pixel of its own, and masks and boxes lie beside the objects.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    tract==0.23.9 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import importlib.metadata
import sys

import numpy as np
import onnxruntime
import openvino
import tract
from onnx import TensorProto, checker, helper, numpy_helper, save

SIZE, KERNEL, STRIDE = 3, 3, 2
path = f"{sys.argv[1]}/network.onnx"
weight = np.outer([1, 2, 4], [1, 2, 4]).astype(np.float32)
image = np.arange(1, 10, dtype=np.float32).reshape(1, 1, SIZE, SIZE)
print(
    f"tract {importlib.metadata.version('tract')}, ONNX Runtime {onnxruntime.__version__}, "
    f"OpenVINO {openvino.__version__.split('-')[0]}"
)

whole = np.zeros((STRIDE * (SIZE - 1) + KERNEL + 1,) * 2, np.float32)  # with one place more than there is, for 8
for row in range(SIZE):
    for column in range(SIZE):
        place = slice(row * STRIDE, row * STRIDE + KERNEL), slice(column * STRIDE, column * STRIDE + KERNEL)
        whole[place] += image[0, 0, row, column] * weight


def answers(size: int, **attributes) -> dict[str, np.ndarray]:
    """The map of each runtime for a transposed convolution with these attributes."""
    node = helper.make_node("ConvTranspose", ["image", "weight"], ["map"], strides=[STRIDE, STRIDE], **attributes)
    graph = helper.make_graph(
        [node],
        "decoder",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, list(image.shape))],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 1, size, size])],
        [numpy_helper.from_array(weight[None, None], "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    network = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {
        "ONNX Runtime": session.run(None, {"image": image})[0],
        "OpenVINO": network(image)[0],
        "tract": tract.onnx().load(path).into_model().into_runnable().run([image])[0].to_numpy(),
    }


def starts(found: dict[str, np.ndarray], size: int) -> dict[str, int]:
    """Which row and column of the whole map each answer begins with."""
    first = {}
    for name, given in found.items():
        assert given.shape == (1, 1, size, size), "the behaviour has changed"
        fitting = [
            start
            for start in range(len(whole) - size + 1)
            if np.abs(given[0, 0] - whole[start : start + size, start : start + size]).max() < 1e-3
        ]
        assert len(fitting) == 1, "the behaviour has changed"
        first[name] = fitting[0]
    return first


for size, right, given in ((8, 0, 0), (7, 0, 0), (6, 1, 0), (5, 1, 0)):
    first = starts(answers(size, output_shape=[size, size]), size)
    print(f"output_shape {size} of 7: the first row and column are {first}")
    assert first == {"ONNX Runtime": right, "OpenVINO": right, "tract": given}, "the behaviour has changed"
for size, pads in ((6, [1, 1, 0, 0]), (5, [1, 1, 1, 1])):
    first = starts(answers(size, pads=pads), size)
    print(f"pads {pads}: the first row and column are {first}")
    assert set(first.values()) == {1}, "the behaviour has changed"
PYTHON

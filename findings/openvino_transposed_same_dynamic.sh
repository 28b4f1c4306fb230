#!/usr/bin/env bash
# OpenVINO gives a transposed convolution with auto_pad SAME another output if height and width of the input are open.
#
# Expected: a network read from ONNX answers the same to an image, whether its file states the image's size or not.
# Seen with OpenVINO 2026.4.1: kernel 4, stride 2 on 5 places gives 10 with a fixed size (as ONNX says: size * stride)
# and 12 with an open one: nothing is cut off, as if there were no padding. Cut at the borders the values are the same.
# Why it matters: decoders are made of such layers, and a file with open sizes loads and runs without a warning.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx==1.23.2 openvino==2026.4.1 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import numpy as np
import onnx
import openvino
from onnx import helper, numpy_helper

numbers = np.random.default_rng(0)
image = numbers.normal(size=(1, 2, 5, 5)).astype(np.float32)
weight = numpy_helper.from_array(numbers.normal(size=(2, 3, 4, 4)).astype(np.float32), "w")


def answer(shape: list[int | str], padding: str) -> np.ndarray:
    """OpenVINO's answer to the image, if the file states this shape."""
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], auto_pad=padding, kernel_shape=[4, 4], strides=[2, 2])
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["a", "b", "c", "d"])
    graph = helper.make_graph([node], "up", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    core = openvino.Core()
    network = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return network(image)[0]


for padding in ("SAME_UPPER", "SAME_LOWER"):
    fixed, dynamic = answer([1, 2, 5, 5], padding), answer([1, 2, "height", "width"], padding)
    print(f"OpenVINO {openvino.__version__} {padding}: fixed size {fixed.shape}, open size {dynamic.shape}")
    assert fixed.shape == (1, 3, 10, 10) and dynamic.shape == (1, 3, 12, 12), "the behaviour has changed"
    assert np.allclose(dynamic[:, :, 1:-1, 1:-1], fixed, atol=1e-5), "the behaviour has changed"
PYTHON

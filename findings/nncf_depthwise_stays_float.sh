#!/usr/bin/env bash
# NNCF leaves depthwise weights in float32 if the network comes from core.read_model() instead of convert_model().
#
# Expected: weights of a depthwise convolution get a scale a channel and are stored as int8, as those of all others.
# Seen with NNCF 3.4.0 and OpenVINO 2026.4.1: so it is for ov.convert_model() of an ONNX file. For core.read_model() of
# the same file 16 kernels of 3x3 get 48 scales, one a column of each kernel, which no int8 operation can use; the
# weights stay float32. (A Reshape stands between weights and operation there; the axis is counted behind it.)
# Why it matters: NNCF says nothing, the file is larger, and the layers run in floating point.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    nncf==3.4.0 openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder" python3 - <<'PYTHON'
import logging
import math

import nncf
import numpy as np
import onnx
import openvino
from onnx import helper, numpy_helper

numbers = np.random.default_rng(0)
weight = numpy_helper.from_array(numbers.normal(size=(16, 1, 3, 3)).astype(np.float32), "w")
x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 16, 8, 8])
y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 16, 8, 8])
node = helper.make_node("Conv", ["x", "w"], ["y"], group=16, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
graph = helper.make_graph([node], "depthwise", [x], [y], [weight])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "depthwise.onnx")
images = [numbers.normal(size=(1, 16, 8, 8)).astype(np.float32) for _ in range(10)]
nncf.set_log_level(logging.ERROR)


def weights_of(network: openvino.Model) -> tuple[str, int]:
    """The type in which the quantised depthwise weights are stored, and the number of their scales."""
    quantised = nncf.quantize(network, nncf.Dataset(images))
    [convolution] = [o for o in quantised.get_ops() if o.get_type_name() == "GroupConvolution"]
    node, scales = convolution.input_value(1).get_node(), 0
    while node.get_type_name() != "Constant":
        if node.get_type_name() in ("Multiply", "FakeQuantize"):
            scales = math.prod(node.input_value(node.get_input_size() - 1).get_shape())
        node = node.input_value(0).get_node()
    return node.get_element_type().get_type_name(), scales


read = weights_of(openvino.Core().read_model("depthwise.onnx"))
converted = weights_of(openvino.convert_model("depthwise.onnx"))
print(f"NNCF {nncf.__version__}, OpenVINO {openvino.__version__}: (stored as, number of scales) for 16 channels")
print(f"convert_model {converted}, read_model {read}")
assert converted == ("i8", 16) and read == ("f32", 48), "the behaviour has changed"
PYTHON

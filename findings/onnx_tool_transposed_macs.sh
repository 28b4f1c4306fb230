#!/bin/bash
# onnx-tool counts the multiply-adds of a transposed convolution with its output channels instead of its input channels.
#
# Expected: model_profile() counts one multiply-add for each product, which are as many as the places of the input map,
# times input channels, times output channels of the group, times places of the kernel. It does so for Conv.
# Seen with onnx-tool 1.0.1: it counts places of the output map, times output channels, times output channels of the
# group, times places of the kernel; the input channels do not come in. A 2x2 layer of stride 2 that makes 32 channels
# of 4 costs 32 times its products; one that makes 4 of 32 half of them; a depthwise one four times.
# Why it matters: decoders for segmentation are made of these layers, and designs are compared by this number. One that
# shrinks channels in them looks cheaper than it is, one that grows them dearer.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx-tool==1.0.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 tabulate==0.10.0
cd "$folder"
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import contextlib
import importlib.metadata
import io

import numpy as np
import onnxruntime
import onnx_tool
from onnx import TensorProto, checker, helper, numpy_helper


def counts(kind: str, channels: int, weights: np.ndarray, groups: int, stride: int) -> tuple[int, int]:
    """The products that a layer really adds up, and the count of onnx-tool."""
    node = helper.make_node(kind, ["image", "weights"], ["answer"], group=groups, strides=[stride, stride])
    graph = helper.make_graph(
        [node],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, channels, 8, 8])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, None, None, None])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answer = session.run(None, {"image": np.ones((1, channels, 8, 8), np.float32)})[0]
    with contextlib.redirect_stdout(io.StringIO()):
        network = onnx_tool.Model(model)
        network.graph.shape_infer({"image": np.ones((1, channels, 8, 8), np.float32)})
        network.graph.profile()
    assert tuple(network.graph.tensormap["answer"].get_shape()) == answer.shape
    return int(answer.sum(dtype=np.float64)), int(network.graph.macs[0])


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("onnx-tool", "onnx", "onnxruntime")))
for kind, channels, shape, groups, stride, factor in (
    ("Conv", 4, (32, 4, 2, 2), 1, 2, 1),
    ("Conv", 4, (4, 1, 2, 2), 4, 1, 1),
    ("ConvTranspose", 4, (4, 32, 2, 2), 1, 2, 32),
    ("ConvTranspose", 32, (32, 4, 2, 2), 1, 2, 0.5),
    ("ConvTranspose", 4, (4, 1, 2, 2), 4, 2, 4),
):
    # ones times ones: the sum of the answer is the number of products
    products, counted = counts(kind, channels, np.ones(shape, np.float32), groups, stride)
    print(f"{kind} of weights {shape}, {groups} group(s), stride {stride}: {products} products, counted {counted}")
    if kind == "ConvTranspose":
        assert products == 8 * 8 * np.prod(shape)
    assert counted == factor * products, "the behaviour has changed"
PYTHON

#!/bin/bash
# qonnx's SubPixelToDeconvolution takes the channels of DepthToSpace in PyTorch's order, whatever order the file says.
#
# Expected: the transformation makes one ConvTranspose of a convolution and the DepthToSpace behind it, and the network
# answers as before. ONNX has two orders of the channels: CRD, as PyTorch's PixelShuffle, and DCR, as TensorFlow's
# depth_to_space, which is the default.
# Seen with qonnx 1.0.0: the weights are always shuffled as for CRD. For DCR, or no mode, the map has the pixels of
# other channels, and nothing is said; only with CRD or a single output channel is it right. A convolution with
# dilations is "skipped", as a warning says, and converted all the same, to another answer. ONNX Runtime 1.32.0 runs
# them all.
# Why it matters: it is one of the steps that bring networks for super-resolution and segmentation to FPGAs with FINN;
# each file that came from TensorFlow, or whose author left the default, is scrambled.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    qonnx==1.0.0 onnxscript==0.7.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata
import warnings

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.subpixel_to_deconv import SubPixelToDeconvolution

random = np.random.default_rng(0)
image = random.standard_normal((1, 2, 6, 6)).astype(np.float32)


def network(channels: int, dilation: int, **mode):
    weight = random.standard_normal((4 * channels, 2, 3, 3)).astype(np.float32)
    layer = {"kernel_shape": [3, 3], "strides": [1, 1], "group": 1, "dilations": [dilation] * 2}
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["deep"], pads=[dilation] * 4, **layer),
        helper.make_node("DepthToSpace", ["deep"], ["enlarged"], blocksize=2, **mode),
    ]
    graph = helper.make_graph(
        nodes,
        "sub-pixel convolution",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 2, 6, 6])],
        [helper.make_tensor_value_info("enlarged", TensorProto.FLOAT, [1, channels, 12, 12])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def answer(model) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("qonnx", "onnxruntime", "onnx")))
for channels, dilation, mode, changes in (
    (3, 1, {"mode": "CRD"}, False),
    (3, 1, {"mode": "DCR"}, True),
    (3, 1, {}, True),
    (1, 1, {"mode": "DCR"}, False),
    (3, 2, {"mode": "CRD"}, True),
):
    model = network(channels, dilation, **mode)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        changed = ModelWrapper(model).transform(InferShapes()).transform(SubPixelToDeconvolution()).model
    said = [str(warning.message) for warning in caught if "sub-pixel" in str(warning.message)]
    before, after = answer(model), answer(changed)
    off = float(np.abs(before - after).max()) if before.shape == after.shape else float("inf")
    kind = f"{channels} channels, dilation {dilation}, {mode}"
    print(f"{kind}: {after.shape} for {before.shape}, off by {off:.5f}, {said}")
    assert [node.op_type for node in changed.graph.node] == ["ConvTranspose"], "the behaviour has changed"
    assert bool(said) == (dilation == 2) and (off > 1 if changes else off < 1e-4), "the behaviour has changed"
PYTHON

#!/bin/bash
# tinygrad starts a 1x1 convolution of stride 2 with auto_pad SAME_UPPER at the second pixel if the map is even.
#
# Expected: ONNX gives SAME a map of ceil(size / stride) and pads what is missing. A 1x1 kernel with stride 2 misses
# nothing: it takes the pixels 0, 2, 4 and so on, as with pads of 0. A dilated kernel is padded for its whole width.
# Seen with tinygrad 0.14.0 (on its Python device, which needs no compiler): on a map of 8x8 the layer takes the pixels
# 1, 3, 5 and 7 of rows and columns; on 7x7, or with SAME_LOWER, it is right. A 3x3 kernel of dilation 2 is padded by 1
# instead of 2, and gives 6x6 for 8x8, where onnx 1.23.2 infers 8x8. ONNX Runtime 1.32.0 gives the same for SAME as for
# the pads that it means, and refuses SAME with a dilation. Pads as numbers do without it.
# Why it matters: networks from TensorFlow have auto_pad SAME_UPPER. The shortcuts of a ResNet are 1x1 with stride 2,
# which then adds maps that lie a pixel apart, with the right size and nothing said.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    tinygrad==0.14.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
export XDG_CACHE_HOME="$folder/cache" DEV=PYTHON
PYTHONPATH="$folder" python3 - "$folder/network.onnx" <<'PYTHON'
import importlib.metadata
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference
from tinygrad.nn.onnx import OnnxRunner

random = np.random.default_rng(0)


def layer(weight: np.ndarray, size: int, **attributes) -> onnx.ModelProto:
    """A convolution."""
    graph = helper.make_graph(
        [helper.make_node("Conv", ["map", "weight"], ["answer"], kernel_shape=weight.shape[2:], **attributes)],
        "layer",
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 1, size, size])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 1, "rows", "columns"])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def by_onnxruntime(model: onnx.ModelProto, features: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"map": features})[0]


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("tinygrad", "onnxruntime", "onnx")))
seen = []
for kernel, size, options, auto_pad, pads in (
    (1, 8, {"strides": [2, 2]}, "SAME_UPPER", [0, 0, 0, 0]),
    (3, 8, {"dilations": [2, 2]}, "SAME_UPPER", [2, 2, 2, 2]),
    (1, 7, {"strides": [2, 2]}, "SAME_UPPER", [0, 0, 0, 0]),
    (1, 8, {"strides": [2, 2]}, "SAME_LOWER", [0, 0, 0, 0]),
    (3, 8, {"strides": [2, 2]}, "SAME_UPPER", [0, 0, 1, 1]),
):
    weight = random.standard_normal((1, 1, kernel, kernel)).astype(np.float32)
    features = random.standard_normal((1, 1, size, size)).astype(np.float32)
    same, explicit = layer(weight, size, auto_pad=auto_pad, **options), layer(weight, size, pads=pads, **options)
    right = by_onnxruntime(explicit, features)
    inferred = shape_inference.infer_shapes(same, strict_mode=True).graph.output[0].type.tensor_type.shape.dim
    answers = []
    for model in (same, explicit):
        onnx.save(model, sys.argv[1])
        answers.append(OnnxRunner(sys.argv[1])({"map": features})["answer"].numpy())
    shifted = features[:, :, 1::2, 1::2] * weight[0, 0, 0, 0]
    if answers[0].shape != right.shape:
        seen.append("{2}x{3}".format(*answers[0].shape))
    elif np.abs(answers[0] - right).max() < 1e-4:
        seen.append("right")
    else:
        seen.append("pixels 1, 3, 5, 7" if np.abs(answers[0] - shifted).max() < 1e-4 else "something else")
    print(f"{kernel}x{kernel} on {size}x{size}, {options}, {auto_pad}: {seen[-1]}; in ONNX {right.shape[2]} rows")
    assert tuple(dim.dim_value for dim in inferred) == right.shape, "the behaviour has changed"
    assert np.abs(answers[1] - right).max() < 1e-4, "the behaviour has changed"
    if "dilations" not in options:
        assert np.abs(by_onnxruntime(same, features) - right).max() < 1e-4, "the behaviour has changed"
assert seen == ["pixels 1, 3, 5, 7", "6x6", "right", "right", "right"], "the behaviour has changed"
PYTHON

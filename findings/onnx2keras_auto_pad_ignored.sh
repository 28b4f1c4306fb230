#!/bin/bash
# onnx2keras does not pad convolutions and pools whose padding the file gives as auto_pad.
#
# Expected: auto_pad SAME_UPPER keeps the size of the map (divided by the stride), as in ONNX Runtime, or an error says
# that it cannot be converted.
# Seen with onnx2keras 0.0.25: the attribute is not read, pads is missing, and so the layer is made without padding. A
# 3x3 convolution makes 7x7 of 9x9 and a max pool of stride 2 3x3 of 8x8; the inner numbers are right or a pixel off.
# Why it matters: files made from Keras and TensorFlow networks say SAME_UPPER. A network of convolutions that ends
# with a global average pool is converted without a word, loses the border at each layer, and answers otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --no-compile --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx2keras==0.0.25 tensorflow-cpu==2.21.0 keras==3.15.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder" OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3 python3 - <<'PYTHON' 2>errors || { cat errors; false; }
import contextlib
import importlib.metadata
import io

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper
from onnx2keras import onnx_to_keras


def answers(kind: str, image: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """What ONNX Runtime and the converted network say."""
    size = -(-image.shape[2] // stride)
    graph = helper.make_graph(
        [
            helper.make_node(
                kind,
                ["image", "weights"][: 1 + (kind == "Conv")],
                ["answer"],
                kernel_shape=[3, 3],
                strides=[stride, stride],
                auto_pad="SAME_UPPER",
            )
        ],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 1, size, size])],
        [numpy_helper.from_array(weights, "weights")] if kind == "Conv" else [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with contextlib.redirect_stdout(io.StringIO()):
        converted = onnx_to_keras(model, ["image"], verbose=False, change_ordering=True)
        found = converted.predict(image.transpose(0, 2, 3, 1), verbose=0)
    return session.run(None, {"image": image})[0], found.transpose(0, 3, 1, 2)


packages = ("onnx2keras", "tensorflow-cpu", "keras", "onnxruntime", "onnx")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
weights = np.ones((1, 1, 3, 3), np.float32)
for kind, side, stride, sizes in (("Conv", 9, 1, (9, 7)), ("Conv", 8, 2, (4, 3)), ("MaxPool", 8, 2, (4, 3))):
    image = np.random.default_rng(0).uniform(0, 1, (1, 1, side, side)).astype(np.float32)
    runtime, keras = answers(kind, image, stride)
    print(f"{kind} of {side}x{side}, stride {stride}: ONNX Runtime {runtime.shape}, onnx2keras {keras.shape};", end=" ")
    print(f"mean {runtime.mean():.3f} and {keras.mean():.3f}")
    assert runtime.shape == (1, 1, sizes[0], sizes[0]) and -(-side // stride) == sizes[0]
    assert keras.shape == (1, 1, sizes[1], sizes[1]), "the behaviour has changed"
    inner = runtime[..., 1:-1, 1:-1] if stride == 1 else runtime[..., :-1, :-1]
    assert np.allclose(keras, inner, atol=1e-5), "the behaviour has changed"
PYTHON

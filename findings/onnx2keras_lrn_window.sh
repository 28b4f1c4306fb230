#!/bin/bash
# onnx2keras normalises with LRN over twice as many channels as the network says, and with alpha times the size.
#
# Expected: ONNX's LRN of size 5 divides by (bias + alpha / 5 * the sum of squares of 5 channels) ** beta, as ONNX
# Runtime does.
# Seen with onnx2keras 0.0.25: size and alpha go into TensorFlow's depth_radius and alpha as they are. But a radius of 5
# is a window of 11 channels, and TensorFlow does not divide alpha by the size. Both mistakes are shown apart: with one
# channel only the second, with a beta of 1 and an alpha of 5 a channel of 1 becomes 1/6 instead of 1/2.
# Why it matters: AlexNet, GoogLeNet and the networks of Caffe's time use LRN; their converted network gives other
# activations in each place, of the right size, and nothing is said.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx2keras==0.0.25 tensorflow-cpu==2.21.0 keras==3.15.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder" OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3 python3 - <<'PYTHON' 2>errors || { cat errors; false; }
import contextlib
import importlib.metadata
import io

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper
from onnx2keras import onnx_to_keras


def answers(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What ONNX Runtime and the converted network say."""
    graph = helper.make_graph(
        [helper.make_node("LRN", ["image"], ["answer"], size=5, alpha=5.0, beta=1.0, bias=1.0)],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [*image.shape])],
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
for channels, inside, taken in (
    (1, [1], [1]),
    (11, [3, 4, 5, 5, 5, 5, 5, 5, 5, 4, 3], [6, 7, 8, 9, 10, 11, 10, 9, 8, 7, 6]),
):
    right, seen = 1 / (1 + np.array(inside)), 1 / (1 + 5 * np.array(taken))
    runtime, keras = answers(np.ones((1, channels, 2, 2), np.float32))
    print(f"{channels} channels of ones: ONNX Runtime {runtime[0, :, 0, 0].astype(float).round(3).tolist()}")
    print(f"onnx2keras {keras[0, :, 0, 0].astype(float).round(3).tolist()}")
    assert runtime.shape == keras.shape and np.allclose(runtime, np.reshape(right, (1, -1, 1, 1)), atol=1e-5)
    assert np.allclose(keras, np.reshape(seen, (1, -1, 1, 1)), atol=1e-5), "the behaviour has changed"
PYTHON

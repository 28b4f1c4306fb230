#!/bin/bash
# tf2onnx makes the last class of the label -1, which has no class in the network.
#
# Expected: one_hot() of TensorFlow gives zeros for a number outside of the classes, such as -1 for pixels to be
# ignored, and so does the network in ONNX.
# Seen with tf2onnx 1.17.0: it writes ONNX's OneHot with the numbers as they are. That one counts negative numbers from
# the end, so that -1 is the last class and -3 the first of three. Numbers that are too large give zeros in both.
# Why it matters: networks that take a map of labels as an input, and metrics that are exported with the network, see
# ignored pixels as objects of the last class. The map has the right size, and nothing is said.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --no-compile --disable-pip-version-check --root-user-action ignore --target "$folder" \
    tf2onnx==1.17.0 tensorflow-cpu==2.21.0 keras==3.15.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder" OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3 python3 - <<'PYTHON' 2>errors || { cat errors; false; }
import importlib.metadata

import numpy as np
import onnxruntime
import tensorflow
import tf2onnx


labels = np.array([0, 2, 3, 255, -1, -3], np.int32)
signature = [tensorflow.TensorSpec(labels.shape, tensorflow.int32, name="labels")]
encode = tensorflow.function(lambda labels: tensorflow.one_hot(labels, 3), signature)
model, _ = tf2onnx.convert.from_function(encode, input_signature=signature, opset=18)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
right, found = encode(labels).numpy(), session.run(None, {"labels": labels})[0]
packages = ("tf2onnx", "tensorflow-cpu", "onnxruntime", "onnx")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
for label, one, other in zip(labels.tolist(), right.tolist(), found.tolist()):
    print(f"label {label}: TensorFlow {one}, ONNX Runtime {other}")
assert np.array_equal(right, (labels[:, None] == np.arange(3)).astype(np.float32))
assert np.array_equal(found[:4], right[:4])
assert found[4:].tolist() == [[0, 0, 1], [1, 0, 0]], "the behaviour has changed"
PYTHON

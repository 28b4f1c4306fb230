#!/bin/bash
# tf2onnx takes single pixels where a network averages areas to make a picture smaller.
#
# Expected: tf.image.resize(method="area") of a chequered picture to half its size is grey, in ONNX Runtime as well, or
# the conversion fails as it does for the other methods that ONNX has not.
# Seen with tf2onnx 1.17.0: ResizeArea goes to the converter of nearest, bilinear and bicubic resizing, which knows no
# such mode and writes nearest. The chequered picture becomes white, and black if it is moved by a pixel.
# Why it matters: area is the method to make pictures smaller without patterns. In the converted network each pixel of
# the small picture is one of the large one, and the rest is not looked at; size and range are as before.
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



def small(picture: np.ndarray, side: int, method: str) -> tuple[np.ndarray, np.ndarray]:
    """The picture made smaller, in TensorFlow and in ONNX Runtime after the conversion."""
    signature = [tensorflow.TensorSpec(picture.shape, tensorflow.float32, name="picture")]
    resize = tensorflow.function(lambda picture: tensorflow.image.resize(picture, (side, side), method), signature)
    model, _ = tf2onnx.convert.from_function(resize, input_signature=signature, opset=18)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return resize(picture).numpy(), session.run(None, {"picture": picture})[0]


packages = ("tf2onnx", "tensorflow-cpu", "onnxruntime", "onnx")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
rows, columns = np.mgrid[:8, :8]
for moved, seen in ((0, 255), (1, 0)):
    picture = np.where((rows + columns + moved) % 2 == 0, 255, 0).astype(np.float32).reshape(1, 8, 8, 1)
    mean = picture.reshape(4, 2, 4, 2).mean(axis=(1, 3)).reshape(1, 4, 4, 1)
    for method in ("bilinear", "area"):
        right, found = small(picture, 4, method)
        print(f"chequered, moved by {moved}, {method}: TensorFlow {np.unique(right)}, ONNX Runtime {np.unique(found)}")
        assert np.array_equal(right, mean) and np.all(mean == 127.5) and found.shape == right.shape
        assert np.all(found == (127.5 if method == "bilinear" else seen)), "the behaviour has changed"
PYTHON

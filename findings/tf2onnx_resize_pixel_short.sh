#!/bin/bash
# tf2onnx writes a resize to a fixed size as a factor, with which the picture comes out a row or a column too small.
#
# Expected: tf.image.resize(picture, (224, 224)) gives 224x224 in ONNX Runtime too; ONNX's Resize can be told the size.
# Seen with tf2onnx 1.17.0: if the sizes before and after are known, it writes the factor 224 / 427 as float32. Times
# 427 and rounded down, that is 223. So for 375 and 1080 to 224, for 299 to 320, and for 5 of 100 pairs of sizes up to
# 512.
# If the size of the input is open, the size itself is written, and is right.
# Why it matters: networks resize their input, and decoders for segmentation resize a map to the size of another. The
# answer is a pixel short of the label or of the map that it is to be joined with, and nothing is said.
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


def shapes(before: int, after: int, open_size: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape of a resized picture in TensorFlow, and in ONNX Runtime after the conversion."""
    sides = [None, None] if open_size else [before, before]
    signature = [tensorflow.TensorSpec([1, *sides, 3], tensorflow.float32, name="picture")]
    resize = tensorflow.function(lambda picture: tensorflow.image.resize(picture, (after, after)), signature)
    model, _ = tf2onnx.convert.from_function(resize, input_signature=signature, opset=18)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(0).uniform(0, 255, (1, before, before, 3)).astype(np.float32)
    return tuple(resize(picture).shape), session.run(None, {"picture": picture})[0].shape


packages = ("tf2onnx", "tensorflow-cpu", "onnxruntime", "onnx")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
sizes = ((427, 224, 1), (375, 224, 1), (1080, 224, 1), (299, 320, 1), (480, 224, 0), (56, 112, 0))
for before, after, missing in sizes:
    for open_size in (False, True):
        right, found = shapes(before, after, open_size)
        print(f"{before}x{before} to {after}x{after}, input size {'open' if open_size else 'known'}: ", end="")
        print(f"TensorFlow {right}, ONNX Runtime {found}")
        assert right == (1, after, after, 3)
        short = 0 if open_size else missing
        assert found == (1, after - short, after - short, 3), "the behaviour has changed"
PYTHON

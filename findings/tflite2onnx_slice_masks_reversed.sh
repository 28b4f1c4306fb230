#!/bin/bash
# tflite2onnx cuts along other axes: it reads the masks of TensorFlow Lite's StridedSlice from the wrong end.
#
# Expected: logits[:, 1:] leaves out the first class of each row. In the file begin_mask is 1: the begin of axis 0 is to
# be ignored; bit i stands for axis i.
# Seen with tflite2onnx 0.4.1: nothing is left out. The converter writes the mask as binary digits and takes the digits
# from left to right for the axes, which is the last axis first. It ignores the begin of the last axis instead of that
# of the first. Rows of a map lose nothing either, or all is lost; a cut is right if the masks read the same from both
# ends.
# Why it matters: this is how a background class is left out. The file still has it, each class has the number before
# its own, and nothing is said.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --no-compile --disable-pip-version-check --root-user-action ignore --target "$folder" \
    tflite2onnx==0.4.1 tflite==2.18.0 tensorflow-cpu==2.21.0 keras==3.15.1 onnx==1.23.2 onnxruntime==1.32.0 \
    numpy==2.4.6 flatbuffers==25.12.19 protobuf==7.36.2
cd "$folder"
PYTHONPATH="$folder" OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3 python3 - <<'PYTHON' 2>errors || { cat errors; false; }
import importlib.metadata

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tflite2onnx


def answers(network, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What TensorFlow Lite and the converted file say."""
    traced = tf.function(network, input_signature=[tf.TensorSpec(image.shape, tf.float32)])
    holder = tf.Module()
    holder.traced = traced
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()], holder)
    with open("network.tflite", "wb") as file:
        file.write(converter.convert())
    interpreter = tf.lite.Interpreter("network.tflite")
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    lite = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    tflite2onnx.convert("network.tflite", "network.onnx")
    onnx.checker.check_model("network.onnx")
    session = onnxruntime.InferenceSession("network.onnx", providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    if image.ndim == 4:  # the converted file has the channels first
        image = image.transpose(0, 3, 1, 2)
    (found,) = session.run(None, {entry.name: image})
    return lite, found.transpose(0, 2, 3, 1) if found.ndim == 4 else found


packages = ("tflite2onnx", "tflite", "tensorflow-cpu", "onnxruntime", "onnx")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
numbers = np.random.default_rng(0)
logits = np.array([[9, 1, 2, 8, 3]], np.float32)  # the first one is the background
lite, found = answers(lambda row: row[:, 1:] * 1, logits)
print(f"logits {logits[0]} without the first: TensorFlow Lite {lite[0]}, tflite2onnx {found[0]}")
print(f"best class: {lite[0].argmax()}, tflite2onnx {found[0].argmax()}")
assert lite.tolist() == [[1, 2, 8, 3]] and lite[0].argmax() == 2
assert found.tolist() == logits.tolist() and found[0].argmax() == 0, "the behaviour has changed"

image = numbers.standard_normal((1, 6, 8, 4), np.float32)
weights = numbers.standard_normal((1, 1, 4, 5), np.float32)
cuts = {
    "[:, 1:]": (lambda maps: maps[:, 1:], (1, 5, 8, 5)),
    "[:, ::2, ::2]": (lambda maps: maps[:, ::2, ::2], (1, 3, 4, 5)),
    "[:, 1:, 2:7]": (lambda maps: maps[:, 1:, 2:7], (1, 5, 5, 5)),
    "[:, :, :, 1:]": (lambda maps: maps[:, :, :, 1:], (1, 6, 8, 4)),
}
for name, (cut, size) in cuts.items():
    lite, found = answers(lambda pixels, cut=cut: cut(tf.nn.conv2d(pixels, weights, 1, "SAME")), image)
    print(f"a map of 6 x 8 x 5, {name}: TensorFlow Lite {lite.shape[1:]}, tflite2onnx {found.shape[1:]}")
    assert lite.shape == size
    if name == "[:, ::2, ::2]":
        assert np.allclose(lite, found, atol=1e-5)
    else:
        assert found.shape != size, "the behaviour has changed"
PYTHON

#!/bin/bash
# tflite2onnx makes a softmax over the columns of a map where the network has one over the classes of each pixel.
#
# Expected: tf.nn.softmax behind a convolution gives each pixel the probabilities of its classes; they sum to 1. The
# converter puts the channels first, so that the classes are axis 1 of the ONNX file.
# Seen with tflite2onnx 0.4.1: the Softmax of the file has axis -1, which was the classes in TensorFlow Lite and is the
# columns now. The sizes are right, all values lie between 0 and 1, and nothing is said. The row of logits of a
# classifier has two axes and is converted rightly.
# Why it matters: a semantic segmentation ends so. The file gives other classes to most pixels.
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
image = numbers.standard_normal((1, 6, 8, 4), np.float32)
weights = numbers.standard_normal((3, 3, 4, 5), np.float32)


def convolution(pixels: tf.Tensor) -> tf.Tensor:
    return tf.nn.conv2d(pixels, weights, 1, "SAME")


lite, found = answers(convolution, image)
assert lite.shape == found.shape == (1, 6, 8, 5) and np.allclose(lite, found, atol=1e-4)  # the logits are right
logits = lite
lite, found = answers(lambda pixels: tf.nn.softmax(tf.reduce_mean(convolution(pixels), [1, 2])), image)
assert lite.shape == found.shape == (1, 5) and np.allclose(lite, found, atol=1e-5)  # a classifier is right
lite, found = answers(lambda pixels: tf.nn.softmax(convolution(pixels)), image)
axes = [onnx.helper.get_node_attr_value(node, "axis") for node in onnx.load("network.onnx").graph.node[-1:]]
assert lite.shape == found.shape == (1, 6, 8, 5) and np.allclose(lite.sum(3), 1, atol=1e-5)
other = (lite.argmax(3) != found.argmax(3)).mean()
print(f"axis of the Softmax in the file: {axes[0]}")
print(f"sums over the classes of the first pixels: {lite.sum(3)[0, 0, :3]}, tflite2onnx {found.sum(3)[0, 0, :3]}")
print(f"sums over the columns: tflite2onnx {found.sum(2)[0, 0]}")
print(f"pixels with another class: {other:.0%}")
weight = np.exp(logits)
assert np.allclose(found, weight / weight.sum(2, keepdims=True), atol=1e-4), "the behaviour has changed"
assert axes == [-1] and not np.allclose(found.sum(3), 1, atol=0.1) and other > 0.1, "the behaviour has changed"
PYTHON

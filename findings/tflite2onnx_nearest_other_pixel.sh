#!/bin/bash
# tflite2onnx takes another pixel of each four when a map is halved by the nearest pixel.
#
# Expected: tf.image.resize(method="nearest") from 6x8 to 3x4 takes the pixels 1, 3, 5 of each column: the centre of a
# new pixel lies between two old ones, and TensorFlow takes the later one.
# Seen with tflite2onnx 0.4.1: the file takes the pixels 0, 2, 4. The converter writes Resize with half_pixel, which is
# right, and with round_prefer_floor, which takes the earlier one; round_prefer_ceil is what TensorFlow does. Doubling
# is right. Sizes that do not divide differ at single pixels.
# Why it matters: maps of labels are made smaller so. The answer lies a pixel to the top left; sizes agree.
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
rows, columns = np.meshgrid(np.arange(6), np.arange(8), indexing="ij")
image = (10 * rows + columns).astype(np.float32)[None, :, :, None]  # each pixel says where it lies


def resized(size: tuple[int, int]) -> tuple[list, list]:
    lite, found = answers(lambda pixels: tf.image.resize(pixels, size, "nearest"), image)
    assert lite.shape == found.shape == (1, *size, 1)
    return lite[0, :, :, 0].astype(int).tolist(), found[0, :, :, 0].astype(int).tolist()


lite, found = resized((12, 16))
assert lite == found == np.kron(image[0, :, :, 0], np.ones((2, 2))).astype(int).tolist()
lite, found = resized((3, 4))
(node,) = onnx.load("network.onnx").graph.node
attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
print(f"halved: TensorFlow Lite {lite}")
print(f"halved: tflite2onnx {found}")
print(f"attributes: {attributes['coordinate_transformation_mode']}, {attributes['nearest_mode']}")
assert lite == image[0, 1::2, 1::2, 0].tolist()
assert found == image[0, ::2, ::2, 0].tolist(), "the behaviour has changed"
lite, found = resized((4, 5))
print(f"columns that are left if 8 become 5: TensorFlow Lite {lite[0]}, tflite2onnx {found[0]}")
assert lite[0] == [0, 2, 4, 5, 7]
assert found[0] == [0, 2, 3, 5, 7], "the behaviour has changed"
PYTHON

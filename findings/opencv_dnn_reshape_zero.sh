#!/bin/bash
# OpenCV's dnn takes a 0 in a Reshape for a size of the tensor before the last Reshape, if two follow each other.
#
# Expected: 0 in the shape of ONNX's Reshape copies the size at that place from its own input.
# Seen with OpenCV 5.0.0.93 and the new engine, which is the usual one: it joins the two to one layer, and copies from
# the input of the first. [1, 12, 4, 4] to [1, 12, 1, 16] to (0, 4, 3, -1) is right, as those sizes agree;
# [1, 12, 4, 4] to [1, 3, 4, 16] to (0, 0, -1) gives [1, 12, 16] instead of [1, 3, 64], and a softmax over three classes
# becomes one over twelve. With a Relu between the two it is right, and so is the old engine, with two layers: it has to
# be asked for by name and with a file, as a network from memory gets the new engine then too. ONNX Runtime 1.32.0 is
# right for each.
# Why it matters: heads of detectors are reshaped more than once, and converters write 0 for "as before". Flattened at
# the end, the answer has the right size and wrong probabilities, without a word.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    opencv-python-headless==5.0.0.93 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import sys

import cv2
import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper, save

scores = np.random.default_rng(0).standard_normal((1, 12, 4, 4)).astype(np.float32)
path = f"{sys.argv[1]}/network.onnx"
print(f"OpenCV {cv2.__version__}, ONNX Runtime {onnxruntime.__version__}")


def answers(first: list[int], second: list[int], between: bool = False, flatten: bool = False) -> dict:
    """The probabilities by ONNX Runtime and by each engine of OpenCV."""
    nodes = [helper.make_node("Reshape", ["scores", "first"], ["once"])]
    if between:
        nodes.append(helper.make_node("Relu", ["once"], ["positive"]))
    nodes += [
        helper.make_node("Reshape", ["positive" if between else "once", "second"], ["twice"]),
        helper.make_node("Softmax", ["twice"], ["softmax" if flatten else "probabilities"], axis=1),
    ]
    if flatten:
        nodes.append(helper.make_node("Flatten", ["softmax"], ["probabilities"]))
    sizes = [f"size {axis}" for axis in range(2 if flatten else len(second))]  # those the Reshapes give
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, list(scores.shape))],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, sizes)],
        [numpy_helper.from_array(np.array(shape), name) for name, shape in (("first", first), ("second", second))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = {"ONNX Runtime": session.run(None, {"scores": scores})[0]}
    memory = np.frombuffer(model.SerializeToString(), np.uint8)
    networks = {
        "new engine": cv2.dnn.readNetFromONNX(path, cv2.dnn.ENGINE_NEW),
        "no engine asked for": cv2.dnn.readNetFromONNX(path),
        "old engine": cv2.dnn.readNetFromONNX(path, cv2.dnn.ENGINE_CLASSIC),
        "old engine, from memory": cv2.dnn.readNetFromONNX(memory, cv2.dnn.ENGINE_CLASSIC),
    }
    middle, end = ", Relu" if between else "", ", flattened" if flatten else ""
    print(f"{list(scores.shape)} to {first}{middle}, to {second}{end}")
    print(f"  ONNX Runtime: {list(found['ONNX Runtime'].shape)}")
    for name, network in networks.items():
        network.setInput(scores)
        found[name] = network.forward()
        layers = [network.getLayer(layer).type for layer in network.getLayerNames()]
        reshapes = sum(layer.startswith("Reshape") for layer in layers)
        print(f"  {name}: {list(found[name].shape)}, by {', '.join(layers)}")
        assert reshapes == (2 if between or name == "old engine" else 1), "the behaviour has changed"
    return found


def differences(found: dict) -> dict[str, float]:
    """How far the answers are from that of ONNX Runtime, if they have its shape."""
    right = found["ONNX Runtime"]
    assert all(value.shape == right.shape for value in found.values()), "the behaviour has changed"
    most = {name: round(float(np.abs(value - right).max()), 6) for name, value in found.items()}
    print(f"  off by {most}")
    return most


plain = answers([1, 3, 4, 16], [0, 0, -1])
flat = differences(answers([1, 3, 4, 16], [0, 0, -1], flatten=True))
right = plain["ONNX Runtime"]
assert right.shape == plain["old engine"].shape == (1, 3, 64), "the behaviour has changed"
assert np.abs(plain["old engine"] - right).max() < 1e-5 and flat["old engine"] < 1e-5, "the behaviour has changed"
for name in ("new engine", "no engine asked for", "old engine, from memory"):
    sums = plain[name].sum(1)
    print(f"{name}: without Flatten the sums over {plain[name].shape[1]} are {sums.min():.5f} to {sums.max():.5f}")
    assert plain[name].shape == (1, 12, 16) and np.abs(sums - 1).max() < 1e-5, "the behaviour has changed"
    assert flat[name] > 0.1, "the behaviour has changed"
for first, second, between in (
    ([1, 3, 4, 16], [1, 3, -1], False),
    ([1, 3, 4, 16], [0, 0, -1], True),
    ([1, 12, 1, 16], [0, 4, 3, -1], False),
):
    most = differences(answers(first, second, between))
    assert max(most.values()) < 1e-5, "the behaviour has changed"
PYTHON

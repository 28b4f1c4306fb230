#!/bin/bash
# OpenCV's dnn takes a 0 in a Reshape for a size of the tensor before the last Reshape, if two follow each other.
#
# Expected: 0 in the shape of ONNX's Reshape copies the size at that place from its own input.
# Seen with OpenCV 5.0.0.93, with the old engine as with the new one: it joins the two, and copies from the input of the
# first. [1, 12, 4, 4] to [1, 12, 1, 16] to (0, 4, 3, -1) is right, as those sizes agree; [1, 12, 4, 4] to [1, 3, 4, 16]
# to (0, 0, -1) gives [1, 12, 16] instead of [1, 3, 64], and a softmax over three classes becomes one over twelve. With
# a Relu between the two it is right. ONNX Runtime 1.32.0 is right for each.
# Why it matters: heads of detectors are reshaped more than once, and converters write 0 for "as before". Flattened at
# the end, the answer has the right size and wrong probabilities, without a word.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    opencv-python-headless==5.0.0.93 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import cv2
import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

scores = np.random.default_rng(0).standard_normal((1, 12, 4, 4)).astype(np.float32)
ENGINES = {"old": cv2.dnn.ENGINE_CLASSIC, "new": cv2.dnn.ENGINE_NEW}
print(f"OpenCV {cv2.__version__}, ONNX Runtime {onnxruntime.__version__}")


def difference(first: list[int], second: list[int], between: bool = False) -> dict[str, float]:
    """How far the flattened probabilities are from those of ONNX Runtime, for each engine of OpenCV."""
    nodes = [helper.make_node("Reshape", ["scores", "first"], ["once"])]
    if between:
        nodes.append(helper.make_node("Relu", ["once"], ["positive"]))
    nodes += [
        helper.make_node("Reshape", ["positive" if between else "once", "second"], ["twice"]),
        helper.make_node("Softmax", ["twice"], ["softmax"], axis=1),
        helper.make_node("Flatten", ["softmax"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, list(scores.shape))],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, scores.size])],
        [numpy_helper.from_array(np.array(shape), name) for name, shape in (("first", first), ("second", second))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    file = model.SerializeToString()
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (right,) = session.run(None, {"scores": scores})
    found = {}
    for name, engine in ENGINES.items():
        network = cv2.dnn.readNetFromONNX(np.frombuffer(file, np.uint8), engine)
        network.setInput(scores)
        given = network.forward()
        assert given.shape == right.shape, "the behaviour has changed"
        found[name] = round(float(np.abs(given - right).max()), 6)
    print(f"{list(scores.shape)} to {first}{', Relu' if between else ''}, to {second}: {found} off")
    return found


wrong = difference([1, 3, 4, 16], [0, 0, -1])
assert min(wrong.values()) > 0.1, "the behaviour has changed"
for right in (
    difference([1, 3, 4, 16], [1, 3, -1]),
    difference([1, 3, 4, 16], [0, 0, -1], between=True),
    difference([1, 12, 1, 16], [0, 4, 3, -1]),
):
    assert max(right.values()) < 1e-5, "the behaviour has changed"
PYTHON

#!/bin/bash
# onnx2keras pads max pools with zeros that win, and average pools with zeros that count.
#
# Expected: the padding of ONNX's MaxPool never wins, and that of AveragePool does not count unless count_include_pad
# says so (it is 0 if it is left out), as in ONNX Runtime.
# Seen with onnx2keras 0.0.25: a layer ZeroPadding2D goes in front of the pool. The max pool of a map of -1 is 0 along
# the border, and the average pool of a map of ones gives 0.44 in the corner and 0.67 along the border. Only stride 1
# with an odd kernel is right, where the pool itself pads.
# Why it matters: max pools behind a batch normalisation or a leaky activation see negative values, and average pools
# exported with count_include_pad=False are meant not to darken the border. The numbers at two sides of the map are
# wrong, its size is right, and nothing is said.
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
from onnx import TensorProto, checker, helper
from onnx2keras import onnx_to_keras


def answers(kind: str, image: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """What ONNX Runtime and the converted network say."""
    graph = helper.make_graph(
        [helper.make_node(kind, ["image"], ["answer"], kernel_shape=[3, 3], strides=[stride] * 2, pads=[1] * 4)],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 1, 6 // stride, 6 // stride])],
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
for kind, value, right, seen in (
    ("MaxPool", -1, -1, [[0, 0, 0], [0, -1, -1], [0, -1, -1]]),
    ("AveragePool", 1, 1, [[4 / 9, 6 / 9, 6 / 9], [6 / 9, 1, 1], [6 / 9, 1, 1]]),
):
    image = np.full((1, 1, 6, 6), value, np.float32)
    for stride in (1, 2):
        runtime, keras = answers(kind, image, stride)
        print(f"{kind}, stride {stride}, map of {value}: ONNX Runtime {np.unique(runtime)}")
        print(f"onnx2keras {keras[0, 0].astype(float).round(2).tolist()}")
        assert runtime.shape == keras.shape and np.all(runtime == right)
        wrong = np.array(seen) if stride == 2 else np.full((6, 6), value)
        assert np.allclose(keras[0, 0], wrong, atol=1e-6), "the behaviour has changed"
PYTHON

#!/bin/bash
# onnx2keras moves rows where the network shuffles channels, if it changes the order of the axes.
#
# Expected: change_ordering=True gives a network that takes pictures with channels last and answers as the file does.
# Seen with onnx2keras 0.0.25: the Reshape of a channel shuffle (to groups, channels, rows and columns) is turned to
# (groups, rows, columns, channels) on a map with channels last, which cuts groups out of the rows instead of the
# channels. Four maps filled with 0, 1, 2 and 3 should come out as 0, 2, 1, 3; they come out as 0, 1, 2, 3, or mixed if
# the number of rows is odd.
# Why it matters: ShuffleNet is built of this, and change_ordering=True is what the documentation asks for on a CPU and
# for LiteRT. The converted network has the right sizes everywhere and mixes up the picture; nothing is said.
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
from onnx import TensorProto, checker, helper, numpy_helper
from onnx2keras import onnx_to_keras


def answers(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What ONNX Runtime and the converted network say."""
    _, channels, rows, columns = image.shape
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["image", "groups"], ["grouped"]),
            helper.make_node("Transpose", ["grouped"], ["exchanged"], perm=[0, 2, 1, 3, 4]),
            helper.make_node("Reshape", ["exchanged", "whole"], ["answer"]),
        ],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [*image.shape])],
        [
            numpy_helper.from_array(np.array([1, 2, channels // 2, rows, columns]), "groups"),
            numpy_helper.from_array(np.array([1, channels, rows, columns]), "whole"),
        ],
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
for rows, columns in ((8, 8), (3, 5)):
    maps = np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1)
    runtime, keras = answers(np.broadcast_to(maps, (1, 4, rows, columns)).copy())
    right, found = ([np.unique(each).tolist() for each in answer[0]] for answer in (runtime, keras))
    print(f"{rows}x{columns}, maps of 0, 1, 2, 3: ONNX Runtime {right}, onnx2keras {found}")
    assert runtime.shape == keras.shape and right == [[0], [2], [1], [3]]
    seen = [[0], [1], [2], [3]] if rows == 8 else [[0, 2], [1, 3], [0, 2], [1, 3]]
    assert found == seen, "the behaviour has changed"
PYTHON

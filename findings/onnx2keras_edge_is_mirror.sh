#!/bin/bash
# onnx2keras mirrors the picture where ONNX's Pad with mode edge repeats its last row.
#
# Expected: a row 1, 2, 3, 4 padded by two on each side is 1, 1, 1, 2, 3, 4, 4, 4, as in ONNX Runtime.
# Seen with onnx2keras 0.0.25: it is 2, 1, 1, 2, 3, 4, 4, 3. The converter writes tf.pad with SYMMETRIC, which is the
# same for one pixel and another thing for more. With change_ordering=True it also pads rows as channels, so this is
# seen with the usual order, which needs no convolution to run on a CPU.
# Why it matters: F.pad(mode="replicate") and nn.ReplicationPad2d become this node. Kernels of 5 and 7 pad by two and
# three, and see another border in the converted network; the size is right, and nothing is said.
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


def answers(image: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """What ONNX Runtime and the converted network say."""
    graph = helper.make_graph(
        [helper.make_node("Pad", ["image", "pads"], ["answer"], mode="edge")],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 1, 4 + 2 * pixels, 4 + 2 * pixels])],
        [numpy_helper.from_array(np.array([0, 0, pixels, pixels] * 2), "pads")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with contextlib.redirect_stdout(io.StringIO()):
        converted = onnx_to_keras(model, ["image"], verbose=False)
        found = converted.predict(image, verbose=0)
    return session.run(None, {"image": image})[0], found


packages = ("onnx2keras", "tensorflow-cpu", "keras", "onnxruntime", "onnx")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
row = np.arange(1, 5, dtype=np.float32)
image = np.tile(row, (4, 1)).reshape(1, 1, 4, 4)
for pixels, mirrored in ((1, [1, 1, 2, 3, 4, 4]), (2, [2, 1, 1, 2, 3, 4, 4, 3]), (3, [3, 2, 1, 1, 2, 3, 4, 4, 3, 2])):
    runtime, keras = answers(image, pixels)
    right = [1] * pixels + [1, 2, 3, 4] + [4] * pixels
    print(f"padded by {pixels}: ONNX Runtime {runtime[0, 0, 0].tolist()}, onnx2keras {keras[0, 0, 0].tolist()}")
    assert runtime.shape == keras.shape and runtime[0, 0, 0].tolist() == right
    assert keras[0, 0, 0].tolist() == mirrored and (mirrored == right) == (pixels == 1), "the behaviour has changed"
PYTHON

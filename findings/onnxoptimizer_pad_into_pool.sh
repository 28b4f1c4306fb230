#!/usr/bin/env bash
# onnxoptimizer moves a padding with zeros into MaxPool, whose own padding is not of zeros.
#
# Expected: its passes keep what a network answers.
# Seen with onnxoptimizer 0.4.2: fuse_pad_into_pool, one of the passes that run by default, makes pads of the pool out
# of a Pad in front of it. MaxPool's own padding never wins, but zeros do where all else is negative.
# Why it matters: the optimised network has other borders; what comes out of a ReLU hides it, a signed image does not.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx==1.23.2 onnxoptimizer==0.4.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import numpy as np
import onnx
import onnxoptimizer
import onnxruntime
from onnx import helper, numpy_helper

pads = numpy_helper.from_array(np.array([0, 0, 0, 1, 0, 0, 0, 1], dtype=np.int64), "pads")
zero = numpy_helper.from_array(np.array(0, dtype=np.float32), "zero")
x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 1, 4])
y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 1, 3])


def run(model: onnx.ModelProto, image: np.ndarray) -> list[float]:
    """What ONNX Runtime answers."""
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": image})[0].ravel().tolist()


print(f"onnx {onnx.__version__}, onnxoptimizer {onnxoptimizer.version.version}, ONNX Runtime {onnxruntime.__version__}")
pad = helper.make_node("Pad", ["x", "pads", "zero"], ["padded"])
pool = helper.make_node("MaxPool", ["padded"], ["y"], kernel_shape=[1, 2], strides=[1, 2])
graph = helper.make_graph([pad, pool], "pool", [x], [y], [pads, zero])
network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
image = np.full((1, 1, 1, 4), -5, dtype=np.float32)
before, after = run(network, image), run(onnxoptimizer.optimize(network), image)
print(f"MaxPool of -5 between zeros: {before}; optimised: {after}")
assert before == [0, -5, 0] and after == [-5, -5, -5], "the behaviour has changed"
PYTHON

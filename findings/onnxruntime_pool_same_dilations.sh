#!/usr/bin/env bash
# ONNX Runtime forgets the dilations when it pads a MaxPool or AveragePool with auto_pad SAME: the output is too small.
#
# Expected: with SAME_UPPER or SAME_LOWER the output has ceil(size / stride) places, as ONNX's text of them says.
# Seen with ONNX Runtime 1.32.0: a window of 3 with dilation 2 on 7 places gives 5, not 7. It pads for a window of 3,
# and then pools over one of 5. ONNX's shape inference says 7, and so does a warning of the session where the pool is
# the output of the network. Without dilations the size is right; Conv with SAME and dilations is refused in words.
# Why it matters: inside a network nothing warns, and before a global pool no size tells: the answer is another one.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import helper

image = np.arange(49, dtype=np.float32).reshape(1, 1, 7, 7)


def sizes(operator: str, padding: str, dilation: int) -> tuple[int, int]:
    """The width that ONNX infers, and the width that ONNX Runtime gives."""
    node = helper.make_node(operator, ["x"], ["y"], auto_pad=padding, kernel_shape=[3, 3], dilations=[dilation] * 2)
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 1, 7, 7])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["a", "b", "c", "d"])
    model = helper.make_model(
        helper.make_graph([node], "pool", [x], [y]), opset_imports=[helper.make_opsetid("", 19)], ir_version=10
    )
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape.dim[3].dim_value
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return inferred, session.run(None, {"x": image})[0].shape[3]


print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}, 7 places: (ONNX infers, the runtime gives)")
for operator in ("MaxPool", "AveragePool"):
    for padding in ("SAME_UPPER", "SAME_LOWER"):
        plain, dilated = sizes(operator, padding, 1), sizes(operator, padding, 2)
        print(f"{operator} {padding}: dilation 1 {plain}, dilation 2 {dilated}")
        assert plain == (7, 7) and dilated == (7, 5), "the behaviour has changed"
PYTHON

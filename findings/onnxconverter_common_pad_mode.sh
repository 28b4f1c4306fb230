#!/bin/bash
# onnxconverter-common's optimiser pads with zeros where the network repeats or mirrors the border, or pads with 2.
#
# Expected: optimize_onnx_model() gives the same numbers; a Pad goes into the convolution behind it only if it pads with
# zeros, as the convolution does.
# Seen with onnxconverter-common 1.16.0: it puts the number of rows and columns into the attribute pads of the Conv and
# removes the Pad, without looking at its mode and its value. edge, reflect and a constant of 2 all become zeros. It
# also overwrites auto_pad, so that the padding of the Conv itself is lost: 8x8 becomes 8x8 instead of 10x10.
# Why it matters: nn.Conv2d(padding_mode="reflect") and networks for style, depth and restoration are written so. The
# optimised network has wrong numbers along its border at each layer, and the right size for the modes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnxconverter-common==1.16.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper
from onnxconverter_common.optimizer import optimize_onnx_model

image = np.ones((1, 1, 8, 8), np.float32)


def answer(model: onnx.ModelProto) -> np.ndarray:
    """What ONNX Runtime says."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0][0, 0]


def before_and_after(mode: str, value: float, **convolution) -> tuple[np.ndarray, np.ndarray]:
    """The sums of 3x3 places of a padded map of ones, before and after the optimisation."""
    graph = helper.make_graph(
        [
            helper.make_node("Abs", ["image"], ["map"], name="first"),
            helper.make_node("Pad", ["map", "pads", "value"], ["padded"], mode=mode, name="pad"),
            helper.make_node("Conv", ["padded", "weights"], ["sums"], kernel_shape=[3, 3], name="sum", **convolution),
            helper.make_node("Relu", ["sums"], ["answer"], name="last"),
        ],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 1, "rows", "columns"])],
        [
            numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads"),
            numpy_helper.from_array(np.float32(value), "value"),
            numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    right = answer(model)
    optimised = optimize_onnx_model(model)
    checker.check_model(optimised, full_check=True)
    return right, answer(optimised)


packages = ("onnxconverter-common", "onnx", "onnxruntime")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
for mode, value, corner in (("constant", 0, 4), ("constant", 2, 14), ("edge", 0, 9), ("reflect", 0, 9)):
    right, found = before_and_after(mode, value)
    print(f"{mode} {value}: {right.shape}, corner {right[0, 0]:g}, inside {right[3, 3]:g}; ", end="")
    print(f"optimised {found.shape}, corner {found[0, 0]:g}, inside {found[3, 3]:g}")
    assert right.shape == (8, 8) and right[0, 0] == corner and right[3, 3] == 9
    assert found.shape == (8, 8) and found[0, 0] == 4 and found[3, 3] == 9, "the behaviour has changed"
right, found = before_and_after("constant", 0, auto_pad="SAME_UPPER")
print(f"Conv with auto_pad SAME_UPPER: {right.shape}, optimised {found.shape}")
assert right.shape == (10, 10)
assert found.shape == (8, 8), "the behaviour has changed"
PYTHON

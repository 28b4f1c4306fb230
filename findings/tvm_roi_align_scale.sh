#!/bin/bash
# TVM moves the boxes of RoiAlign by half a pixel of the image, where half a pixel of the map is meant.
#
# Expected: with the mode half_pixel, the default from opset 16 on, ONNX's RoiAlign scales a box from the image to the
# map, and takes half a pixel off then: box * spatial_scale - 0.5, as torchvision's roi_align(aligned=True) does.
# Seen with TVM 0.27.0.post1: it takes the half off before, (box - 0.5) * spatial_scale. On a map of 1/16 of the image
# all samples lie 15/32 of a pixel of the map, or 7.5 pixels of the image, too far to the right and the bottom, and
# nothing is said; on one of 1/4 it is 3/8 of a pixel. With a scale of 1, or output_half_pixel, it is right. The map is
# a ramp, whose mean over a box is the place of the box's middle; ONNX Runtime 1.32.0 agrees with that for each.
# Why it matters: the maps of Faster and Mask R-CNN are 1/4 to 1/32 of the image; each class, box and mask is then read
# beside the object.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    apache-tvm==0.27.0.post1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 TVM_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnxruntime
import tvm
from onnx import TensorProto, checker, helper, numpy_helper
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

LEFT, RIGHT = 4, 10  # of the box, in pixels of the map
ramp = np.broadcast_to(np.arange(16, dtype=np.float32), (1, 1, 16, 16)).copy()


def means(scale: float, mode: str) -> dict[str, float]:
    """The mean of the ramp over the box."""
    box = np.array([[LEFT, LEFT, RIGHT, RIGHT]], np.float32) / scale
    layer = {"output_height": 1, "output_width": 1, "sampling_ratio": 2, "spatial_scale": scale}
    node = helper.make_node("RoiAlign", ["map", "box", "image"], ["mean"], coordinate_transformation_mode=mode, **layer)
    graph = helper.make_graph(
        [node],
        "head",
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, list(ramp.shape))],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, 1, 1, 1])],
        [numpy_helper.from_array(box, "box"), numpy_helper.from_array(np.array([0]), "image")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    machine = relax.VirtualMachine(tvm.compile(from_onnx(model), target="llvm"), tvm.cpu())
    return {
        "TVM": machine["main"](tvm.runtime.tensor(ramp)).numpy().item(),
        "ONNX Runtime": session.run(None, {"map": ramp})[0].item(),
    }


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("apache-tvm", "onnxruntime", "onnx")))
for scale in (1.0, 1 / 4, 1 / 16):
    for mode in ("half_pixel", "output_half_pixel"):
        by_hand = (LEFT + RIGHT) / 2 - (0.5 if mode == "half_pixel" else 0)
        found = means(scale, mode)
        print(f"map of {scale} of the image, {mode}: {found}, by hand {by_hand}")
        off = 0.5 * (1 - scale) if mode == "half_pixel" else 0
        assert found == {"TVM": by_hand + off, "ONNX Runtime": by_hand}, "the behaviour has changed"
PYTHON

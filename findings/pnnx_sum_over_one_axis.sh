#!/bin/bash
# pnnx writes an ONNX sum over one axis into ncnn files as a layer that sums nothing.
#
# Expected: ReduceSum over the channels of a 4x6x8 map gives a 6x8 map, in ncnn too, or pnnx says that it cannot.
# Seen with pnnx and ncnn of 2026-10-20: with one axis ncnn returns the 4x6x8 map as it came, whatever the axis and
# keepdims. From opset 13 on the axes of ReduceSum are an input; if it holds one number, pnnx writes a Reduction layer
# whose list of axes has no entry, and ncnn sums over no axis then. Two axes are right, and ReduceMax with the axis as
# an attribute is. pnnx ends with status 0.
# Why it matters: sums over one axis are attention weights times values, soft argmax of heat maps, and distances. The
# layers behind that broadcast take the unsummed map without a complaint.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install="python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target $folder"
$install --no-deps pnnx==20261020  # its program runs without torch
$install ncnn==1.0.20261020 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata
import subprocess

import ncnn
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

image = np.random.default_rng(0).random((1, 4, 6, 8), np.float32)


def right_and_found(name: str, axes: list[int], keepdims: int) -> tuple[np.ndarray, np.ndarray]:
    """The answers of ONNX Runtime and of ncnn; a convolution that changes nothing comes first."""
    attribute = name == "max"
    if attribute:
        node = helper.make_node("ReduceMax", ["copy"], ["out0"], axes=axes, keepdims=keepdims)
    else:
        node = helper.make_node("ReduceSum", ["copy", "axes"], ["out0"], keepdims=keepdims)
    by_hand = getattr(np, name)(image, axis=tuple(axes), keepdims=bool(keepdims))
    stored = [numpy_helper.from_array(np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1), "weights")]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["in0", "weights"], ["copy"]), node],
        "network",
        [helper.make_tensor_value_info("in0", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("out0", TensorProto.FLOAT, by_hand.shape)],
        stored if attribute else [*stored, numpy_helper.from_array(np.array(axes), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    onnx.save(model, "network.onnx")
    session = onnxruntime.InferenceSession("network.onnx", providers=["CPUExecutionProvider"])
    right = session.run(None, {"in0": image})[0][0]
    options = ["inputshape=[1,4,6,8]", "fp16=0"]
    subprocess.run(["pnnx/pnnx", "network.onnx", *options], capture_output=True, check=True)
    with ncnn.Net() as net:
        net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_fp16_packed = False
        assert net.load_param("network.ncnn.param") == 0 and net.load_model("network.ncnn.bin") == 0, "it loads"
        run = net.create_extractor()
        given = ncnn.Mat(image[0]).clone()
        run.input("in0", given)
        code, answer = run.extract("out0")
        assert code == 0, "it runs"
        found = np.array(answer).copy()
        del answer, run
    assert np.allclose(right, by_hand[0], atol=1e-5), "it is right in ONNX Runtime"
    return right, found


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("pnnx", "ncnn", "onnx", "onnxruntime")))
for name, axes, keepdims, good in (
    ("max", [1], 0, True), ("sum", [2, 3], 1, True), ("sum", [1], 0, False), ("sum", [1], 1, False),
    ("sum", [2], 0, False), ("sum", [3], 1, False), ("sum", [-1], 0, False),
):
    right, found = right_and_found(name, axes, keepdims)
    print(f"{name} over {axes}, keepdims={keepdims}: should have shape {right.shape}, has {found.shape}")
    if good:
        assert np.allclose(found.reshape(right.shape), right, atol=1e-4), "the behaviour has changed"
    else:
        assert found.shape == image[0].shape and np.allclose(found, image[0], atol=1e-5), "the behaviour has changed"
PYTHON

#!/bin/bash
# pnnx writes a LayerNorm over channels, rows and columns into ncnn files as one of each channel for itself.
#
# Expected: LayerNormalization with axis=1 (nn.LayerNorm([C, H, W]) in PyTorch) takes one mean and one variance for the
# whole image and has a factor for each number; or pnnx leaves a layer that ncnn's load_param() refuses.
# Seen with pnnx and ncnn of 2026-10-20: each channel is brought to a mean of 0 and a variance of 1 for itself, and all
# channels get the factors and the offsets of the first one. pnnx writes ncnn's LayerNorm with the size C * H * W;
# ncnn's layer knows rows, or rows and columns, and takes every other size for the latter. LayerNorm over the last
# axis, or over the last two, is right. pnnx ends with status 0; the map has the right shape.
# Why it matters: such layers stand in networks for segmentation and video. How strong the channels are against each
# other is what they tell, and it is lost, on the device only.
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

random = np.random.default_rng(0)
image = random.random((1, 4, 6, 8), np.float32) * np.array([1, 2, 4, 8], np.float32).reshape(4, 1, 1)


def normalised(maps: np.ndarray, axes: tuple) -> np.ndarray:
    """With a mean of 0 and a variance of 1 over the axes."""
    return (maps - maps.mean(axes, keepdims=True)) / np.sqrt(maps.var(axes, keepdims=True) + 1e-5)


def right_and_found(axis: int, factors: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The answers of ONNX Runtime and of ncnn; a convolution that changes nothing comes first."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["in0", "weights"], ["copy"]),
            helper.make_node("LayerNormalization", ["copy", "factors", "offsets"], ["out0"], axis=axis),
        ],
        "network",
        [helper.make_tensor_value_info("in0", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("out0", TensorProto.FLOAT, image.shape)],
        [
            numpy_helper.from_array(np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1), "weights"),
            numpy_helper.from_array(factors, "factors"),
            numpy_helper.from_array(offsets, "offsets"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
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
    return right, found


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("pnnx", "ncnn", "onnx", "onnxruntime")))
for axis in (3, 2, 1):
    factors, offsets = random.random((2, *image.shape[axis:]), np.float32)
    right, found = right_and_found(axis, factors, offsets)
    by_hand = normalised(image[0], tuple(range(axis - 1, 3))) * factors + offsets
    assert np.allclose(right, by_hand, atol=1e-4), "it is right in ONNX Runtime"
    print(f"over {factors.shape}: wrong by up to {np.abs(found - right).max():.4f}")
    if axis == 1:
        each = normalised(image[0], (1, 2)) * factors[0] + offsets[0]
        assert np.allclose(found, each, atol=1e-4), "the behaviour has changed"
        assert not np.allclose(found, right, atol=0.1), "the behaviour has changed"
    else:
        assert np.allclose(found, right, atol=1e-4), "the behaviour has changed"
PYTHON

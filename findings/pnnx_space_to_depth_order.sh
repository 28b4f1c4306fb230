#!/bin/bash
# pnnx takes the channels of an ONNX SpaceToDepth in another order, that of PyTorch's pixel_unshuffle.
#
# Expected: SpaceToDepth puts the pixels of each 2x2 block behind each other with all channels of the first pixel first,
# then all of the second; so ONNX says, and TensorFlow's space_to_depth does.
# Seen with pnnx and ncnn of 2026-10-20: pnnx makes F.pixel_unshuffle and ncnn's Reorg of it, with all four pixels of
# the first channel first. The numbers are right and the channels exchanged, unless the map has one channel. Nothing is
# said. DepthToSpace in the same order, the mode DCR, is left as a layer that ncnn's load_param() refuses.
# Why it matters: YOLOv2's reorg layer, networks brought from TensorFlow and Focus layers written so have it, and the
# convolution behind gives each channel the weights of another one.
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


def right_and_found(channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The answers of ONNX Runtime and of ncnn, and what PyTorch's order gives."""
    image = np.arange(channels * 48, dtype=np.float32).reshape(1, channels, 6, 8)
    cut = image.reshape(channels, 3, 2, 4, 2)
    by_hand = cut.transpose(2, 4, 0, 1, 3).reshape(-1, 3, 4)
    pytorch = cut.transpose(0, 2, 4, 1, 3).reshape(-1, 3, 4)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["in0", "weights"], ["copy"]),  # changes nothing
            helper.make_node("SpaceToDepth", ["copy"], ["out0"], blocksize=2),
        ],
        "network",
        [helper.make_tensor_value_info("in0", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("out0", TensorProto.FLOAT, [1, *by_hand.shape])],
        [numpy_helper.from_array(np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    onnx.save(model, "network.onnx")
    session = onnxruntime.InferenceSession("network.onnx", providers=["CPUExecutionProvider"])
    right = session.run(None, {"in0": image})[0][0]
    options = [f"inputshape=[1,{channels},6,8]", "fp16=0"]
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
    assert (right == by_hand).all(), "it is right in ONNX Runtime"
    return right, found, pytorch


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("pnnx", "ncnn", "onnx", "onnxruntime")))
for channels in (1, 3, 4):
    right, found, pytorch = right_and_found(channels)
    order = [int(each[0, 0]) for each in found]
    print(f"{channels} channels: first pixels should be {[int(each[0, 0]) for each in right]}, are {order}")
    assert found.shape == right.shape and np.allclose(found, pytorch, atol=1e-3), "the behaviour has changed"
    assert np.allclose(found, right, atol=1e-3) == (channels == 1), "the behaviour has changed"
PYTHON

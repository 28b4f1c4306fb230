#!/bin/bash
# pnnx writes circular padding into ncnn files as padding with zeros.
#
# Expected: the network in the ncnn files answers as before, or pnnx leaves a layer that ncnn does not know, which
# ncnn's load_param() refuses, as it happens with other layers that have no counterpart.
# Seen with pnnx and ncnn of 2026-10-20: Pad of ONNX with the mode wrap becomes ncnn's Padding layer without a type,
# and its type 0 is padding with a constant: behind a 3x3 convolution all places at the border are wrong, all inside
# right. The modes edge and reflect are right. pnnx ends with status 0 and does not mention it, and its own file of
# the network (.pnnx.param) still says circular. From PyTorch it is the same: nn.CircularPad2d becomes a Padding with
# zeros, and nn.Conv2d(padding=1, padding_mode="circular") an ordinary Convolution with a padding of 1.
# Why it matters: circular padding is that of panoramas (360 degrees), maps of the globe and tiling textures; the
# seam that it is there to avoid comes back, on the device only.
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
weights = random.random((4, 3, 3, 3), np.float32)
image = random.random((1, 3, 8, 9), np.float32) + 1


def right_and_found(mode: str) -> tuple[np.ndarray, np.ndarray]:
    """The answers of ONNX Runtime and of ncnn."""
    graph = helper.make_graph(
        [
            helper.make_node("Pad", ["in0", "sizes"], ["padded"], mode=mode),
            helper.make_node("Conv", ["padded", "weights"], ["out0"]),
        ],
        "network",
        [helper.make_tensor_value_info("in0", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("out0", TensorProto.FLOAT, [1, 4, 8, 9])],
        [
            numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "sizes"),
            numpy_helper.from_array(weights, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    checker.check_model(model, full_check=True)
    onnx.save(model, "network.onnx")
    session = onnxruntime.InferenceSession("network.onnx", providers=["CPUExecutionProvider"])
    right = session.run(None, {"in0": image})[0][0]
    options = ["inputshape=[1,3,8,9]", "fp16=0"]
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
zeros = right_and_found("constant")[0]
for mode, numpy_mode in (("constant", "constant"), ("edge", "edge"), ("reflect", "reflect"), ("wrap", "wrap")):
    right, found = right_and_found(mode)
    padded = np.pad(image[0], ((0, 0), (1, 1), (1, 1)), mode=numpy_mode)
    cut = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    assert np.allclose(right, np.einsum("chwij,ocij->ohw", cut, weights), atol=1e-4), "it is right in ONNX Runtime"
    far = np.abs(found - right).max(0)
    print(f"{mode}: wrong by up to {far.max():.3f}, inside of the border by up to {far[1:-1, 1:-1].max():.6f}")
    if mode == "wrap":
        assert np.allclose(found, zeros, atol=1e-4) and far[0].min() > 0.1, "the behaviour has changed"
        assert "circular" in open("network.pnnx.param").read(), "the behaviour has changed"
    else:
        assert far.max() < 1e-4, "the behaviour has changed"
PYTHON

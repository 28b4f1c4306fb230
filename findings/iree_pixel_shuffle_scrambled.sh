#!/bin/bash
# IREE's ONNX importer scrambles DepthToSpace of the mode CRD, which is PyTorch's PixelShuffle.
#
# Expected: the map that ONNX defines: channels read as (C, r, r), of which the two r go into rows and columns. It is
# that of torch.nn.PixelShuffle(r), which torch.onnx.export writes as DepthToSpace with the mode CRD.
# Seen with IREE 3.13.0 (iree-base-compiler and iree-base-runtime, processor): the channels are read as (r, r, C), as
# in the mode DCR, and then moved as CRD moves (C, r, r). The map has the right shape, and its pixels are in other
# places: a row 0, 6, 1, 7, 2, 8 comes out as 0, 1, 2, 6, 7, 8. It is right only where the two ways of reading agree,
# that is if C equals r, such as two channels enlarged by 2. Nothing is said. The authors have been told of it for
# factors from 3 on; one channel, or three, enlarged by 2 are wrong as well.
# Why it matters: networks for segmentation and super-resolution end with this layer (one channel, or three, enlarged
# 2 to 4 times), and a test with two channels and a factor of 2 passes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    iree-base-compiler==3.13.0 iree-base-runtime==3.13.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import subprocess
import sys

import iree.runtime
import numpy as np
import onnx
import onnxruntime
from iree.compiler import compile_file
from onnx import TensorProto, checker, helper

folder = sys.argv[1]


def rearranged(image: np.ndarray, factor: int, mode: str, read_as: str) -> np.ndarray:
    """DepthToSpace by hand; read_as is the mode whose order of the channels is taken."""
    _, channels, height, width = image.shape
    kept = channels // factor**2
    cut = (kept, factor, factor) if read_as == "CRD" else (factor, factor, kept)
    order = (0, 1, 4, 2, 5, 3) if mode == "CRD" else (0, 3, 4, 1, 5, 2)
    moved = image.reshape(1, *cut, height, width).transpose(order)
    return moved.reshape(1, kept, height * factor, width * factor)


def answers(image: np.ndarray, factor: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Those of ONNX Runtime and of IREE for a network of one DepthToSpace."""
    shape = rearranged(image, factor, mode, mode).shape
    graph = helper.make_graph(
        [helper.make_node("DepthToSpace", ["image"], ["map"], blocksize=factor, mode=mode)],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    onnx.save(model, f"{folder}/network.onnx")
    session = onnxruntime.InferenceSession(f"{folder}/network.onnx", providers=["CPUExecutionProvider"])
    importer = [sys.executable, "-m", "iree.compiler.tools.import_onnx"]
    subprocess.run([*importer, f"{folder}/network.onnx", "-o", f"{folder}/network.mlir"], check=True)
    program = compile_file(f"{folder}/network.mlir", input_type="onnx", target_backends=["llvm-cpu"],
                           extra_args=["--iree-llvmcpu-target-cpu=generic"])
    config = iree.runtime.Config("local-sync")
    context = iree.runtime.SystemContext(config=config)
    context.add_vm_module(iree.runtime.VmModule.copy_buffer(config.vm_instance, program))
    return session.run(None, {"image": image})[0], context.modules.module["network"](image).to_host()


versions = ("iree-base-compiler", "iree-base-runtime", "onnxruntime", "onnx")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in versions))
for mode, kept, factor, good in (
    ("CRD", 1, 2, False), ("CRD", 2, 2, True), ("CRD", 3, 2, False), ("CRD", 1, 4, False), ("DCR", 3, 2, True),
):
    image = np.arange(kept * factor**2 * 6, dtype=np.float32).reshape(1, kept * factor**2, 2, 3)
    runtime, found = answers(image, factor, mode)
    right = rearranged(image, factor, mode, mode)
    assert (runtime == right).all(), "the other runtime is right"
    same = found.shape == right.shape and bool((found == right).all())
    print(f"{mode}, {kept} x {factor} x {factor} channels: {'right' if same else 'wrong'}; first row should be "
          f"{right[0, 0, 0].astype(int).tolist()}, is {found[0, 0, 0].astype(int).tolist()}")
    assert same == good, "the behaviour has changed"
    assert (found == rearranged(image, factor, mode, "DCR")).all(), "the behaviour has changed"
PYTHON

#!/bin/bash
# onnx2torch keeps only the first image of a batch behind a Dropout or a MaxPool whose second output is named.
#
# Expected: the mask of Dropout and the indices of MaxPool are outputs that a file may name and nobody needs to read;
# the network answers the same with and without their names.
# Seen with onnx2torch 1.5.15: the converted layer gives one tensor, and the next one takes its element 0, which is the
# first image. A batch of four gives the answer for the first one, without an axis for the batch; Linear and Conv2d take
# that, and nothing is said. ONNX Runtime 1.32.0 is right with each file. Taking the name out of the file does without
# it, which changes nothing for others.
# Why it matters: torch.onnx.export(dynamo=False) names the mask when it writes a network in training mode. A batch then
# has one row of scores, to be compared with all labels.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx2torch==1.5.15 torch==2.15.0 torchvision==0.29.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata
import warnings

import numpy as np
import onnx2torch
import onnxruntime
import torch
from onnx import TensorProto, checker, helper, numpy_helper

random = np.random.default_rng(0)
images = random.standard_normal((4, 8, 6, 6)).astype(np.float32)
weights = {
    "kernel": random.standard_normal((5, 8, 3, 3)).astype(np.float32),
    "classes": random.standard_normal((8, 3)).astype(np.float32),
}


def dropout(outputs: list[str]) -> list:
    """The head of a classifier."""
    return [
        helper.make_node("GlobalAveragePool", ["images"], ["means"]),
        helper.make_node("Flatten", ["means"], ["features"]),
        helper.make_node("Dropout", ["features"], outputs),
        helper.make_node("Gemm", [outputs[0], "classes"], ["answer"]),
    ]


def pool(outputs: list[str]) -> list:
    """A pool, and a convolution behind it."""
    return [
        helper.make_node("MaxPool", ["images"], outputs, kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", [outputs[0], "kernel"], ["answer"], pads=[1, 1, 1, 1]),
    ]


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("onnx2torch", "torch", "onnxruntime")))
for layer, constant, second, shape in (
    (dropout, "classes", "mask", (4, 3)),
    (pool, "kernel", "indices", (4, 5, 3, 3)),
):
    for outputs in (["kept"], ["kept", second]):
        graph = helper.make_graph(
            layer(outputs),
            "network",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 8, 6, 6])],
            [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", *shape[1:]])],
            [numpy_helper.from_array(weights[constant], constant)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        right = session.run(None, {"images": images})[0]
        assert right.shape == shape, "the behaviour has changed"
        with warnings.catch_warnings(record=True) as caught, torch.no_grad():
            warnings.simplefilter("always")
            answer = onnx2torch.convert(model).eval()(torch.from_numpy(images)).numpy()
        said = [str(warning.message) for warning in caught if "onnx2torch" in warning.filename]
        print(f"{layer.__name__} with {outputs}: {answer.shape} for {right.shape}, warnings: {said}")
        expected = right if len(outputs) == 1 else right[0]
        assert answer.shape == expected.shape and not said, "the behaviour has changed"
        assert np.abs(answer - expected).max() < 1e-4, "the behaviour has changed"
PYTHON

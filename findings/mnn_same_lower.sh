#!/bin/bash
# MNN pads a network with auto_pad SAME_LOWER as if it said SAME_UPPER: each such layer is off by a pixel.
#
# Expected: in ONNX the two differ where the padding is odd: SAME_LOWER puts the larger half before the image, at the
# top and the left, SAME_UPPER behind it, at the bottom and the right.
# Seen with MNN 3.6.1: a 3x3 convolution with stride 2 on 4 pixels, depthwise or not, one of 2x2, and a MaxPool of 2x2,
# answer with SAME_LOWER what they answer with SAME_UPPER. The converter and the run give no error. The same padding
# given as pads is right, and so is SAME_LOWER on 5 pixels for a depthwise 3x3 with stride 2, whose two halves are
# equal. ONNX Runtime 1.32.0 and a reckoning with numpy agree for each.
# Why it matters: converters of Darknet's detectors write SAME_LOWER, and MNN runs networks on phones. Each layer that
# halves an even map, as those of MobileNets and SSD do, looks one pixel too far, and nothing is said.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    mnn==3.6.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import subprocess
import sys

import MNN
import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper, save

CHANNELS = 2
path, converted = f"{sys.argv[1]}/network.onnx", f"{sys.argv[1]}/network.mnn"
random = np.random.default_rng(0)
print(f"MNN {importlib.metadata.version('mnn')}, ONNX Runtime {onnxruntime.__version__}")


def reckoned(operator: str, image: np.ndarray, weight: np.ndarray, stride: int, groups: int, lower: bool):
    """The answer for paddings whose larger half comes first, or last."""
    size, kernel = image.shape[-1], weight.shape[-1]
    places = -(-size // stride)
    total = max((places - 1) * stride + kernel - size, 0)
    start = total - total // 2 if lower else total // 2
    padded = np.full((CHANNELS, size + total, size + total), -np.inf if operator == "MaxPool" else 0, np.float64)
    padded[:, start : start + size, start : start + size] = image[0]
    answer = np.empty((1, CHANNELS, places, places))
    for row in range(places):
        for column in range(places):
            top, left = row * stride, column * stride
            window = padded[:, top : top + kernel, left : left + kernel]
            if operator == "MaxPool":
                answer[0, :, row, column] = window.max((1, 2))
            elif groups == 1:
                answer[0, :, row, column] = np.einsum("oihw,ihw->o", weight, window)
            else:
                answer[0, :, row, column] = (weight[:, 0] * window).sum((1, 2))
    return answer


def answers(operator: str, image: np.ndarray, weight: np.ndarray, **attributes) -> dict[str, np.ndarray]:
    """What ONNX Runtime and MNN answer."""
    pool = operator == "MaxPool"
    node = helper.make_node(operator, ["image"] if pool else ["image", "weight"], ["map"], **attributes)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, list(image.shape))],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, CHANNELS, "height", "width"])],
        [] if pool else [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    save(model, path)
    command = [sys.executable, "-m", "MNN.tools.mnnconvert", "-f", "ONNX", "--modelFile", path]
    run = subprocess.run([*command, "--MNNModel", converted, "--bizCode", "x"], capture_output=True, text=True)
    assert run.returncode == 0 and "error" not in (run.stdout + run.stderr).lower(), "the behaviour has changed"
    network = MNN.nn.load_module_from_file(converted, ["image"], ["map"])
    variable = MNN.expr.const(np.ascontiguousarray(image), list(image.shape), MNN.expr.NCHW, MNN.expr.float)
    given = network.forward([variable])
    given = given[0] if isinstance(given, list) else given
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return {
        "ONNX Runtime": session.run(None, {"image": image})[0],
        "MNN": np.array(MNN.expr.convert(given, MNN.expr.NCHW).read()),
    }


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool(np.abs(one - other).max() < 0.01)


for operator, size, kernel, stride, groups in (
    ("Conv", 4, 3, 2, 1),
    ("Conv", 4, 3, 2, CHANNELS),
    ("Conv", 4, 2, 1, 1),
    ("MaxPool", 4, 2, 1, 1),
    ("Conv", 5, 3, 2, CHANNELS),
):
    image = random.standard_normal((1, CHANNELS, size, size)).astype(np.float32)
    weight = random.standard_normal((CHANNELS, CHANNELS // groups, kernel, kernel)).astype(np.float32)
    layer = {"kernel_shape": [kernel, kernel], "strides": [stride, stride]}
    layer |= {} if operator == "MaxPool" else {"group": groups}
    by_hand = {
        name: reckoned(operator, image, weight, stride, groups, lower=name == "SAME_LOWER")
        for name in ("SAME_LOWER", "SAME_UPPER")
    }
    equal = size == 5
    assert same(by_hand["SAME_LOWER"], by_hand["SAME_UPPER"]) == equal, "the behaviour has changed"
    means = {}
    ways = {name: {"auto_pad": name} for name in by_hand}
    if not equal:
        ways["pads as SAME_LOWER"] = {"pads": [1, 1, 0, 0]}
    for way, padding in ways.items():
        for runtime, answer in answers(operator, image, weight, **layer, **padding).items():
            means[way, runtime] = [name for name, right in by_hand.items() if same(answer, right)]
    kind = f"{operator} {kernel}x{kernel}{', depthwise' if groups > 1 else ''}, stride {stride}, {size} pixels"
    print(kind)
    for (way, runtime), names in means.items():
        print(f"  {way} by {runtime}: as {' and '.join(names)}")
        if equal:
            assert names == ["SAME_LOWER", "SAME_UPPER"], "the behaviour has changed"
        elif way == "SAME_UPPER" or (way == "SAME_LOWER" and runtime == "MNN"):
            assert names == ["SAME_UPPER"], "the behaviour has changed"
        else:
            assert names == ["SAME_LOWER"], "the behaviour has changed"
PYTHON

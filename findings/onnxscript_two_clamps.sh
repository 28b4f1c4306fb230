#!/bin/bash
# torch.onnx.export writes a network that clamps one tensor twice to a file that cannot be loaded, and says nothing.
#
# Expected: two calls of clamp() on one tensor are two Clips in the file, each with limits of its own.
# Seen with torch 2.15.0 and onnxscript 0.7.2: clamp() becomes Max and Min, and the optimizer of onnxscript, which the
# export runs unless optimize=False is said, joins each pair to a Clip and names the limits after the tensor. Those of
# the second Clip get other names, such as images_min_1, and are not in the file. ONNX Runtime 1.32.0 and onnx 1.23.2's
# checker refuse it, even if both limits agree. optimize=False is right, and so are a clamp() of one tensor and one of
# another, a clamp() with two limits beside one with a minimum only, and two calls of hardtanh().
# Why it matters: scores or boxes that two heads clamp from one tensor are trained, tested and exported without a
# warning, and the file fails where it is to run.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch==2.15.0 onnxscript==0.7.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import torch
from onnxscript import optimizer
from torch import nn

images = 3 * torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "onnxscript", "onnxruntime")))


class Network(nn.Module):
    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.function(images)


def outcome(model: onnx.ModelProto, right: tuple[torch.Tensor, ...]) -> str:
    """What ONNX Runtime and ONNX's checker make of the network."""
    known = {value.name for value in (*model.graph.input, *model.graph.initializer)}
    known |= {name for node in model.graph.node for name in node.output}
    missing = [name for node in model.graph.node for name in node.input if name and name not in known]
    try:
        onnx.checker.check_model(model)
        checked = True
    except onnx.checker.ValidationError:
        checked = False
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument as error:
        assert missing and missing[0] in str(error) and not checked, "the behaviour has changed"
        return f"refused, without {' and '.join(missing)}"
    answers = session.run(None, {model.graph.input[0].name: images.numpy()})
    equal = all(np.array_equal(answer, value.numpy()) for answer, value in zip(answers, right, strict=True))
    assert equal and checked and not missing, "the behaviour has changed"
    return "right"


def exported(function: Callable, optimize: bool) -> onnx.ModelProto:
    """The network's file, from an export that gives no warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        program = torch.onnx.export(
            Network(function).eval(), (images,), input_names=["images"], dynamo=True, verbose=False, optimize=optimize
        )
    assert not caught, "the behaviour has changed"
    return program.model_proto


REFUSED = "refused, without images_min_1 and images_max_1"
for name, function, expected in (
    ("clamp(-1, 1) and clamp(-2, 2)", lambda x: (x.clamp(-1, 1), x.clamp(-2, 2)), REFUSED),
    ("clamp(-1, 1) and 2 * clamp(-1, 1)", lambda x: (x.clamp(-1, 1), 2 * x.clamp(-1, 1)), REFUSED),
    ("clamp(-1, 1), and clamp(-2, 2) of another tensor", lambda x: (x.clamp(-1, 1), (2 * x).clamp(-2, 2)), "right"),
    ("clamp(-1, 1) and clamp(min=0)", lambda x: (x.clamp(-1, 1), x.clamp(min=0)), "right"),
    ("hardtanh() to 1 and to 2", lambda x: (nn.functional.hardtanh(x), nn.functional.hardtanh(x, -2, 2)), "right"),
):
    right = function(images)
    raw = exported(function, optimize=False)
    given = {
        "as exported": outcome(exported(function, optimize=True), right),
        "with optimize=False": outcome(raw, right),
        "that by onnxscript's optimizer": outcome(optimizer.optimize(raw), right),
    }
    print(f"{name}: {', '.join(f'{way}: {what}' for way, what in given.items())}")
    assert list(given.values()) == [expected, "right", expected], "the behaviour has changed"
    operators = [node.op_type for node in raw.graph.node]
    assert ("Max" in operators and "Min" in operators) or name.startswith("hardtanh"), "the behaviour has changed"
PYTHON

#!/bin/bash
# amd-quark's pass onnx_fold_batch_norm gives the normalised map also to layers that read the map as it was before.
#
# Expected: a BatchNormalization can go into the layer before it if nobody else reads that layer's map; else it stays,
# or the answer changes.
# Seen with amd-quark 0.13: it is folded into a ConvTranspose, or a Gemm, all the same, and the other readers of the raw
# map are connected to the folded one. A decoder that adds the raw map to the normalised one (a skip) then adds the
# normalised one twice. No warning is given. Without the skip the answer stays. ONNX Runtime 1.32.0 runs all files.
# Why it matters: the pass belongs to quark.shapeshifter, which prepares networks for quantisation, and pre-activation
# networks read each map twice, raw for the skip and normalised for the next layer.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    amd-quark==0.13 torch==2.15.0 onnx==1.22.0 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 QUARK_LOG_LEVEL=warning python3 - <<'PYTHON'
import importlib.metadata

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper
from quark.shapeshifter import RunConfig, shapeshifter

CHANNELS = 3
random = np.random.default_rng(0)
names = ("scale", "shift", "mean", "variance")
statistics = {name: random.uniform(0.5, 2, CHANNELS).astype(np.float32) for name in names}


def network(layer: str, skip: bool):
    """A layer, its normalisation, and the sum of both if `skip`."""
    if layer == "ConvTranspose":
        given, found, size, attributes = [1, 2, 4, 4], [1, CHANNELS, 8, 8], (2, CHANNELS, 2, 2), {"strides": [2, 2]}
    else:
        given, found, size, attributes = [1, 2], [1, CHANNELS], (CHANNELS, 2), {"transB": 1}
    last = helper.make_node("Add", ["normal", "raw"], ["answer"], name="last")
    nodes = [
        helper.make_node(layer, ["map", "weight"], ["raw"], name="layer", **attributes),
        helper.make_node("BatchNormalization", ["raw", *statistics], ["normal"], name="norm", epsilon=1e-5),
        last if skip else helper.make_node("Identity", ["normal"], ["answer"], name="last"),
    ]
    weights = statistics | {"weight": random.standard_normal(size).astype(np.float32)}
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, found)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


print(", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("amd-quark", "onnxruntime", "onnx")))
for layer in ("ConvTranspose", "Gemm"):
    for skip in (False, True):
        model = network(layer, skip)
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        feed = {"map": random.standard_normal(shape).astype(np.float32)}
        answers = []
        for _ in range(2):
            session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
            answers.append(session.run(None, feed)[0])
            config = RunConfig(passes={"onnx_fold_batch_norm": {"fold_batch_norm": True}})
            model = shapeshifter(config, model=model)
        kinds = [node.op_type for node in model.graph.node]
        off = float(np.abs(answers[1] - answers[0]).max())
        print(f"{layer}, {'with' if skip else 'without'} skip: {kinds}, off by {off:.5f}")
        assert kinds == [layer, "Add" if skip else "Identity"], "the behaviour has changed"
        assert off > 0.1 if skip else off < 1e-4, "the behaviour has changed"
PYTHON

#!/bin/bash
# amd-quark's pass onnx_fold_batch_norm_after_concat gives a convolution the normalisation of other channels.
#
# Expected: the pass folds a BatchNormalization behind a Concat into the layers whose maps are joined, each with its own
# channels. It says that it verifies that "all Concat parents are foldable", and leaves it in place else.
# Seen with amd-quark 0.13: a map that no layer made, such as the image itself, is no parent. If it is joined with the
# map of a convolution, the convolution gets the first channels' normalisation, and the image gets none. If a Conv and a
# ConvTranspose are joined, the Conv is scaled as if it were a ConvTranspose, by its input channels instead of its
# output channels, since the kind of the last layer is taken for all. No warning is given, and ONNX Runtime 1.32.0
# answers otherwise. Two Convs are right.
# Why it matters: a U-Net joins the maps of a ConvTranspose and of a Conv, and networks with a skip from the image, or
# with coordinates as further channels, join the image with a map.
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
image = random.standard_normal((1, CHANNELS, 4, 4)).astype(np.float32)
names = ("scale", "shift", "mean", "variance")
weights = {name: random.uniform(0.5, 2, 2 * CHANNELS).astype(np.float32) for name in names}
weights |= {name: random.standard_normal((CHANNELS, CHANNELS, 1, 1)).astype(np.float32) for name in ("one", "other")}
LAYERS = {
    "Conv": helper.make_node("Conv", ["image", "one"], ["Conv_map"], name="conv"),
    "ConvTranspose": helper.make_node("ConvTranspose", ["image", "other"], ["ConvTranspose_map"], name="up"),
    "second Conv": helper.make_node("Conv", ["image", "other"], ["second Conv_map"], name="second"),
}


def network(joined: tuple[str, str]):
    maps = [f"{name}_map" if name in LAYERS else name for name in joined]
    nodes = [LAYERS[name] for name in joined if name in LAYERS]
    nodes += [helper.make_node("Concat", maps, ["both"], axis=1, name="join")]
    nodes += [helper.make_node("BatchNormalization", ["both", *names], ["answer"], name="norm", epsilon=1e-5)]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, list(image.shape))],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 2 * CHANNELS, 4, 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def answer(model) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


print(", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("amd-quark", "onnxruntime", "onnx")))
for joined, wrong in (
    (("Conv", "second Conv"), [False] * 6),
    (("image", "Conv"), [True] * 6),
    (("Conv", "image"), [False] * 3 + [True] * 3),
    (("Conv", "ConvTranspose"), [True] * 3 + [False] * 3),
):
    model = network(joined)
    before = answer(model)
    config = RunConfig(passes={"onnx_fold_batch_norm_after_concat": {"fold_batch_norm_after_concat": True}})
    changed = shapeshifter(config, model=model)
    off = np.abs(answer(changed) - before).max((0, 2, 3))
    print(f"{' and '.join(joined)}: channels off by {', '.join(f'{number:.3f}' for number in off)}")
    assert "BatchNormalization" not in [node.op_type for node in changed.graph.node], "the behaviour has changed"
    assert (off > 0.01).tolist() == wrong and (off[~np.array(wrong)] < 1e-4).all(), "the behaviour has changed"
PYTHON

#!/bin/bash
# tinygrad gives each of the first parts of a Split one more, where ONNX leaves what is missing to the last part.
#
# Expected: ONNX's Split into num_outputs parts that do not come out even makes all but the last one equal, and the last
# one smaller: 10 channels in 4 parts are 3, 3, 3 and 1, as torch.chunk() cuts them.
# Seen with tinygrad 0.14.0 (on its Python device, which needs no compiler): 3, 3, 2 and 2. If a layer follows that
# takes any number, such as a mean over the channels, nothing is said, and the last two of four means are those of other
# channels. ONNX Runtime 1.32.0 and onnx 1.23.2's reference evaluator are as expected, and so is tinygrad if the file
# names the sizes, which does without it.
# Why it matters: branches of a network and sets of classes are cut apart with Split.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    tinygrad==0.14.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
export XDG_CACHE_HOME="$folder/cache" DEV=PYTHON
PYTHONPATH="$folder" python3 - "$folder/network.onnx" <<'PYTHON'
import importlib.metadata
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tinygrad.nn.onnx import OnnxRunner


def means(channels: int, parts: int, sizes: list[int] | None) -> dict[str, list[float]]:
    """The means of the parts of 0, 1, 2 and so on."""
    names = [f"part_{i}" for i in range(parts)]
    inputs, attributes = (["scores", "sizes"], {}) if sizes else (["scores"], {"num_outputs": parts})
    nodes = [helper.make_node("Split", inputs, names, axis=1, **attributes)]
    nodes += [helper.make_node("ReduceMean", [name, "axis"], [f"{name}_mean"]) for name in names]
    nodes += [helper.make_node("Concat", [f"{name}_mean" for name in names], ["means"], axis=1)]
    initializers = [numpy_helper.from_array(np.array([1]), "axis")]
    initializers += [numpy_helper.from_array(np.array(sizes), "sizes")] if sizes else []
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, channels])],
        [helper.make_tensor_value_info("means", TensorProto.FLOAT, [1, parts])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    onnx.save(model, sys.argv[1])
    feed = {"scores": np.arange(channels, dtype=np.float32)[None]}
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    return {
        "tinygrad": OnnxRunner(sys.argv[1])(feed)["means"].numpy()[0].tolist(),
        "ONNX Runtime": session.run(None, feed)[0][0].tolist(),
        "onnx's reference": ReferenceEvaluator(model).run(None, feed)[0][0].tolist(),
    }


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("tinygrad", "onnxruntime", "onnx")))
for channels, parts, sizes, right, seen in (
    (10, 4, None, [1.0, 4.0, 7.0, 9.0], [1.0, 4.0, 6.5, 8.5]),
    (10, 4, [3, 3, 3, 1], [1.0, 4.0, 7.0, 9.0], [1.0, 4.0, 7.0, 9.0]),
    (12, 4, None, [1.0, 4.0, 7.0, 10.0], [1.0, 4.0, 7.0, 10.0]),
):
    found = means(channels, parts, sizes)
    print(f"{channels} channels in {parts} parts{f' of {sizes}' if sizes else ''}: {found}")
    assert found == {"tinygrad": seen, "ONNX Runtime": right, "onnx's reference": right}, "the behaviour has changed"
PYTHON

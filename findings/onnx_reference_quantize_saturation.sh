#!/usr/bin/env bash
# ONNX's reference evaluator quantises very large values to 0, where QuantizeLinear saturates: they should give 255.
#
# Expected: the operator's text has y = saturate(x / y_scale + y_zero_point): what is too large gives the largest value.
# Seen with onnx 1.23.2: x / y_scale is cast to int32 before it is clipped, and leaves int32 from 2147483648 steps on:
# 3e9 and infinity give 0 in uint8 with the zero point 128, and 1e9 gives 255. numpy warns of an invalid cast.
# ONNX Runtime 1.32.0 gives 255.
# Why it matters: masks are made with infinity or the largest float, and a large value that becomes the smallest one is
# the worst error that there is; a rule of 255 for 1e9 and 0 for 3e9 is not what a runtime is to be measured by.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" python3 -W ignore::RuntimeWarning - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

VALUES = np.array([-np.inf, -3e9, -1, 0, 1, 1e3, 1e9, 3e9, 3e38, np.inf], np.float32)

seen = {}
for opset in (10, 13, 21):
    head = f'<ir_version: 8, opset_import: ["": {opset}]> g (float[{len(VALUES)}] x) => (uint8[{len(VALUES)}] y)'
    model = onnx.parser.parse_model(f"{head} <float s = {{1.0}}, uint8 z = {{128}}> {{ y = QuantizeLinear(x, s, z) }}")
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    seen[opset] = [program.run(None, {"x": VALUES})[0].tolist() for program in (ReferenceEvaluator(model), session)]
print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}, quantised values: {VALUES.tolist()}")
for opset, (reference, runtime) in seen.items():
    print(f"opset {opset}: the reference gives {reference}, ONNX Runtime {runtime}")
wrong = [0, 0, 127, 128, 129, 255, 255, 0, 0, 0]
right = [0, 0, 127, 128, 129, 255, 255, 255, 255, 255]
assert all(answer == [wrong, right] for answer in seen.values()), "the behaviour has changed"
PYTHON

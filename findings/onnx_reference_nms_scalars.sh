#!/usr/bin/env bash
# ONNX's reference evaluator raises IndexError for a NonMaxSuppression whose thresholds are scalars, as they should be.
#
# Expected: the operator's text calls max_output_boxes_per_class, iou_threshold and score_threshold scalars, so scalars
# work; the same goes for leaving out the optional ones.
# Seen with onnx 1.23.2: "too many indices for array" with scalars, and TypeError if the optional inputs are left out,
# though the model checker finds no fault with either. Only tensors with the shape [1] work. ONNX Runtime 1.32.0
# takes scalars and tensors, and fewer inputs (it then keeps no box, as the text says).
# Why it matters: a detector that is exported as the text asks runs everywhere but where the yardstick is.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

FEEDS = {
    "boxes": np.array([[[0, 0, 1, 1], [2, 2, 3, 3]]], np.float32),
    "scores": np.array([[[0.9, 0.8]]], np.float32),
}


def kept(form: str | None) -> list[str | list[int]]:
    """The boxes kept by ONNX's reference and ONNX Runtime, or the error; `form`: shape of the thresholds or None."""
    head = '<ir_version: 10, opset_import: ["": 20]> nms (float[1, 2, 4] boxes, float[1, 1, 2] scores)'
    constants, names = "", ""
    if form is not None:
        constants = f"<int64{form} most = {{10}}, float{form} overlap = {{0.5}}, float{form} least = {{0.1}}>"
        names = ", most, overlap, least"
    text = f"{head} => (int64[n, 3] kept) {constants} {{ kept = NonMaxSuppression(boxes, scores{names}) }}"
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answers: list[str | list[int]] = []
    for program in (ReferenceEvaluator(model), session):
        try:
            answers.append(program.run(None, FEEDS)[0][:, 2].tolist())
        except (IndexError, TypeError) as error:
            answers.append(f"{type(error).__name__}: {error}")
    return answers


seen = {"shape [1]": kept("[1]"), "scalars": kept(""), "left out": kept(None)}
print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}")
for case, answers in seen.items():
    print(f"thresholds {case}: the reference and ONNX Runtime keep {answers}")
assert seen["shape [1]"] == [[0, 1], [0, 1]], "the behaviour has changed"
assert seen["scalars"][0].startswith("IndexError") and seen["scalars"][1] == [0, 1], "the behaviour has changed"
assert seen["left out"][0].startswith("TypeError") and seen["left out"][1] == [], "the behaviour has changed"
PYTHON

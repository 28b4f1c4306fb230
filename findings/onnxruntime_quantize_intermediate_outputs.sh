#!/usr/bin/env bash
# ONNX Runtime's quantize_static() with CalibMaxIntermediateOutputs forgets every full batch of calibration images.
#
# Expected: its own words, "the same result as all computing with None, but is more memory efficient".
# Seen with ONNX Runtime 1.32.0: at the limit the outputs are thrown away, not merged. Of five images with a limit of 2
# only the last one counts: the range is [0, 1] though the first image has 10. With four images it says "No data is
# collected". CalibStridedMinMax, which also reads in pieces, keeps all.
# Why it matters: it is the option for those who lack memory; values are cut off, and the loss is put down to int8.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder" python3 - <<'PYTHON'
import logging

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, quantize_static

logging.disable(logging.WARNING)


class Images(CalibrationDataReader):
    """Images of one value each; the first is the brightest."""

    def __init__(self, values: list[float]) -> None:
        self.images = [{"x": np.full((1, 1, 4, 4), value, dtype=np.float32)} for value in values]
        self.set_range(0, len(values))

    def __len__(self) -> int:
        return len(self.images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.rest = iter(self.images[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rest, None)


def largest(values: list[float], **options: int) -> float | str:
    """The quantised network's answer to 10, which the float network gives back as it is."""
    try:
        quantize_static("float.onnx", "int8.onnx", Images(values), extra_options=options)
    except ValueError as error:
        return str(error)
    session = onnxruntime.InferenceSession("int8.onnx", providers=["CPUExecutionProvider"])
    return round(float(session.run(None, {"x": np.full((1, 1, 4, 4), 10, dtype=np.float32)})[0].max()), 2)


x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 4, 4])
y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 4, 4])
weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), dtype=np.float32), "w")
graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "identity", [x], [y], [weight])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "float.onnx")
five = [10.0, 1.0, 1.0, 1.0, 1.0]
seen = {
    "five images": largest(five),
    "limit 2": largest(five, CalibMaxIntermediateOutputs=2),
    "stride 1": largest(five, CalibStridedMinMax=1),
    "four images, limit 2": largest(five[:4], CalibMaxIntermediateOutputs=2),
}
print(f"ONNX Runtime {onnxruntime.__version__}, int8 answer to 10: {seen}")
right = {"five images": 10, "limit 2": 1, "stride 1": 10, "four images, limit 2": "No data is collected."}
assert seen == right, "the behaviour has changed"
PYTHON

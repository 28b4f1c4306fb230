# SPDX-License-Identifier: Apache-2.0
"""The five most likely classes of a picture, with ONNX Runtime, numpy and Pillow alone.

    python3 classify.py MODEL.onnx PICTURE

MODEL.onnx is what `scripts/export.py onnx` writes, float or int8; MODEL.json beside it says how a picture becomes its
input. Needs: pip install onnxruntime numpy pillow
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def classify(model: Path, picture: Path) -> list[tuple[str, float]]:
    """The labels of the five likeliest classes and their probabilities, likeliest first."""
    description = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(model)
    images = load_picture(picture, description["input"])
    (outputs,) = session.run([description["output"]["name"]], {description["input"]["name"]: images})
    probabilities = outputs[0] if description["output"]["name"] == "probabilities" else softmax(outputs[0])
    best = np.argsort(-probabilities, kind="stable")[:5]
    return [(description["labels"][index], float(probabilities[index])) for index in best]


def load_picture(path: Path, taken: dict[str, Any]) -> np.ndarray:
    """A picture as the network takes it: float32 [1, 3, S, S] or uint8 [1, S, S, 3]."""
    size = taken["image_size"]
    with Image.open(path) as stored:
        picture = (ImageOps.exif_transpose(stored) if taken["apply_orientation"] else stored).convert("RGB")
    width, height = (taken["resize"]["short_side"] * side // min(picture.size) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)  # which Pillow antialiases
    left, top = round((width - size) / 2), round((height - size) / 2)
    levels = np.asarray(picture.crop((left, top, left + size, top + size)))[None]
    if taken["type"] == "uint8":
        return levels
    mean, std = np.float32(taken["mean"]), np.float32(taken["std"])
    return ((levels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python3 classify.py MODEL.onnx PICTURE")
    try:
        answers = classify(*map(Path, sys.argv[1:]))
    except Exception as error:  # of three libraries, each with its own
        sys.exit(f"{' '.join(sys.argv[1:])}: {' '.join(str(error).split()) or type(error).__name__}")
    for label, probability in answers:
        print(f"{label:<75} ({probability:.2%})")

# SPDX-License-Identifier: Apache-2.0
"""What is done to a network before any platform's own tool quantises it."""

import numpy as np
import torch

from core.pixels import Image
from exporting.equalisation import equalise
from exporting.requests import Request
from exporting.rounding import round_weights, steps_of_all, steps_of_pairs

PAIRING = "onnx", "openvino"  # formats whose runtimes may add two products in 16 bits
USED_PIXELS = 64 * 224 * 224  # of the images whose means are kept: the largest map of so many takes 1 GB


def prepare_for_int8(request: Request, calibration: Image) -> Request:
    """The request with a network whose channels are of like range, and whose weights are in steps of int8.

    `calibration`: uint8 levels [N, S, S, 3].
    """
    network = equalise(request.network, torch.from_numpy(request.inputs(calibration)))
    count = min(USED_PIXELS // request.image_size**2 + 1, len(calibration))
    chosen = np.linspace(0, len(calibration) - 1, count).round().astype(int)
    count_steps = steps_of_pairs if request.choices.format in PAIRING else steps_of_all
    inputs = torch.from_numpy(request.inputs(calibration[chosen]))
    network, steps = round_weights(network, inputs, count_steps)
    return request._replace(network=network, weight_steps=steps)

# SPDX-License-Identifier: Apache-2.0
"""What each value of detection/config.py must be: what core.settings.rules_of_task() has for all tasks, and this."""

import math

from core.settings import FLAG, SHARE, SmallestMap, is_crop_scale, is_number, rules_of_task

# Of a side of 32 pixels, the smallest that is cropped (LEAST_CROPPED_SIDE in detection/dataset.py), it leaves one:
# RandomIoUCrop divides by it.
LEAST_CROP = 0.001

RULES = rules_of_task(
    "ssdlite",
    shared={"inference_score_threshold": SHARE},
    train={
        "random_crop_scale": (
            lambda v: is_crop_scale(v) and (v is None or v[0] >= LEAST_CROP),
            f"None or two shares of the area from {LEAST_CROP} on, like (0.1, 1.0)",
        ),
        "random_zoom_out": (lambda v: is_number(v, 1, 4), "a number from 1 to 4"),
        "random_photometric_distortion": FLAG,
    },
    smallest_map=SmallestMap("the last map", lambda image_size: math.ceil(image_size / 512)),
)

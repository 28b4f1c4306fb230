# SPDX-License-Identifier: Apache-2.0
"""What each value of detection/config.py must be: what core.settings.rules_of_task() has for all tasks, and this."""

import math

from core.settings import FLAG, SHARE, SmallestMap, is_crop_scale, is_number, rules_of_task

# A share of the area: int(32 * sqrt(0.001)) is 1 pixel of the smallest side that is cropped (LEAST_CROPPED_SIDE in
# detection/dataset.py), and RandomIoUCrop divides by that number.
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
    smallest_map=SmallestMap("the last map", lambda image_size: math.ceil(image_size / 512)),  # 512: its stride
)

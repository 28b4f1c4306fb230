# SPDX-License-Identifier: Apache-2.0
"""What each value of segmentation/config.py must be: what core.settings.rules_of_task() has for all tasks, and this."""

from core.annotated_images import MAX_CLASSES
from core.settings import TRAIN_RULES, SmallestMap, is_int, rules_of_task
from model import OUTPUT_STRIDES

RULES = rules_of_task(
    "deeplab_v3",
    shared={
        "model_num_classes": (
            lambda v: is_int(v, 2) and v <= 1 + MAX_CLASSES,
            f"an int from 2 to {1 + MAX_CLASSES}: the background and the classes",
        ),
        "model_output_stride": (
            lambda v: is_int(v, 1) and v in OUTPUT_STRIDES,  # for Python 8.0 is one of them too
            f"one of {', '.join(map(str, OUTPUT_STRIDES))}",
        ),
    },
    train={"model_dropout": TRAIN_RULES["model_dropout"]},
    smallest_map=SmallestMap("the pooled image", lambda image_size: 1),  # one value for batch-norm in each image
)

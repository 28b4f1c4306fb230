# SPDX-License-Identifier: Apache-2.0
"""What each value of segmentation/config.py must be: as in the classifier's, but for what only one of them has."""

from types import ModuleType

from core.annotated_images import MAX_CLASSES
from core.settings import TRAIN_RULES, check_warmup, is_int, rules_of_task
from model import OUTPUT_STRIDES


def check_together(config: ModuleType, lines: dict[str, int]) -> None:
    """Raise ValueError where values of a training run are right one by one, but not together."""
    check_warmup(config, lines)
    if config.batch_size < 2:
        raise ValueError(
            f"config.py line {lines.get('batch_size', '?')}: batch_size = 1 leaves the batch-norm of the pooled image "
            "one value of each channel, and it needs 2; set batch_size to at least 2"
        )


RULES = rules_of_task(
    shared={
        "model_arch_name": (lambda v: v == "deeplab_v3", '"deeplab_v3"'),
        "model_num_classes": (
            lambda v: is_int(v, 2) and v <= 1 + MAX_CLASSES,
            f"an int from 2 to {1 + MAX_CLASSES}: the background and the classes",
        ),
        "model_output_stride": (
            lambda v: is_int(v, 1) and v in OUTPUT_STRIDES,
            f"one of {', '.join(map(str, OUTPUT_STRIDES))}",
        ),
        "image_size": (lambda v: is_int(v, 64), "an int >= 64"),
    },
    train={"model_dropout": TRAIN_RULES["model_dropout"]},
    check_together=check_together,
)

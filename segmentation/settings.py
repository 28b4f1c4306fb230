# SPDX-License-Identifier: Apache-2.0
"""What each value of segmentation/config.py must be: as in the classifier's, but for what only one of them has."""

from types import ModuleType

from core.annotated_images import MAX_CLASSES
from core.settings import (
    COUNT,
    FOLDER_NAME,
    PATH_OR_NONE,
    SHARED_RULES,
    TEST_RULES,
    TRAIN_RULES,
    Rules,
    check_warmup,
    is_int,
)
from model import OUTPUT_STRIDES


def check_together(config: ModuleType, lines: dict[str, int]) -> None:
    """Raise ValueError where values of a training run are right one by one, but not together."""
    check_warmup(config, lines)
    if config.batch_size < 2:
        raise ValueError(
            f"config.py line {lines.get('batch_size', '?')}: batch_size = 1 leaves the batch-norm of the pooled image "
            "one value of each channel, and it needs 2; set batch_size to at least 2"
        )


RULES = Rules(
    shared={name: rule for name, rule in SHARED_RULES.items() if name not in ("class_label_file", "apply_orientation")}
    | {
        "data_dir": PATH_OR_NONE,
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
    train={"train_scenes": COUNT, "valid_scenes": COUNT, "train_split": FOLDER_NAME, "valid_split": FOLDER_NAME}
    | {
        name: TRAIN_RULES[name]
        for name in (
            *("num_workers", "pretrained_model_weights_path", "resume", "epochs", "batch_size"),
            *("gradient_accumulation_steps", "model_lr", "backbone_lr_factor", "lr_warmup_epochs", "model_momentum"),
            *("model_weight_decay", "model_ema_decay", "model_dropout", "random_crop_scale"),
            *("random_flip_probability", "train_print_frequency"),
            *("valid_print_frequency", "sync_batch_norm", "checkpoint_every_minutes", "keep_checkpoints"),
        )
    },
    test={"test_scenes": COUNT, "test_split": FOLDER_NAME}
    | {name: rule for name, rule in TEST_RULES.items() if name != "test_image_dir"},
    check_together=check_together,
)

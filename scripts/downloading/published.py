# SPDX-License-Identifier: Apache-2.0
"""The ImageNet-1K weights of MobileNetV2 that are published: where they lie, how they are used, what they score."""

from typing import Any, NamedTuple

from torchvision.models import MobileNet_V2_Weights

from model import TENSORFLOW, TORCHVISION, Definition

VERSIONS = {"v1": MobileNet_V2_Weights.IMAGENET1K_V1, "v2": MobileNet_V2_Weights.IMAGENET1K_V2}
CROP_SHARE = 0.875  # as in imgproc.eval_transform

# The checkpoints of the paper's authors: width, image size, million multiply-adds, million parameters without
# batch-norm, top-1 and top-5 accuracy in %. All rows of
# https://github.com/tensorflow/models/blob/master/research/slim/nets/mobilenet/README.md
CHECKPOINTS = (
    (1.4, 224, 582, 6.06, 75.0, 92.5),
    (1.3, 224, 509, 5.34, 74.4, 92.1),
    (1.0, 224, 300, 3.47, 71.8, 91.0),
    (1.0, 192, 221, 3.47, 70.7, 90.1),
    (1.0, 160, 154, 3.47, 68.8, 89.0),
    (1.0, 128, 99, 3.47, 65.3, 86.9),
    (1.0, 96, 56, 3.47, 60.3, 83.2),
    (0.75, 224, 209, 2.61, 69.8, 89.6),
    (0.75, 192, 153, 2.61, 68.7, 88.9),
    (0.75, 160, 107, 2.61, 66.4, 87.3),
    (0.75, 128, 69, 2.61, 63.2, 85.3),
    (0.75, 96, 39, 2.61, 58.8, 81.6),
    (0.5, 224, 97, 1.95, 65.4, 86.4),
    (0.5, 192, 71, 1.95, 63.9, 85.4),
    (0.5, 160, 50, 1.95, 61.0, 83.2),
    (0.5, 128, 32, 1.95, 57.7, 80.8),
    (0.5, 96, 18, 1.95, 51.2, 75.8),
    (0.35, 224, 59, 1.66, 60.3, 82.9),
    (0.35, 192, 43, 1.66, 58.2, 81.2),
    (0.35, 160, 30, 1.66, 55.7, 79.1),
    (0.35, 128, 20, 1.66, 50.8, 75.0),
    (0.35, 96, 11, 1.66, 45.5, 70.4),
)
# Keras has translated them (keras/src/applications/mobilenet_v2.py), and has measured those for 224 pixels itself, with
# one centre crop of each image: https://github.com/keras-team/keras-applications/blob/master/README.md
KERAS_FOLDER = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2"
MEASURED_BY_KERAS = {
    0.35: (60.086, 82.432),
    0.5: (65.194, 86.062),
    0.75: (69.532, 89.176),
    1.0: (71.336, 90.142),
    1.3: (74.680, 92.122),
    1.4: (75.230, 92.422),
}
# timm/models/efficientnet.py: the files of mobilenetv2_050.lamb_in1k, _100.ra_in1k and _140.ra_in1k, by their widths,
# with the accuracies of https://github.com/huggingface/pytorch-image-models/blob/main/results/results-imagenet.csv
# Not those of mobilenetv2_110d and _120d: they have more blocks, and stem and head of width 1.0.
TIMM_FOLDER = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"
TIMM = {
    0.5: ("mobilenetv2_050-3d30d450.pth", 65.950, 86.088),
    1.0: ("mobilenetv2_100_ra-b33bc2c4.pth", 72.976, 91.010),
    1.4: ("mobilenetv2_140_ra-21a4e913.pth", 76.520, 92.986),
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5)


class Published(NamedTuple):
    """One published file."""

    name: str  # as it is typed
    project: str
    url: str
    hash_start: str  # the first digits of its SHA-256, "" where none is published
    width: float
    image_size: int
    acc1: float  # as published, in %
    acc5: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    definition: Definition
    measured_with: str  # where the figures were measured otherwise than test.py does, how; else ""

    @property
    def file_name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def digits(self) -> int:
        """Decimals of the accuracies as published."""
        return 1 if self.project == "Keras" else 3

    @property
    def target_start(self) -> str:
        """What the name of the file in our format begins with; hash and ending follow."""
        if self.project == "torchvision":
            return "MobileNetV2-ImageNet_1K"
        return f"MobileNetV2_{self.width}-{self.image_size}-{self.project.lower()}"

    @property
    def measured_again(self) -> tuple[float, float] | None:
        """Top-1 and top-5 accuracy of this very file as Keras measured them, in %."""
        is_measured = self.project == "Keras" and self.image_size == 224
        return MEASURED_BY_KERAS.get(self.width) if is_measured else None

    def use(self) -> dict[str, Any]:
        """How the network is used, by the names of config.py."""
        return {
            "image_size": self.image_size,
            "model_width_mult": self.width,
            "model_padding": self.definition.padding,
            "model_batch_norm_eps": self.definition.batch_norm_eps,
            "model_mean_parameters": list(self.mean),
            "model_std_parameters": list(self.std),
        }


def published_weights() -> dict[str, Published]:
    """All of them by their names, those of a project together."""
    every = [
        *(of_torchvision(name, weights) for name, weights in VERSIONS.items()),
        *(of_keras(width, size, acc1, acc5) for width, size, _, _, acc1, acc5 in CHECKPOINTS),
        *(of_timm(width, *row) for width, row in TIMM.items()),
    ]
    return {published.name: published for published in every}


def of_torchvision(name: str, weights: MobileNet_V2_Weights) -> Published:
    """What torchvision's registry says; its files have the first digits of their hash in their names."""
    metrics, use = weights.meta["_metrics"]["ImageNet-1K"], weights.transforms()
    size, short_side = use.crop_size[0], use.resize_size[0]
    usual = round(size / CROP_SHARE)
    return Published(
        *(name, "torchvision", weights.url, hash_in_name(weights.url), 1.0, size, metrics["acc@1"], metrics["acc@5"]),
        *(tuple(use.mean), tuple(use.std), TORCHVISION),
        measured_with="" if short_side == usual else f"short sides of {short_side} pixels, test.py has {usual}",
    )


def of_keras(width: float, size: int, acc1: float, acc5: float) -> Published:
    """One of the authors' checkpoints as Keras offers it, in a file without a published hash."""
    url = f"{KERAS_FOLDER}/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_{size}.h5"
    return Published(
        *(f"keras {width} {size}", "Keras", url, "", width, size, acc1, acc5),
        *(HALVES, HALVES, TENSORFLOW),
        measured_with=f"the central {CROP_SHARE:.1%} of each side made square, test.py keeps the shape of the image",
    )


def of_timm(width: float, file_name: str, acc1: float, acc5: float) -> Published:
    """One of timm's, trained anew; its files have the first digits of their hash in their names."""
    url = f"{TIMM_FOLDER}/{file_name}"
    return Published(
        *(f"timm {width}", "timm", url, hash_in_name(url), width, 224, acc1, acc5),
        *(IMAGENET_MEAN, IMAGENET_STD, TORCHVISION),
        measured_with="bicubic resizing, test.py has bilinear",
    )


def hash_in_name(url: str) -> str:
    """The 8 digits of ".../mobilenet_v2-b0353104.pth"."""
    return url.rpartition("-")[2].partition(".")[0]


def published_table() -> str:
    """Every file in Markdown, aligned for a terminal."""
    costs = {(width, size): costs for width, size, *costs, _, _ in CHECKPOINTS}
    rows = [["name", "width", "size", "top-1", "top-5", "multiply-adds", "parameters", "padding", "from"]]
    for one in published_weights().values():
        multiply_adds, parameters = costs[one.width, one.image_size]
        accuracies = [f"{value:.{one.digits}f}" for value in (one.acc1, one.acc5)]
        cells = [one.name, str(one.width), str(one.image_size), *accuracies]
        rows.append([*cells, f"{multiply_adds} M", f"{parameters:.2f} M", one.definition.padding, one.project])
    return markdown_table(rows, left=(0, 7, 8))


def markdown_table(rows: list[list[str]], left: tuple[int, ...]) -> str:
    """Rows of cells, the first the titles, in columns of one width; `left`: those that hold words, not numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    ]
    rule = [f"{'-' * (width + 1)}{'-' if place in left else ':'}" for place, width in enumerate(widths)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])

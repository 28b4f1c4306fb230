# SPDX-License-Identifier: Apache-2.0
"""Average precision as COCO has it, by pycocotools."""

import contextlib
import io
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from core.metrics import LossMeter
from core.processes import from_main, gather_batches
from detection.dataset import COUNTED, DIFFICULT, KIND, LABEL, take_targets
from detection.model import SSDLite, by_name


class Picture(NamedTuple):
    """What is in one picture, and what was found there; boxes are left, top, right, bottom in pixels."""

    objects: np.ndarray  # float [K, 6]: box, label from 0, and COUNTED, CROWD or DIFFICULT
    found: np.ndarray  # float [D, 6]: box, label from 0, score


def to_picture(rows: np.ndarray, found: dict[str, Tensor]) -> Picture:
    """Of the targets [M, 6] of a picture from BoxDataset, and of what SSDLite.detections() has for it."""
    columns = found["boxes"], found["labels"][:, None] - 1, found["scores"][:, None]
    return Picture(rows[rows[:, LABEL] >= 0], np.hstack([column.cpu().numpy() for column in columns]))


class BoxScores:
    """Loss and mean average precision, by the outputs [N, A, C + 5] of a network and the targets float32 [N, M, 6].

    Targets are those of BoxDataset. A crowd or difficult object is not missed, and what is found on it is not false.
    """

    def __init__(self, network: SSDLite, num_classes: int) -> None:
        self.network, self.num_classes = network, num_classes  # its anchors and thresholds alone, no weight
        self.meter = LossMeter(network.anchors.device)
        self.batches: list[list[Picture]] = []

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in a batch."""
        by_anchor = by_name(outputs)
        losses = self.network.losses(by_anchor, take_targets(targets))
        self.meter.add_loss(losses["bbox_regression"] + losses["classification"], len(outputs))
        pairs = zip(targets.cpu().numpy(), self.network.detections(by_anchor), strict=True)
        self.batches.append([to_picture(rows, found) for rows, found in pairs])

    def so_far(self, remedy: str) -> dict[str, float]:
        """The loss in this process: the precision of thousands of pictures takes too long for a line of progress.

        Raises: FloatingPointError if it is not finite.
        """
        return self.meter.averages(remedy)

    def of_all(self, remedy: str) -> dict[str, float]:
        """Loss and precision, in percent, of all processes. Raises: as so_far()."""
        return self.meter.over_processes().averages(remedy) | summarise(self.precisions)

    @cached_property
    def precisions(self) -> np.ndarray:
        """average_precisions() of the pictures of all processes, in each; kept, so ask after the last add()."""
        pictures = [picture for batch in gather_batches(self.batches) for picture in batch]
        return from_main(lambda: average_precisions(pictures, self.num_classes))


class Evaluation(COCOeval):  # type: ignore[misc]
    """pycocotools' own, in which an object can also be "difficult": ignored like a crowd, by Pascal VOC's rule.

    To pycocotools both are crowds: any number of finds may match one, and those do not count. But where it takes the
    overlaps, a difficult object is none: that with a crowd is a share of what is found, so that a small part of the
    crowd is enough; with a difficult object it is the IoU, as in VOCdevkit's VOCevaldet.
    """

    def computeIoU(self, image: int, label: int) -> Any:
        objects = self._gts[image, label]
        self._gts[image, label] = [each | {"iscrowd": each["iscrowd"] and not each["difficult"]} for each in objects]
        overlaps = super().computeIoU(image, label)
        self._gts[image, label] = objects
        return overlaps


def average_precisions(pictures: list[Picture], num_classes: int) -> np.ndarray:
    """The average precision of each class at an IoU of 0.5, 0.55, .. 0.95: float64 [10, num_classes], 0..1.

    Of objects of all sizes, with the 100 likeliest finds of a class in a picture. NaN for a class without an object.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = to_coco(
            [picture.objects for picture in pictures],
            num_classes,
            lambda row: {"iscrowd": int(row[KIND] != COUNTED), "difficult": row[KIND] == DIFFICULT},
        )
        found = to_coco([picture.found for picture in pictures], num_classes, lambda row: {"score": float(row[-1])})
        evaluation = Evaluation(truth, found, "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0]  # [IoU, recall, class], -1 for a class without an object
    return np.where(precision < 0, np.nan, precision).mean(axis=1)


def to_coco(pictures: list[np.ndarray], num_classes: int, more: Callable[[np.ndarray], dict[str, Any]]) -> COCO:
    """The boxes of each picture; more(row) is what pycocotools is to know of a box besides."""
    rows = [(image, row) for image, picture in enumerate(pictures) for row in picture.astype(np.float64)]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": int(row[LABEL]),
            "bbox": [*row[:2], *(row[2:4] - row[:2])],
            "area": (row[2] - row[0]) * (row[3] - row[1]),
            **more(row),
        }
        for number, (image, row) in enumerate(rows, start=1)  # with the id 0 an object would never be found
    ]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(len(pictures))],
        "categories": [{"id": label} for label in range(num_classes)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def summarise(precisions: np.ndarray) -> dict[str, float]:
    """Means over the classes that have objects, in percent: over all IoUs, and of the first. 0 without any object."""
    counted = precisions[:, ~np.isnan(precisions[0])]
    return {
        "map": 100 * float(counted.mean()) if counted.size else 0.0,
        "map50": 100 * float(counted[0].mean()) if counted.size else 0.0,
    }

# SPDX-License-Identifier: Apache-2.0
"""Write the network of detection/config.py as an ONNX file for other devices: python3 detection/export.py.

It reads config.model_weights_path and writes results/<exp_name>/export/ssdlite-onnx.onnx and .json, which says what the
file takes and gives. They get their names only after ONNX Runtime has found the objects of torch in test scenes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))  # what all exports share
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before this folder, which has files of the same names

from core.environment import check_environment

if __name__ == "__main__":
    check_environment()

import signal
from collections.abc import Iterator
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from core.class_names import numbered_classes
from core.digit_scenes import SCENE_CLASSES
from core.picture_sources import BACKGROUND, SceneSource
from core.plurals import counted
from detection.dataset import BoxDataset
from detection.model import SSDLite, create_network
from detection.scoring import Picture, average_precisions, summarise, to_picture
from detection.settings import RULES
from exporting.networks import Normalization, plain_copy
from exporting.task_files import Answer, Exported, export_task, in_batches, load_for_export
from imgproc import normalize
from utils import user_errors

SCENES = 100  # that are compared
SAME_PLACE, SAME_SCORE = 0.01, 1e-4  # pixels by which a side of a box may differ, and by how much its score
LEAST_EQUAL = 99.9  # percent of the objects; where two boxes overlap just so much or so little, rounding decides


def main(config: ModuleType) -> None:
    network, names = load_for_export(create_network, config, RULES)
    names = names or numbered_classes(config.model_num_classes)
    figures = export_task(config, to_export(network, config, names), partial(verify, network.eval(), config, names))
    scores = f"mAP {figures['map']:.3f} (torch {figures['torch_map']:.3f}) " if "map" in figures else ""
    print(
        f" * {scores}equal objects {figures['equal_objects']:.3f} % of {figures['objects']} "
        f"({counted(figures['images'], 'image')})\n"
        f"   largest difference of a box {figures['largest_difference_of_boxes']:.1e} pixels, of a score "
        f"{figures['largest_difference_of_scores']:.1e}"
    )


class LevelDetector(nn.Module):
    """uint8 levels [N, S, S, 3] -> what decode() gives."""

    def __init__(self, network: SSDLite, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.normalization, self.network = Normalization(mean, std), plain_copy(network, network.image_size)

    def forward(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        network: Any = self.network
        return decode(network, network.outputs(self.normalization(levels)))


def decode(network: SSDLite, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Outputs of all anchors as boxes [N, A, 4] in pixels, within the picture, and scores [N, C, A].

    There are no scores of the background.
    """
    logits, offsets = outputs["cls_logits"], outputs["bbox_regression"]
    anchors = network.anchors.expand(len(offsets), -1, -1)
    boxes = network.box_coder.decode_single(offsets.flatten(0, 1), anchors.flatten(0, 1)).view_as(anchors)
    boxes = clip_boxes_to_image(boxes, (network.image_size, network.image_size))
    return boxes, logits.softmax(2)[..., 1:].transpose(1, 2)


# SSD's choice of boxes in each image, as torchvision's postprocess_detections() makes it, in the text form of ONNX. The
# exporter of torch 2.15 cannot take that: how many values it looks at depends on the values. What NonMaxSuppression has
# as scalars are vectors of one here: all runtimes take both, ONNX's reference (1.23.2) takes vectors alone.
# The best `candidates` of each class, up to candidate_scores; of these what NMS keeps, with its score in its place, up
# to scores_of_kept; of all classes the `most` best, with zeros behind them.
CHOICE = """
choice (float[batch, {anchors}, 4] all_boxes, float[batch, {classes}, {anchors}] all_scores)
    => (float[batch, {most}, 4] boxes, float[batch, {most}] scores, int64[batch, {most}] labels)
<
    int64[1] candidates = {{{candidates}}}, int64[1] last = {{-1}}, int64[1] axis_2 = {{2}},
    float[1] nms_thresh = {{{nms_thresh}}}, float[1] score_thresh = {{{score_thresh}}},
    int64[1] most = {{{most}}}, int64[2] flat = {{0, -1}}, int64 num_anchors = {{{anchors}}},
    float zero = {{0}}, int64 one = {{1}}, int64 background = {{0}}
>
{{
    best_scores, best_places = TopK <axis = 2> (all_scores, candidates)
    least_score = Slice (best_scores, last, candidates, axis_2)
    is_candidate = GreaterOrEqual (all_scores, least_score)
    candidate_scores = Where (is_candidate, all_scores, zero)
    kept = NonMaxSuppression (all_boxes, candidate_scores, candidates, nms_thresh, score_thresh)
    kept_scores = GatherND (all_scores, kept)
    score_shape = Shape (all_scores)
    no_scores = ConstantOfShape (score_shape)
    scores_of_kept = ScatterND (no_scores, kept, kept_scores)
    flat_scores = Reshape (scores_of_kept, flat)
    scores, places = TopK <axis = 1> (flat_scores, most)
    is_object = Greater (scores, zero)
    class_places = Div (places, num_anchors)
    class_labels = Add (class_places, one)
    labels = Where (is_object, class_labels, background)
    anchor_places = Mod (places, num_anchors)
    box_places = Unsqueeze (anchor_places, axis_2)
    best_boxes = GatherND <batch_dims = 1> (all_boxes, box_places)
    is_box = Unsqueeze (is_object, axis_2)
    boxes = Where (is_box, best_boxes, zero)
}}
"""


def add_choice(network: SSDLite, model: Any) -> None:
    """Let an onnx.ModelProto that gives boxes and scores of all anchors give the objects first."""
    import onnx

    anchors, classes = len(network.anchors), network.head.classification_head.num_columns - 1
    graph = onnx.parser.parse_graph(
        CHOICE.format(
            anchors=anchors,
            classes=classes,
            candidates=min(network.topk_candidates, anchors),
            most=most_objects(network),
            nms_thresh=network.nms_thresh,
            score_thresh=network.score_thresh,
        )
    )
    model.graph.node.extend(graph.node)
    model.graph.initializer.extend(graph.initializer)
    outputs = [*graph.output, *model.graph.output]
    del model.graph.output[:]
    model.graph.output.extend(outputs)


def most_objects(network: SSDLite) -> int:
    """How many objects the file gives of an image."""
    classes = network.head.classification_head.num_columns - 1
    return int(min(network.detections_per_img, classes * min(network.topk_candidates, len(network.anchors))))


def to_export(network: SSDLite, config: ModuleType, names: list[str]) -> Exported:
    """What the file is to be."""
    size, most, anchors = config.image_size, most_objects(network), len(network.anchors)
    return Exported(
        network=LevelDetector(network, config.model_mean_parameters, config.model_std_parameters).eval(),
        example=torch.zeros(2, size, size, 3, dtype=torch.uint8),
        free_axes={0: "batch"},
        traced=["all_boxes", "all_scores"],
        finish=partial(add_choice, network),
        input={"sides": size, "resize": {"height": size, "width": size, "method": "bilinear, antialiased"}},
        outputs={
            "boxes": {
                "type": "float32",
                "shape": ["batch", most, 4],
                "values": "left, top, right, bottom in pixels of the input",
            },
            "scores": {"type": "float32", "shape": ["batch", most], "values": "0 to 1, largest first; 0: no object"},
            "labels": {"type": "int64", "shape": ["batch", most], "values": "places in `classes`; 0: no object"},
            "all_boxes": {
                "type": "float32",
                "shape": ["batch", anchors, 4],
                "values": "of all anchors, for a choice of your own",
            },
            "all_scores": {
                "type": "float32",
                "shape": ["batch", config.model_num_classes, anchors],
                "values": "of all anchors, of the classes from 1 on",
            },
        },
        classes=[BACKGROUND, *names],
    )


@torch.inference_mode()
def verify(network: SSDLite, config: ModuleType, names: list[str], answer: Answer) -> dict[str, Any]:
    """The figures of a file that finds what the network finds in test scenes. Raises: ValueError if it does not.

    With a mean average precision if its classes are those of the scenes.
    """
    shares = config.model_mean_parameters, config.model_std_parameters
    mean, std = (torch.tensor(values) for values in shares)
    comparison = Comparison()
    for levels, targets in pictures(config.image_size):
        images = normalize(torch.from_numpy(levels).permute(0, 3, 1, 2), mean, std)
        *answers, all_boxes, all_scores = answer(levels)
        outputs = network.outputs(images)
        pairs = zip((all_boxes, all_scores), decode(network, outputs), strict=True)
        comparison.add_anchors([(ours - theirs).abs().max() for ours, theirs in pairs])
        comparison.add_objects(split_images(answers), network.detections(outputs), targets)
    figures = comparison.figures() | (comparison.scores(len(names)) if names == SCENE_CLASSES else {})
    box, score = figures["largest_difference_of_boxes"], figures["largest_difference_of_scores"]
    if not (box <= SAME_PLACE and score <= SAME_SCORE):
        raise ValueError(
            f"a box differs by {box:.1e} pixels from torch's, or a score by {score:.1e}, above {SAME_PLACE:g} and "
            f"{SAME_SCORE:g}; the file is refused"
        )
    if not figures["equal_objects"] >= LEAST_EQUAL:
        raise ValueError(
            f"{figures['equal_objects']:.2f} % of {figures['objects']} objects that torch and the file find are the "
            f"same, below {LEAST_EQUAL}; the file is refused"
        )
    return figures


class Comparison:
    """What a file finds beside what the network finds, over all pictures."""

    def __init__(self) -> None:
        self.objects = self.equal = 0
        self.differences = torch.zeros(2)  # of a box, of a score
        self.pictures: tuple[list[Picture], list[Picture]] = [], []  # of the file, and of torch

    def add_anchors(self, differences: list[Tensor]) -> None:
        """The largest of a box and of a score in a batch."""
        # maximum() keeps a NaN, which no limit allows.
        self.differences = self.differences.maximum(torch.stack(differences))

    def add_objects(
        self, answers: list[dict[str, Tensor]], expected: list[dict[str, Tensor]], targets: np.ndarray
    ) -> None:
        """Those of a batch, and what is in its pictures."""
        for found, theirs, rows in zip(answers, expected, targets, strict=True):
            self.objects += len(found["scores"]) + len(theirs["scores"])
            self.equal += count_partners(found, theirs)
            for pictures, each in zip(self.pictures, (found, theirs), strict=True):
                pictures.append(to_picture(rows, each))

    def figures(self) -> dict[str, Any]:
        """The share of equal objects in percent, differences in pixels and as shares."""
        box, score = self.differences.tolist()
        return {
            "images": len(self.pictures[0]),
            "objects": self.objects,
            "equal_objects": 100 * self.equal / self.objects if self.objects else 100.0,
            "largest_difference_of_boxes": box,
            "largest_difference_of_scores": score,
        }

    def scores(self, num_classes: int) -> dict[str, float]:
        """COCO's mean average precision of the two, in percent."""
        ours, theirs = (summarise(average_precisions(each, num_classes))["map"] for each in self.pictures)
        return {"map": ours, "torch_map": theirs}


def pictures(image_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Test scenes uint8 [N, S, S, 3] and their objects float32 [N, M, 6], in batches of several sizes."""
    return in_batches(BoxDataset(SceneSource("test", SCENES, image_size), image_size))


def split_images(answers: list[Tensor]) -> list[dict[str, Tensor]]:
    """What a file gives for a batch, in the form of the network: without the rows that hold no object."""
    return [
        {"boxes": boxes[scores > 0], "scores": scores[scores > 0], "labels": labels[scores > 0]}
        for boxes, scores, labels in zip(*answers, strict=True)
    ]


def count_partners(one: dict[str, Tensor], other: dict[str, Tensor]) -> int:
    """How many objects of the two are in both: the same class, and box and score within rounding."""
    same = one["labels"][:, None] == other["labels"]
    same &= (one["scores"][:, None] - other["scores"]).abs() <= SAME_SCORE
    same &= ((one["boxes"][:, None] - other["boxes"]).abs() <= SAME_PLACE).all(2)
    return int(same.any(0).sum() + same.any(1).sum())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # past what removes files
    with user_errors("Interrupted; no file was left half written.", "detection/config.py"):
        from detection import config

        main(config)

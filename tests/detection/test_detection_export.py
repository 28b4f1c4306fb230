# SPDX-License-Identifier: Apache-2.0
"""detection/export.py: its file finds what torchvision's choice of boxes finds."""

import contextlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT, ready_interpreter
from onnx import numpy_helper
from random_networks import randomise_statistics
from test_detection_scripts import create_project
from torch import Tensor, nn

from core.digit_scenes import DIGITS, SCENE_CLASSES, DigitScenes
from detection import export
from detection.model import SSDLite
from exporting import task_files
from exporting.onnx_writer import save
from model import TENSORFLOW, TORCHVISION, Definition

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NAME, FOLDER, SIZE, CLASSES = "ssdlite-onnx", "results/Boxes/export", 96, 10


def scenes(count: int, side: int) -> np.ndarray:
    digits = DigitScenes(DIGITS, "valid", seed=5, num_scenes=count, side=side)
    return np.stack([scene.image for scene in digits])


def normalised(levels: np.ndarray) -> Tensor:
    """The formula itself: (level / 255 - mean) / std, float32 [N, 3, H, W]."""
    return torch.from_numpy((levels / 255 - MEAN) / STD).permute(0, 3, 1, 2).float()


@torch.no_grad()
def network_of_many_objects(
    definition: Definition = TORCHVISION, image_size: int = SIZE, num_classes: int = CLASSES
) -> SSDLite:
    """Random weights that find many classes with scores of all heights, and boxes of all sizes."""
    torch.manual_seed(3)
    network = SSDLite(num_classes, image_size, 0.35, definition)
    randomise_statistics(network)
    for convolution in network.head.modules():
        if isinstance(convolution, nn.Conv2d):
            convolution.weight *= 10
    return network.eval()


def config_for(weights: Path, **values: object) -> SimpleNamespace:
    shipped = {
        **{"model_arch_name": "ssdlite", "model_num_classes": CLASSES, "image_size": SIZE, "model_width_mult": 0.35},
        **{"model_padding": "symmetric", "model_batch_norm_eps": 1e-5, "exp_name": "Boxes", "seed": 0},
        **{"model_mean_parameters": MEAN, "model_std_parameters": STD, "model_weights_path": str(weights)},
    }
    return SimpleNamespace(**shipped | values)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What the script writes and prints as users run it; to read and not to change."""
    root = create_project(tmp_path_factory.mktemp("exported") / "project", image_size=SIZE)
    shutil.copytree(ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    network, weights = network_of_many_objects(), root / "results/Boxes/best.pth.tar"
    weights.parent.mkdir(parents=True)
    torch.save({"state_dict": network.state_dict(), "class_names": SCENE_CLASSES}, weights)
    unset = ("PYTHONWARNINGS", "EXP_NAME", "MODE")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | {"OMP_NUM_THREADS": "1"}
    done = ready_interpreter().run([f"{root}/detection/export.py"], root, environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    path = root / FOLDER / f"{NAME}.onnx"
    return SimpleNamespace(root=root, network=network, config=config_for(weights), path=path, printed=done.stdout)


def run(model: Path | bytes, **values: np.ndarray) -> list[dict[str, Tensor]]:
    """The objects of each image, without the rows after them, which say that there are no more."""
    boxes, scores, labels = onnxruntime.InferenceSession(model).run(["boxes", "scores", "labels"], values)
    assert (boxes.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.int64)
    assert (np.diff(scores, axis=1) <= 0).all()
    counts = (labels > 0).sum(1)
    for each, count in zip(scores, counts, strict=True):
        assert (each[:count] > 0).all()
        assert not each[count:].any()
    answers = zip(boxes, scores, labels, counts, strict=True)
    return [
        {"boxes": torch.from_numpy(b[:n]), "scores": torch.from_numpy(s[:n]), "labels": torch.from_numpy(c[:n])}
        for b, s, c, n in answers
    ]


def assert_same_objects(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """In any order of those whose scores are the same but for rounding."""
    assert len(found["labels"]) == len(expected["labels"])
    ordered = []
    for each in (found, expected):
        keys = [each["labels"].double(), *(each["boxes"].double() / 0.05).round().T]
        ordered.append(np.lexsort([key.numpy() for key in keys]))
    for name, tolerance in (("labels", 0), ("boxes", 0.01), ("scores", 1e-4)):
        found_values, values = found[name][ordered[0]], expected[name][ordered[1]]
        torch.testing.assert_close(found_values, values, rtol=0, atol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 5])
def test_file_finds_the_objects_of_torch(exported: SimpleNamespace, count: int) -> None:
    levels = scenes(count, SIZE)
    expected = exported.network.detections(exported.network.outputs(normalised(levels)))
    found = run(exported.path, images=levels)
    assert len(found) == count
    for one, other in zip(found, expected, strict=True):
        assert export.count_partners(one, other) >= 0.99 * (len(one["labels"]) + len(other["labels"]))
        assert_same_objects(*({name: value[:50] for name, value in each.items()} for each in (one, other)))
    assert len(torch.cat([each["labels"] for each in found]).unique()) > 4
    assert torch.cat([each["scores"] for each in found]).max() > 0.5


def choose(network: SSDLite, logits: Tensor, offsets: Tensor, folder: Path) -> list[dict[str, Tensor]]:
    """What the choice of the file makes of the outputs of a network, without the network."""
    model = onnx.helper.make_model(
        onnx.GraphProto(name="choice"), opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10
    )
    anchors = len(network.anchors)
    for name, shape in (("all_boxes", ["batch", anchors, 4]), ("all_scores", ["batch", CLASSES, anchors])):
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    export.add_choice(network, model)
    save(model, folder / "choice.onnx")
    detector = export.LevelDetector(network, MEAN, STD)
    detector.network.outputs = lambda images: {"cls_logits": logits, "bbox_regression": offsets}
    boxes, scores = detector(torch.zeros(len(logits), SIZE, SIZE, 3, dtype=torch.uint8))
    return run(folder / "choice.onnx", all_boxes=boxes.numpy(), all_scores=scores.numpy())


@torch.no_grad()
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"topk_candidates": 5},  # which decides before boxes are compared
        {"detections_per_img": 7},
        {"nms_thresh": 0.1, "score_thresh": 0.3},
        {"score_thresh": 0.999999},  # nothing is found
        {"topk_candidates": 10000, "detections_per_img": 10000},  # more than there can be
    ],
)
@pytest.mark.parametrize("count", [1, 4])
def test_choice_is_that_of_torchvision(values: dict[str, float], count: int, tmp_path: Path) -> None:
    network = network_of_many_objects()
    vars(network).update(values)
    generator = torch.Generator().manual_seed(count)
    logits = 2 * torch.randn(count, len(network.anchors), CLASSES + 1, generator=generator)
    offsets = 2 * torch.randn(count, len(network.anchors), 4, generator=generator)
    outputs = {"cls_logits": logits, "bbox_regression": offsets}
    sides = [(SIZE, SIZE)] * count
    expected = network.postprocess_detections(outputs, [network.anchors] * count, sides)
    for one, other in zip(choose(network, logits, offsets, tmp_path), expected, strict=True):
        assert_same_objects(one, other)


@torch.no_grad()
@pytest.mark.parametrize("definition", [TORCHVISION, TENSORFLOW])
@pytest.mark.parametrize("image_size", [96, 75])
def test_plain_layers_are_the_network(definition: Definition, image_size: int) -> None:
    network, levels = network_of_many_objects(definition, image_size), scenes(2, image_size)
    logits = network.outputs(normalised(levels))["cls_logits"]
    boxes, scores = export.LevelDetector(network, MEAN, STD).eval()(torch.from_numpy(levels))
    torch.testing.assert_close(scores, logits.softmax(2)[..., 1:].transpose(1, 2), rtol=0, atol=1e-4)
    assert boxes.shape == (2, len(network.anchors), 4)
    assert boxes.min() >= 0
    assert boxes.max() <= image_size


def test_description_says_what_the_file_takes_and_gives(exported: SimpleNamespace) -> None:
    described = json.loads(exported.path.with_suffix(".json").read_text())
    assert described["classes"] == ["background", *"0123456789"]
    assert (described["input"]["layout"], described["input"]["type"]) == ("NHWC", "uint8")
    assert described["input"]["sides"] == SIZE
    assert described["verified"]["images"] == 100
    assert described["verified"]["equal_objects"] >= 99.9
    scores = f" * mAP {described['verified']['map']:.3f} (torch {described['verified']['torch_map']:.3f}) equal objects"
    assert scores in exported.printed
    graph = onnx.load(exported.path).graph
    assert [made.name for made in graph.output] == list(described["outputs"])
    sides = [[side.dim_value for side in made.type.tensor_type.shape.dim] for made in graph.output]
    anchors = len(exported.network.anchors)
    assert sides == [[0, 300, 4], [0, 300], [0, 300], [0, anchors, 4], [0, CLASSES, anchors]]
    assert list(described["outputs"]) == ["boxes", "scores", "labels", "all_boxes", "all_scores"]


def other_threshold(model: onnx.ModelProto) -> None:
    threshold = next(tensor for tensor in model.graph.initializer if tensor.name == "nms_thresh")
    threshold.CopyFrom(numpy_helper.from_array(np.float32([0.9]), "nms_thresh"))


def scale_a_weight(model: onnx.ModelProto) -> None:
    last = [node for node in model.graph.node if node.op_type == "Conv"][-1]
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == last.input[1])
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * np.float32(1.01), kernel.name))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_threshold, r"^[\d.]+ % of \d+ objects that torch and the file find are the same, below 99.9;"),
        (scale_a_weight, r"^a box differs by \S+ pixels from torch's, or a score by \S+, above 0.01 and 0.0001;"),
    ],
)
def test_file_that_lies_gets_no_name(
    exported: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: object, words: str
) -> None:
    def trace(*_: object) -> onnx.ModelProto:
        model = onnx.load(exported.path)
        spoil(model)
        return model

    monkeypatch.setattr(task_files, "trace", trace)
    monkeypatch.setattr(export, "add_choice", lambda network, model: None)  # it is in the file
    monkeypatch.setattr(export, "SCENES", 9)
    monkeypatch.setattr(task_files, "check_config", lambda config, rules: None)
    with (
        contextlib.chdir(tmp_path),
        pytest.raises(ValueError, match=words),
    ):
        export.main(exported.config)
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_classes_are_those_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others than those of the scenes have no mean average precision there."""
    monkeypatch.setattr(export, "SCENES", 2)
    monkeypatch.setattr(task_files, "check_config", lambda config, rules: None)
    network = network_of_many_objects(num_classes=2)
    torch.save({"state_dict": network.state_dict(), "class_names": ["bus", "dog"]}, tmp_path / "weights.pth.tar")
    with contextlib.chdir(tmp_path):
        export.main(config_for(tmp_path / "weights.pth.tar", model_num_classes=2))
    described = json.loads((tmp_path / FOLDER / f"{NAME}.json").read_text())
    assert described["classes"] == ["background", "bus", "dog"]
    assert "map" not in described["verified"]

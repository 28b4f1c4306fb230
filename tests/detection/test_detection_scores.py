# SPDX-License-Identifier: Apache-2.0
"""Average precision against torchmetrics, and by hand."""

import numpy as np
import pytest
import torch
from numpy.random import Generator, default_rng
from torchmetrics.detection import MeanAveragePrecision

from core.picture_sources import SceneSource
from detection.dataset import COUNTED, CROWD, DIFFICULT, BoxDataset, take_targets
from detection.model import SSDLite, score_form
from detection.scoring import BoxScores, Picture, average_precisions, summarise
from model import Definition

CLASSES = 4
IOUS, RECALLS = np.linspace(0.5, 0.95, 10).tolist(), np.linspace(0, 1, 101).tolist()


def random_boxes(generator: Generator, count: int) -> np.ndarray:
    corners = generator.uniform(0, 60, (count, 2))
    return np.hstack([corners, corners + generator.uniform(5, 60, (count, 2))]).astype(np.float32)


def random_picture(generator: Generator, crowds: float) -> Picture:
    """Objects, some of them found about where they are, some as another class, and finds of nothing."""
    count = generator.integers(0, 6)
    boxes = random_boxes(generator, count)
    labels = generator.integers(0, 3, count)  # of the class 3 there is no object
    objects = np.column_stack([boxes, labels, generator.random(count) < crowds])
    places = np.vstack([boxes + generator.normal(0, 3, boxes.shape), boxes, random_boxes(generator, 3)])
    guesses = np.concatenate([labels, (labels + generator.integers(0, 2, count)) % 4, generator.integers(0, 4, 3)])
    return Picture(objects, np.column_stack([places, guesses, generator.random(len(places))]))


def to_torch(rows: np.ndarray, name: str) -> dict[str, torch.Tensor]:
    values = torch.from_numpy(rows)
    return {"boxes": values[:, :4], "labels": values[:, 4].long(), name: values[:, 5]}


@pytest.mark.parametrize("crowds", [0.0, 0.4])
def test_precision_equals_that_of_torchmetrics(crowds: float) -> None:
    generator = default_rng(0)
    pictures = [random_picture(generator, crowds) for _ in range(30)]
    # By itself it rounds them to float32 (1.9.0): 0.28 is then more than 7 of 25 objects.
    thresholds = {"iou_thresholds": IOUS, "rec_thresholds": RECALLS}
    metric = MeanAveragePrecision(class_metrics=True, **thresholds)
    targets = [to_torch(picture.objects, "iscrowd") for picture in pictures]
    metric.update(
        [to_torch(picture.found, "scores") for picture in pictures],
        [target | {"iscrowd": target["iscrowd"].long()} for target in targets],
    )
    theirs = metric.compute()
    precisions = average_precisions(pictures, CLASSES)
    ours = summarise(precisions)
    assert 1 < ours["map"] < ours["map50"] < 99
    assert ours["map"] == pytest.approx(100 * theirs["map"].item(), abs=1e-4)
    assert ours["map50"] == pytest.approx(100 * theirs["map_50"].item(), abs=1e-4)
    found = np.nan_to_num(precisions.mean(axis=0), nan=-1)
    assert found == pytest.approx(theirs["map_per_class"].numpy(), abs=1e-6)
    assert found[3] == -1


def test_precision_by_hand(capsys: pytest.CaptureFixture) -> None:
    """Two objects; the likeliest find is right, the second is false, the third is right with an IoU of 0.8.

    With 2 of 3 right the precision is 1 up to a recall of 1/2 (51 of 101 points) and 2/3 beyond; above an IoU of 0.8
    it is 1 up to 1/2, and 0 beyond.
    """
    objects = np.array([[0, 0, 10, 10, 0, 0], [20, 20, 30, 30, 0, 0]], np.float32)
    found = np.array(
        [[0, 0, 10, 10, 0, 0.9], [50, 50, 60, 60, 0, 0.8], [20, 20, 30, 28, 0, 0.7], [0, 0, 9, 9, 1, 0.99]], np.float32
    )
    precisions = average_precisions([Picture(objects, found)], 2)
    all_found, one_found = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert precisions[:6, 0] == pytest.approx(np.full(6, all_found))
    assert precisions[7:, 0] == pytest.approx(np.full(3, one_found))
    assert np.isnan(precisions[:, 1]).all()  # a class without an object does not count, whatever is taken for it
    assert summarise(precisions)["map50"] == pytest.approx(100 * all_found)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", [CROWD, DIFFICULT])
def test_what_is_ignored_neither_counts_nor_hurts(kind: int) -> None:
    objects = np.array([[0, 0, 10, 10, 0, COUNTED], [20, 20, 40, 40, 0, kind]], np.float32)
    right = [0, 0, 10, 10, 0, 0.5]
    for found in ([right], [right, [20, 20, 40, 40, 0, 0.9]], [right, [20, 20, 40, 39.5, 0, 0.9]]):
        scores = summarise(average_precisions([Picture(objects, np.array(found))], 1))
        assert scores == {"map": pytest.approx(100), "map50": pytest.approx(100)}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # The find of a quarter of the object is ignored in a crowd. On a difficult object it is false, and so is half
        # of what is found, the likeliest of it, when the other object is.
        (CROWD, [100] * 10),
        (DIFFICULT, [50] * 10),
    ],
)
def test_what_is_found_in_a_part_of_what_is_ignored(kind: int, expected: list[float]) -> None:
    objects = np.array([[0, 0, 10, 10, 0, COUNTED], [20, 20, 40, 40, 0, kind]], np.float32)
    found = np.array([[20, 20, 30, 30, 0, 0.9], [0, 0, 10, 10, 0, 0.5]])
    assert 100 * average_precisions([Picture(objects, found)], 1)[:, 0] == pytest.approx(expected)


def test_difficult_objects_are_ignored_as_in_voc() -> None:
    """Two finds on one, with IoUs of 324 / 400 = 0.81 and 0.9: both are ignored up to 0.8, from 0.85 on one is false.

    At 0.95 both are: 1 of 3 is right. So it is for a find that has the difficult object inside.
    """
    objects = np.array([[0, 0, 10, 10, 0, COUNTED], [20, 20, 40, 40, 0, DIFFICULT]], np.float32)
    right = [0, 0, 10, 10, 0, 0.5]
    found = np.array([[20, 20, 38, 38, 0, 0.9], [20, 20, 40, 38, 0, 0.8], right])
    expected = [100] * 7 + [50] * 2 + [100 / 3]
    assert 100 * average_precisions([Picture(objects, found)], 1)[:, 0] == pytest.approx(expected)
    around = np.array([[10, 10, 50, 50, 0, 0.9], right])  # an IoU of 0.25
    assert 100 * average_precisions([Picture(objects, around)], 1)[:, 0] == pytest.approx([50] * 10)


def test_pictures_without_objects_or_finds() -> None:
    nothing = np.zeros((0, 6), np.float32)
    assert summarise(average_precisions([Picture(nothing, nothing)] * 2, 3)) == {"map": 0.0, "map50": 0.0}
    one = np.array([[0, 0, 10, 10, 2, 0]], np.float32)
    assert summarise(average_precisions([Picture(one, nothing)], 3)) == {"map": 0.0, "map50": 0.0}
    assert summarise(average_precisions([Picture(nothing, one), Picture(one, one)], 3))["map50"] == pytest.approx(50)


def scene_batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    dataset = BoxDataset(SceneSource("valid", count, 64), 64)
    images, targets = (np.stack(each) for each in zip(*(dataset[0, index] for index in range(count)), strict=True))
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1, torch.from_numpy(targets)


def test_scores_are_those_of_the_network() -> None:
    """Loss and objects of batches are those that the network itself gives."""
    torch.manual_seed(0)
    network = SSDLite(10, 64, 0.35)
    images, targets = scene_batch(4)
    scores = BoxScores(network, 10)
    with torch.no_grad():
        network.train()(images, take_targets(targets))  # moves the statistics
        network.eval()
        outputs = network(images)
        for batch in (slice(0, 2), slice(2, 4)):
            scores.add(outputs[batch], targets[batch])
        expected = network.detections(network.outputs(images))
        losses = [network.losses(network.outputs(images[b]), take_targets(targets[b])) for b in (slice(2), slice(2, 4))]
    measured = scores.of_all("")
    assert measured["loss"] == pytest.approx(np.mean([float(sum(each.values())) for each in losses]))
    found = [picture.found for batch in scores.batches for picture in batch]
    for rows, each in zip(found, expected, strict=True):
        assert np.array_equal(rows[:, :4], each["boxes"].numpy())
        assert np.array_equal(rows[:, 4] + 1, each["labels"].numpy())
        assert np.array_equal(rows[:, 5], each["scores"].numpy())
    assert measured["images"] == 4


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_form_that_scores_gives_the_same_outputs(padding: str) -> None:
    torch.manual_seed(0)
    network = SSDLite(10, 64, 0.35, Definition(padding, 1e-3))
    images, targets = scene_batch(4)
    with torch.no_grad():
        network.train()(images, take_targets(targets))
        expected = network.eval()(images)
        found = score_form(network, torch.float32).eval()(images)
    assert found.shape == (4, 96, 15)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())

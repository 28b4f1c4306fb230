# SPDX-License-Identifier: Apache-2.0
"""Pictures with their boxes: those of the scenes, of any size, cropped, and in batches."""

import contextlib
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from core.annotated_images import Annotated
from core.digit_scenes import DIGITS, SCENE_SPLITS, DigitScenes
from core.picture_sources import SceneSource
from dataset import create_batches
from detection.dataset import LEAST_CROPPED_SIDE, BoxDataset, augmentation, shrunk, take_targets
from detection.model import SSDLite
from detection.settings import LEAST_CROP
from detection.train import guessing_loss

CPU = torch.device("cpu")
PLAIN = {"random_photometric_distortion": False, "random_zoom_out": 1.0, "random_crop_scale": None}
PLAIN |= {"random_flip_probability": 0.0, "model_mean_parameters": [0.5, 0.5, 0.5]}


def augment_with(**values: object) -> v2.Transform:
    return augmentation(SimpleNamespace(**PLAIN | values))


class OneColour:
    """Pictures of one colour and any size, with the objects that a test gives: a Source."""

    root, classes, notes, most_objects, has_crowds, is_endless = "pictures", ["cat", "dog"], [], 4, True, False

    def __init__(self, height: int, width: int, boxes: list[list[float]], ignored: list[bool]) -> None:
        self.shape, self.boxes, self.ignored = (height, width, 3), boxes, ignored

    def __len__(self) -> int:
        return 1

    def path(self, index: int) -> str:
        return "picture"

    def __getitem__(self, index: int) -> Annotated:
        boxes = np.array(self.boxes, np.float32).reshape(-1, 4)
        labels = np.arange(len(boxes), dtype=np.int64) % 2
        return Annotated(np.full(self.shape, 90, np.uint8), boxes, labels, np.array(self.ignored, bool), None)


def objects_of(rows: np.ndarray) -> np.ndarray:
    return rows[rows[:, 4] >= 0]


def test_scenes_are_those_of_the_split() -> None:
    for split, (digits, seed) in SCENE_SPLITS.items():
        scenes = DigitScenes(DIGITS, digits, seed=seed, num_scenes=3, side=64)
        dataset = BoxDataset(SceneSource(split, 3, 64), 64)
        assert len(dataset) == 3
        for index in range(3):
            image, rows = dataset[5, index]
            assert np.array_equal(image, scenes[index].image)
            assert np.array_equal(objects_of(rows)[:, :4], scenes[index].boxes)
            assert np.array_equal(objects_of(rows)[:, 4], scenes[index].labels)
            assert rows.shape == (4, 6)
            assert not objects_of(rows)[:, 5].any()


def test_large_pictures_are_made_smaller_before_they_are_augmented() -> None:
    """To four times the image size along the short side: 600 x 800 to 256 x 341, and the box with it.

    A panorama to the area of 256 x 512.
    """
    seen = []

    def look(pixels: torch.Tensor, corners: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append((tuple(pixels.shape), corners[0].tolist()))
        return pixels, corners

    for height, width in ((600, 800), (256, 300), (250, 4_000)):
        BoxDataset(OneColour(height, width, [[300, 150, 800, 600]], [False]), 64, seed=0, augment=look)[0, 0]
    (shape, corners), smaller, (panorama, _) = seen
    assert shape == (3, 256, 341)
    assert corners == pytest.approx([300 * 341 / 800, 150 * 256 / 600, 341, 256])
    assert smaller == ((3, 256, 300), [300, 150, 800, 600])
    assert panorama == (3, 91, 1448)


def test_every_epoch_of_a_training_has_scenes_of_its_own() -> None:
    scenes = DigitScenes(DIGITS, "train", seed=0, num_scenes=9, side=64)
    dataset = BoxDataset(SceneSource("train", 3, 64), 64, seed=1)
    for number in range(9):
        image, rows = dataset[divmod(number, 3)]
        assert np.array_equal(image, scenes[number].image)
        assert np.array_equal(objects_of(rows)[:, :4], scenes[number].boxes)


def test_pictures_of_any_size_are_squashed_with_their_boxes() -> None:
    source = OneColour(100, 400, [[40, 10, 200, 60], [300, 50, 400, 100]], [False, True])
    image, rows = BoxDataset(source, 64)[0, 0]
    assert image.shape == (64, 64, 3)
    expected = [[6.4, 6.4, 32, 38.4, 0, 0], [48, 32, 64, 64, 1, 1], [-1] * 6, [-1] * 6]
    assert rows.tolist() == [pytest.approx(row, rel=1e-6) for row in expected]
    (target,) = take_targets(torch.from_numpy(rows)[None])
    assert target["labels"].tolist() == [1]  # what is ignored is not trained on
    assert target["boxes"].shape == (1, 4)
    _, trained = BoxDataset(source, 64, seed=0)[0, 0]
    assert np.array_equal(objects_of(trained), rows[:1])


def test_boxes_without_area_and_pictures_without_boxes() -> None:
    """What has no area goes; what has less than a pixel of a side has no part in a loss either."""
    boxes = [[10, 10, 10, 50], [10, 10, 50, 50], [20, 20, 20.5, 60], [-30, 90, -5, 120]]
    source = OneColour(100, 100, boxes, [False] * 4)
    for options in ({}, {"seed": 0}):
        _, rows = BoxDataset(source, 64, **options)[0, 0]
        assert len(objects_of(rows)) == 2
        (target,) = take_targets(torch.from_numpy(rows)[None])
        assert len(target["boxes"]) == 1
    empty = OneColour(100, 100, [], [])
    for options in ({}, {"seed": 0, "augment": augment_with(random_crop_scale=(0.1, 1.0), random_zoom_out=2.0)}):
        image, rows = BoxDataset(empty, 64, **options)[0, 0]
        assert image.shape == (64, 64, 3)
        assert (rows == -1).all()
    (target,) = take_targets(torch.full((1, 4, 6), -1.0))
    assert target["boxes"].shape == (0, 4)


@pytest.mark.parametrize("classes", [1, 10, 80])
def test_fresh_network_has_no_greater_loss_than_guessing(classes: int) -> None:
    """Else its rate would be called too high; nor has it one of half of that, with which no rate would be."""
    dataset = BoxDataset(SceneSource("train", 8, 96), 96, seed=0)
    images, rows = (torch.from_numpy(np.stack(each)) for each in zip(*(dataset[0, n] for n in range(8)), strict=True))
    rows[..., 4] = rows[..., 4].clamp(max=classes - 1)
    torch.manual_seed(0)
    network = SSDLite(classes, 96, 0.5).train()
    with torch.no_grad():
        losses = network(images.permute(0, 3, 1, 2) / 64.0 - 2, take_targets(rows))
    loss = float(losses["classification"] + losses["bbox_regression"])
    limit = guessing_loss(SimpleNamespace(model_num_classes=classes))
    assert limit / 2 < loss < limit


def test_least_crop_is_a_pixel_of_the_smallest_picture() -> None:
    """torchvision divides by the whole pixels of a side: of nine tenths of that share there is none."""
    source = OneColour(
        LEAST_CROPPED_SIDE, LEAST_CROPPED_SIDE, [[0, 0, LEAST_CROPPED_SIDE, LEAST_CROPPED_SIDE]], [False]
    )
    for share, works in ((LEAST_CROP, True), (0.9 * LEAST_CROP, False)):
        dataset = BoxDataset(source, 64, seed=0, augment=augment_with(random_crop_scale=(share, share)))
        with contextlib.nullcontext() if works else pytest.raises(ZeroDivisionError):
            for epoch in range(20):
                dataset[epoch, 0]


def test_augmentation_is_a_function_of_seed_epoch_and_index() -> None:
    everything = {"random_photometric_distortion": True, "random_zoom_out": 2.0, "random_crop_scale": (0.1, 0.5)}
    dataset = partial(BoxDataset, SceneSource("train", 6, 64), 64, augment=augment_with(**everything))
    state = torch.get_rng_state()
    image, rows = dataset(seed=1)[2, 3]
    assert torch.equal(torch.get_rng_state(), state)
    again = dataset(seed=1)
    again[0, 0]
    assert np.array_equal(again[2, 3][0], image)
    assert np.array_equal(again[2, 3][1], rows)
    for seed, key in ((2, (2, 3)), (1, (1, 3)), (1, (2, 2))):
        assert not np.array_equal(dataset(seed=seed)[key][0], image)


@pytest.mark.parametrize(
    "values", [{"random_crop_scale": (0.1, 0.6)}, {"random_zoom_out": 3.0}, {"random_flip_probability": 1.0}]
)
def test_boxes_move_with_their_objects(values: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bright rectangle on black, whose box stays around its pixels but for the mixing at its edges."""
    source = OneColour(96, 96, [[20, 30, 60, 80]], [False])
    image = np.zeros((96, 96, 3), np.uint8)
    image[30:80, 20:60] = 255
    _, *others = source[0]
    monkeypatch.setattr(OneColour, "__getitem__", lambda *_: (image, *others))
    dataset = BoxDataset(source, 96, seed=0, augment=augment_with(**values, model_mean_parameters=[0, 0, 0]))
    plain, _ = BoxDataset(source, 96)[0, 0]
    moved = 0
    for epoch in range(8):
        pixels, rows = dataset[epoch, 0]
        ((left, top, right, bottom, *_),) = objects_of(rows)
        y, x = np.nonzero(pixels[..., 0] > 127)
        assert [left, top, right, bottom] == pytest.approx([x.min(), y.min(), x.max() + 1, y.max() + 1], abs=1.5)
        moved += not np.array_equal(pixels, plain)
    assert moved >= 3


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_hand_over_the_same_boxes(workers: int) -> None:
    scenes = BoxDataset(SceneSource("train", 24, 64), 64, 0, augment_with(random_crop_scale=(0.3, 1.0)))
    assert scenes.target_bytes == scenes[0, 0][1].nbytes
    epochs = []
    for count in (0, workers):
        batches = create_batches(scenes, batch_size=4, mean=[0, 0, 0], std=[1, 1, 1], device=CPU, num_workers=count)
        batches.set_epoch(1)
        epochs.append([(images.clone(), rows) for images, rows in batches])
    assert len(epochs[0]) == len(epochs[1]) == 6
    for (images, rows), (other_images, other_rows) in zip(*epochs, strict=True):
        assert rows.dtype == torch.float32
        assert rows.shape == (4, 4, 6)
        assert torch.equal(images, other_images)
        assert torch.equal(rows, other_rows)


def test_a_strip_keeps_a_row_of_pixels() -> None:
    """256 * sqrt(2 / 600,000) = 0.47 pixels would be left of its height."""
    image, boxes = shrunk(np.zeros((1, 600_000, 3), np.uint8), np.array([[0, 0, 600_000, 1]], np.float32), 256)
    assert image.shape[0] == 1 and boxes.tolist() == [[0, 0, image.shape[1], 1]]

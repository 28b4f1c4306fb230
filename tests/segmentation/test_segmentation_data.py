# SPDX-License-Identifier: Apache-2.0
"""Scenes with their masks, and mean IoU against torchmetrics."""

from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics.classification import MulticlassJaccardIndex

from core.annotated_images import IGNORED, Annotated
from core.digit_scenes import DIGITS, DigitScenes, Scene
from core.metrics import LossMeter
from core.picture_sources import SceneSource
from dataset import create_batches
from segmentation.dataset import MaskedImages
from segmentation.scoring import PixelScores, intersection_over_union, pixel_loss
from segmentation.train import SEGMENTATION

CPU = torch.device("cpu")
create_plain_batches = partial(create_batches, batch_size=4, mean=[0, 0, 0], std=[1, 1, 1], device=CPU)


def scene_masks(split: str, count: int, **options: object) -> MaskedImages:
    return MaskedImages(SceneSource(split, count, 64), 64, **options)


def test_digits_have_the_places_that_the_training_gave_them() -> None:
    """Weights that were trained on a folder of digits may have them in another order."""
    digits = [str(digit) for digit in range(10)]
    plain, turned = (SceneSource("test", 8, 64, classes)[5] for classes in (digits, digits[::-1]))
    assert turned.labels.tolist() == [9 - label for label in plain.labels] and len(plain.labels)
    assert np.array_equal(turned.mask, np.where(plain.mask > 0, 11 - plain.mask, 0))
    with pytest.raises(ValueError, match="test scenes: its classes are not .*: missing cat.*; set data_dir"):
        SceneSource("test", 8, 64, [*digits[:9], "cat"])


def random_masks(classes: int, seed: int) -> torch.Tensor:
    return torch.randint(classes, (3, 20, 30), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def answering(answers: torch.Tensor) -> torch.Tensor:
    """Logits [N, 5, H, W] with which these classes are predicted."""
    return torch.nn.functional.one_hot(answers, 5).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("classes", [5, 3])  # of 5, two of which may be in no mask and in no answer
def test_scores_equal_torchmetrics(classes: int) -> None:
    masks, answers = random_masks(classes, 0), random_masks(classes, 1).long()
    masks[:, :4] = IGNORED
    scores = PixelScores(5, CPU)
    for mask, answer in zip(masks, answers, strict=True):
        scores.add(answering(answer[None]), mask[None])
    found = scores.of_all("")
    for average, ours in (("macro", found["miou"] / 100), ("none", intersection_over_union(scores.counts()))):
        theirs = MulticlassJaccardIndex(5, average=average, ignore_index=IGNORED)(answers, masks.long())
        torch.testing.assert_close(torch.as_tensor(ours).nan_to_num(0).float(), theirs, rtol=0, atol=1e-6)
    counted = masks != IGNORED
    assert found["pixels"] == pytest.approx(100 * (masks[counted] == answers[counted]).double().mean())
    assert scores.counts().sum() == counted.sum()
    loss = torch.nn.functional.cross_entropy(answering(answers), masks.long(), ignore_index=IGNORED)
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert found["images"] == 3


def test_intersection_over_union_by_hand() -> None:
    """Six pixels: class 0 has 3, of which 2 are found; class 1 has 3, all found, and one more is taken for it."""
    scores = PixelScores(5, CPU)
    scores.add(answering(torch.tensor([[[0, 0, 1, 1, 1, 1]]])), torch.tensor([[[0, 0, 0, 1, 1, 1]]], dtype=torch.uint8))
    assert intersection_over_union(scores.counts())[:2].tolist() == [2 / 3, 3 / 4]
    assert intersection_over_union(scores.counts())[2:].isnan().all()
    assert scores.so_far("")["miou"] == pytest.approx(100 * (2 / 3 + 3 / 4) / 2)
    assert scores.so_far("")["pixels"] == pytest.approx(100 * 5 / 6)


def test_loss_of_the_pixels_that_count() -> None:
    logits = torch.randn(3, 5, 20, 30, generator=torch.Generator().manual_seed(0))
    masks = random_masks(5, 0)
    masks[:, :7] = IGNORED
    expected = torch.nn.functional.cross_entropy(logits, masks.long(), ignore_index=IGNORED)
    torch.testing.assert_close(pixel_loss(logits, masks), expected)


class KindsOfSums(TorchDispatchMode):
    """Notes how losses of pictures are summed up."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[int] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function is torch.ops.aten.nll_loss2d_forward.default:
            self.kinds.append(arguments[3])
        return function(*arguments, **(options or {}))


def test_loss_is_not_summed_where_a_gpu_would_refuse_to_repeat_it() -> None:
    """torch's CUDA routine refuses sums (2) and means (1) of nll_loss2d under use_deterministic_algorithms()."""
    with KindsOfSums() as sums:
        pixel_loss(torch.randn(2, 5, 6, 7), torch.zeros(2, 6, 7, dtype=torch.uint8))
    assert sums.kinds == [0]


def test_batch_without_a_pixel_that_counts_changes_nothing() -> None:
    """Its loss is 0, and what other batches of a step gave the weights stays to the bit."""
    network = torch.nn.Conv2d(3, 5, 1)
    images = torch.randn(3, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    state = SimpleNamespace(parallel_network=network, device=CPU, dtype=torch.float32, epoch=1, meter=LossMeter(CPU))
    compute_loss = SEGMENTATION.create_loss(ModuleType("config"), state, None, None)
    (compute_loss(images, random_masks(5, 0), 0) / 2).backward()
    before = [weight.grad.clone() for weight in network.parameters()]
    loss = compute_loss(images, torch.full((3, 20, 30), IGNORED, dtype=torch.uint8), 1)
    (loss / 2).backward()
    assert loss.item() == 0
    assert all(torch.equal(weight.grad, each) for weight, each in zip(network.parameters(), before, strict=True))
    assert state.meter.averages()["loss"] > 0
    scores = PixelScores(5, CPU)
    scores.add(network(images), torch.full((3, 20, 30), IGNORED, dtype=torch.uint8))
    assert scores.of_all("") == {"loss": 0, "images": 3, "skipped": 0, "miou": 0, "pixels": 0}


def test_scenes_are_those_of_the_split() -> None:
    for split, digits, seed in (("train", "train", 0), ("valid", "valid", 0), ("test", "valid", 1)):
        scenes = DigitScenes(DIGITS, digits, seed=seed, num_scenes=3, side=64)
        masks = scene_masks(split, 3)
        assert len(masks) == 3
        assert_same_scenes(masks, scenes)
        assert ["background", *"0123456789"] == masks.classes


def assert_same_scenes(masks: MaskedImages, scenes: DigitScenes) -> None:
    for index in range(3):
        image, mask = masks[7, index]
        assert np.array_equal(image, scenes[index].image)
        assert np.array_equal(mask, scenes[index].mask)


def test_every_epoch_of_a_training_has_scenes_of_its_own() -> None:
    scenes = DigitScenes(DIGITS, "train", seed=0, num_scenes=9, side=64)
    masks = scene_masks("train", 3, seed=1)
    for number in range(9):
        image, mask = masks[divmod(number, 3)]
        assert np.array_equal(image, scenes[number].image)
        assert np.array_equal(mask, scenes[number].mask)


def test_crops_are_a_function_of_seed_epoch_and_index() -> None:
    crops = partial(scene_masks, "train", 4, crop_scale=(0.3, 0.6))
    state = torch.get_rng_state()
    image, mask = crops(seed=1)[2, 3]
    assert torch.equal(torch.get_rng_state(), state)
    assert image.shape == (64, 64, 3)
    assert mask.shape == (64, 64)
    again = crops(seed=1)
    again[0, 0]
    assert np.array_equal(again[2, 3][0], image)
    assert np.array_equal(again[2, 3][1], mask)
    for seed, key in ((2, (2, 3)), (1, (1, 3)), (1, (2, 2))):
        assert not np.array_equal(crops(seed=seed)[key][0], image)


def test_mask_is_cropped_with_its_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a scene whose pixels tell their class, all of a crop do but those that were mixed at an edge."""
    mask = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4) % 11, np.ones((16, 16), np.uint8))
    scene = Scene(np.repeat(mask[..., None] * 20, 3, axis=2), np.empty((0, 4)), np.empty(0, int), mask)
    monkeypatch.setattr(DigitScenes, "__getitem__", lambda scenes, index: scene)
    crops = scene_masks("train", 8, seed=0, crop_scale=(0.3, 0.6))
    for index in range(8):
        image, cropped = crops[0, index]
        assert (np.abs(image[..., 0] / 20 - cropped) < 0.1).mean() > 0.75
        assert not np.array_equal(cropped, mask)


class Disc:
    """A bright disc in the centre of a picture of 375 x 500 pixels, and its mask: a source of one."""

    root, classes, notes, most_objects, has_crowds, is_endless = "disc", ["disc"], [], 0, False, False

    def __len__(self) -> int:
        return 1

    def path(self, index: int) -> str:
        return "disc"

    def __getitem__(self, index: int) -> Annotated:
        y, x = np.mgrid[:375, :500] + 0.5
        mask = (np.hypot(x - 250, y - 187.5) < 120).astype(np.uint8)
        return Annotated(np.repeat(255 * mask[..., None], 3, 2), np.empty((0, 4)), np.empty(0), np.empty(0), mask)


def test_mask_lies_where_its_picture_does() -> None:
    """By symmetry in the centre; with the pixel above and to the left of the nearest it would be 0.4 off."""
    image, mask = MaskedImages(Disc(), 128)[0, 0]
    for shape in (mask, image[..., 0] > 127):
        assert [places.mean() + 0.5 for places in np.nonzero(shape)] == pytest.approx([64, 64], abs=0.02)
    cropped = MaskedImages(Disc(), 128, seed=0, crop_scale=(0.3, 0.9))
    for epoch in range(5):
        image, mask = cropped[epoch, 0]
        assert ((image[..., 0] > 127) == mask).mean() > 0.995


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_hand_over_the_same_masks(workers: int) -> None:
    scenes = scene_masks("train", 24, seed=0, crop_scale=(0.3, 1.0))
    assert scenes.target_bytes == scenes[0, 0][1].nbytes
    epochs = []
    for count in (0, workers):
        batches = create_plain_batches(scenes, num_workers=count)
        batches.set_epoch(1)
        epochs.append([(images.clone(), masks) for images, masks in batches])
    assert len(epochs[0]) == len(epochs[1]) == 6
    for (images, masks), (other_images, other_masks) in zip(*epochs, strict=True):
        assert masks.dtype == torch.uint8
        assert masks.shape == (4, 64, 64)
        assert torch.equal(images, other_images)
        assert torch.equal(masks, other_masks)


def test_digits_are_the_embedded_ones() -> None:
    assert Path(__file__).resolve().parents[2] / "data/digits.csv.gz" == DIGITS

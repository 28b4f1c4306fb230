# SPDX-License-Identifier: Apache-2.0
"""Scenes of digits: boxes and masks against torchvision, what people can see, and the same scenes for everyone."""

import gzip
import hashlib
import io
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from numpy.random import default_rng
from PIL import Image
from torchvision.ops import box_iou, masks_to_boxes

from core import digit_scenes
from core.digit_scenes import DigitScenes, Scene
from preparing.digit_sources import read_digits
from preparing.sources import Source

CSV = ROOT / "data" / "digits.csv.gz"


def build(split: str = "train", seed: int = 0, num_scenes: int = 300, side: int = 96) -> DigitScenes:
    return DigitScenes(CSV, split, seed=seed, num_scenes=num_scenes, side=side)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """300 scenes of 96 x 96 pixels: more than 500 digits."""
    return list(build())


def digest(scene: Scene) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in scene)).hexdigest()


def luma(pixels: np.ndarray) -> np.ndarray:
    """ITU-R BT.601 of RGB levels [..., 3]."""
    return pixels.astype(float) @ [0.299, 0.587, 0.114]


def crop(array: np.ndarray, box: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = box.astype(int)
    return array[y0:y1, x0:x1]


# The file


def test_digits_are_those_of_the_published_test_set() -> None:
    levels, labels = digit_scenes.read_digits_csv(CSV)
    assert (levels.shape, levels.dtype, labels.shape, labels.dtype) == ((1797, 8, 8), np.uint8, (1797,), np.int64)
    # The counts per class of optdigits.names, E. Alpaydin, C. Kaynak (1998), and the file's first line.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert labels[0] == 0
    assert levels[0, :2].tolist() == [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0]]
    assert (levels.min(), levels.max()) == (0, 16)


def test_full_ink_is_255() -> None:
    assert digit_scenes.to_grey(np.array([0, 1, 8, 15, 16], np.uint8)).tolist() == [0, 16, 128, 239, 255]


DAMAGE = {
    "fewer lines": lambda text: text[: text.rindex(b"\n", 0, -1) + 1],
    "shorter line": lambda text: text.replace(b"0,", b"", 1),
    "value of 17": lambda text: text.replace(b",16,", b",17,", 1),
    "value of -1": lambda text: text.replace(b",16,", b",-1,", 1),
    "class of 10": lambda text: text.replace(b"9\n", b"10\n", 1),
    "word": lambda text: text.replace(b",16,", b",ink,", 1),
    "huge value": lambda text: text.replace(b",16,", b",%d," % 2**64, 1),
    "no text": lambda text: b"",
}


def damaged(kind: str) -> bytes:
    packed = CSV.read_bytes()
    if kind in DAMAGE:
        return gzip.compress(DAMAGE[kind](gzip.decompress(packed)), 1)
    bits = packed[:5000] + bytes(100) + packed[5100:]
    return {"empty": b"", "no gzip": gzip.decompress(packed), "cut": packed[:-1000], "bits": bits}[kind]


@pytest.mark.parametrize("kind", ["empty", "no gzip", "cut", "bits", *DAMAGE])
def test_damaged_file_is_named_with_the_remedy(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(damaged(kind))
    with pytest.raises(ValueError) as refusal:
        digit_scenes.read_digits_csv(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert str(refusal.value).endswith("; restore the file")
    assert "\n" not in str(refusal.value)


def test_valid_is_every_fifth_of_each_class_by_hand() -> None:
    labels = np.array([1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0])
    # sorted: the zeros in places 1 3 4 6 8 9 11, then the ones in 0 2 5 7 10; of these twelve the 1st, 6th and 11th
    assert np.flatnonzero(digit_scenes.is_valid(labels)).tolist() == [1, 7, 9]


def test_scenes_have_the_digits_of_the_prepared_dataset() -> None:
    """Of the PNG files that prepare_dataset.py writes, before they are on the disk."""
    prepared: dict[str, Counter] = {"train": Counter(), "valid": Counter()}
    for split, label, _, data in read_digits(Source(CSV, valid_share=0.2, seed=0)):
        with Image.open(io.BytesIO(data)) as image:
            prepared[split][int(label), image.tobytes()] += 1
    assert [digits.total() for digits in prepared.values()] == [1437, 360]
    assert not prepared["train"] & prepared["valid"]
    for split, digits in prepared.items():
        scenes = build(split)
        pairs = zip(scenes.labels, scenes.inks[:, 1:-1, 1:-1], strict=True)
        assert Counter((int(label), ink.tobytes()) for label, ink in pairs) == digits


# Boxes, labels, masks


def test_arrays_have_their_types_and_shapes(scenes: list[Scene]) -> None:
    for image, boxes, labels, mask in scenes:
        assert (image.shape, image.dtype, image.flags.c_contiguous) == ((96, 96, 3), np.uint8, True)
        assert (boxes.shape, boxes.dtype) == ((len(labels), 4), np.float32)
        assert (mask.shape, mask.dtype, labels.dtype) == ((96, 96), np.uint8, np.int64)


def test_boxes_are_those_that_torchvision_finds_in_the_mask(scenes: list[Scene]) -> None:
    """Of one digit exactly; several of the same class are in one box together, and each fills its own to the sides."""
    for _, boxes, labels, mask in scenes:
        assert set(np.unique(mask)) == {0, *(labels + 1)}
        for label in set(labels):
            is_label = mask == 1 + label
            x0, y0, x1, y1 = masks_to_boxes(torch.from_numpy(is_label)[None])[0].tolist()  # x1, y1: the last pixel
            ours = boxes[labels == label]
            assert [x0, y0, x1 + 1, y1 + 1] == [*ours[:, :2].min(axis=0), *ours[:, 2:].max(axis=0)]
            for box in ours:
                sides = crop(is_label, box)
                assert all(side.any() for side in (sides[0], sides[-1], sides[:, 0], sides[:, -1]))


def test_every_pixel_of_the_mask_is_in_a_box_of_its_digit(scenes: list[Scene]) -> None:
    for _, boxes, labels, mask in scenes:
        boxed = np.zeros_like(mask)
        for box, label in zip(boxes, labels, strict=True):
            crop(boxed, box)[crop(mask, box) == 1 + label] = 1 + label
        assert np.array_equal(boxed, mask)


def test_boxes_overlap_by_an_iou_of_a_tenth_at_most(scenes: list[Scene]) -> None:
    overlaps = []
    for scene in scenes:
        boxes = torch.from_numpy(scene.boxes)
        overlaps += box_iou(boxes, boxes)[~torch.eye(len(boxes), dtype=torch.bool)].tolist()
    assert 0.05 < max(overlaps) <= 0.1
    assert min(overlaps) == 0


@pytest.mark.parametrize(
    ("other", "expected"),
    [((0, 0, 4, 4), 1), ((2, 2, 6, 6), 4 / 28), ((4, 0, 8, 4), 0), ((9, 9, 12, 12), 0), ((1, 1, 3, 3), 4 / 16)],
)
def test_iou_by_hand(other: tuple[int, int, int, int], expected: float) -> None:
    assert digit_scenes.iou((0, 0, 4, 4), other) == digit_scenes.iou(other, (0, 0, 4, 4)) == expected


def test_scenes_have_one_to_four_digits_of_all_classes_and_sizes(scenes: list[Scene]) -> None:
    numbers = Counter(len(scene.labels) for scene in scenes)
    assert set(numbers) <= {1, 2, 3, 4}
    assert numbers[2] > numbers[1] > 0
    assert numbers[3] > 0
    counts = np.bincount(np.concatenate([scene.labels for scene in scenes]), minlength=10)
    assert counts.min() > counts.sum() / 20  # half of a tenth
    boxes = np.concatenate([scene.boxes for scene in scenes])
    assert boxes.min() >= 0
    assert boxes.max() <= 96
    heights = (boxes[:, 3] - boxes[:, 1]) / 96
    # The outer rows have little ink, of which an interpolated edge takes up to half a row on each side.
    assert 0.5 * 7 / 8 - 1 / 96 <= heights.min() < 0.52
    assert 0.77 < heights.max() <= 0.8 + 2 / 96  # cubic interpolation swells a dark edge a little


@pytest.mark.parametrize("number", range(0, 1400, 140))
def test_mask_is_half_of_the_ink_that_torch_interpolates(number: int) -> None:
    """torch's bicubic weights are OpenCV's, which rounds them and the ink to whole levels."""
    ink = build().inks[number]
    alpha = digit_scenes.draw_digit(ink, 320, default_rng(number))
    length = round(320 * default_rng(number).uniform(0.5, 0.8) * 10 / 8)
    ink = torch.from_numpy(ink)[None, None].double()
    theirs = torch.nn.functional.interpolate(ink, (length, length), mode="bicubic")[0, 0].numpy()
    rows, columns = (np.flatnonzero((theirs > 85.5).any(axis=axis)) for axis in (1, 0))
    theirs = theirs[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert alpha.shape == theirs.shape
    is_clear = np.abs(theirs - 127.5) > 2
    assert np.array_equal((alpha >= digit_scenes.HALF)[is_clear], (theirs > 127.5)[is_clear])
    assert is_clear.mean() > 0.95


def test_the_largest_digit_fits_on_the_canvas(monkeypatch: pytest.MonkeyPatch) -> None:
    """A square of ink that is as high as digits get."""
    monkeypatch.setattr(digit_scenes, "HEIGHTS", [max(digit_scenes.HEIGHTS)] * 2)
    ink = np.pad(np.full((8, 8), 255, np.uint8), 1)
    assert max(digit_scenes.draw_digit(ink, 160, default_rng(0)).shape) <= 160


def test_digits_are_kept_apart_by_their_faintest_ink() -> None:
    """A canvas that is free in its right half alone, and a digit that is faint but for one pixel."""
    alpha = np.full((9, 7), 1, np.uint8)
    alpha[4, 3] = 255
    taken = np.zeros((20, 20), bool)
    taken[:, :10] = True
    windows = [digit_scenes.find_window(alpha, taken, [], default_rng(seed)) for seed in range(50)]
    starts = {columns.start for _, columns in filter(None, windows)}
    assert starts == {10, 11, 12, 13}
    taken[:] = True
    assert digit_scenes.find_window(alpha, taken, [], default_rng(0)) is None


def test_no_pixel_is_drawn_on_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def draw_once(image: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> None:
        assert not image[alpha > 0].any()
        image[alpha > 0] = 1
        drawn.append(colour)

    monkeypatch.setattr(digit_scenes, "draw_background", lambda side, generator: np.zeros((side, side, 3), np.uint8))
    monkeypatch.setattr(digit_scenes, "lay_over", draw_once)
    assert sum(len(scene.labels) for scene in build()) == len(drawn) > 500


# What people see


def test_digits_stand_out_from_what_is_behind_them() -> None:
    """80 levels of luma, less 15 of noise, between what is drawn solidly and what is next to it."""
    num_seen = 0
    for image, boxes, labels, mask in build(num_scenes=60, side=256):
        for box, label in zip(boxes, labels, strict=True):
            cut, own = crop(image, box), crop(mask, box) == 1 + label
            ink = cv2.erode(own.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
            others = cv2.dilate((crop(mask, box) > 0).astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool)
            if min(ink.sum(), (~others).sum()) >= 20:  # else nothing is left of thin strokes or of the corners
                num_seen += 1
                assert abs(np.median(luma(cut[ink])) - np.median(luma(cut[~others]))) >= 80 - 15
    assert num_seen > 60


def test_a_colour_is_found_before_every_background() -> None:
    """The darkest, of which black alone is 80 away, and the brightest."""
    for behind, number in ((np.arange(82, 174), 1), (np.arange(164, 256), 15)):
        colours = [digit_scenes.choose_colour(behind.astype(np.uint8), default_rng(seed)) for seed in range(40)]
        for colour in colours:
            assert behind.min() - luma(colour) >= 80 - 0.5  # OpenCV rounds the luma
        assert len({tuple(colour) for colour in colours}) >= number


def test_backgrounds_vary_within_what_leaves_a_colour() -> None:
    for seed in range(200):
        image = digit_scenes.draw_background(96, default_rng(seed))
        ranges = np.ptp(image.reshape(-1, 3), axis=0)
        assert ranges.max() <= 48 * 1.375**2
        assert luma(image).min() >= 82  # black is 80 darker
        assert ranges.max() >= 8  # not flat
        assert np.abs(np.diff(image.astype(int), axis=0)).max() <= 8  # smooth: at most 48 levels in a seventh of 96
        assert np.abs(np.diff(image.astype(int), axis=1)).max() <= 8


def test_colours_are_laid_over_in_proportion_to_the_opacity() -> None:
    image = np.array([[[10, 200, 0]] * 4], np.uint8)
    digit_scenes.lay_over(image, np.array([250, 20, 255], np.uint8), np.array([[0, 51, 128, 255]], np.uint8))
    # a fifth of the way: 58, 164, 51; 128 of 255: 10 + 240 * 0.50196 = 130.47, 200 - 180 * 0.50196 = 109.65, 128
    assert image.tolist() == [[[10, 200, 0], [58, 164, 51], [130, 110, 128], [250, 20, 255]]]


def test_noise_has_the_spread_of_whole_levels_from_minus_8_to_7(scenes: list[Scene]) -> None:
    """Two neighbours differ by a variance of 2 * (16**2 - 1) / 12, and by little else where there is no digit."""
    differences = []
    for image, *_, mask in scenes[:50]:
        is_free = cv2.dilate(mask, np.ones((15, 15), np.uint8)) == 0
        pixels = image.astype(int)
        is_inside = (pixels > 16) & (pixels < 239)  # not cut off at 0 or 255
        is_pair = (is_free[:, 1:] & is_free[:, :-1])[..., None] & is_inside[:, 1:] & is_inside[:, :-1]
        differences.append(np.diff(pixels, axis=1)[is_pair])
    assert np.concatenate(differences).var() == pytest.approx(2 * (16**2 - 1) / 12, rel=0.05)


def test_edges_are_soft_and_end_before_the_canvas_of_a_digit() -> None:
    """No square around a digit: what is drawn of it fades out on all four sides."""
    for number, ink in enumerate(build().inks[::50]):
        alpha = digit_scenes.draw_digit(ink, 320, default_rng(number)).astype(int)
        between = (alpha > 20) & (alpha < 235)
        assert 0.05 < between.sum() / (alpha > 0).sum() < 0.6
        assert max(alpha[0].max(), alpha[-1].max(), alpha[:, 0].max(), alpha[:, -1].max()) < 128


# The same for everyone

IN_ANOTHER_PROCESS = f"""
import hashlib
from core.digit_scenes import DigitScenes
scenes = DigitScenes({str(CSV)!r}, "train", seed=7, num_scenes=1000, side=64)
for index in (999, 5, 0, 3):
    print(hashlib.sha256(b"".join(array.tobytes() for array in scenes[index])).hexdigest())
"""


def test_scenes_are_the_same_in_another_process_order_and_number() -> None:
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    scenes = build(seed=7, num_scenes=1000, side=64)
    digests = {index: digest(scenes[index]) for index in (0, 3, 5, 999)}
    assert output.split() == [digests[index] for index in (999, 5, 0, 3)]
    fewer = build(seed=7, num_scenes=4, side=64)
    assert [digest(fewer[index]) for index in (0, 3)] == [digests[0], digests[3]]


def test_scenes_differ_by_split_seed_index_and_side(scenes: list[Scene]) -> None:
    others = [build("valid")[0], build(seed=1)[0], build(side=97)[0]]
    assert len({digest(scene) for scene in (*scenes, *others)}) == 303
    # Not by the digits and the noise alone: the backgrounds are others, too.
    corners = [scene.image[:8, :8].mean(axis=(0, 1)) for scene in (scenes[0], *others[:2])]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(corners[first] - corners[second]).max() > 8


def test_scenes_are_no_more_than_their_number() -> None:
    scenes = build(num_scenes=3)
    assert (len(scenes), len(list(scenes))) == (3, 3)
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"scene {index} of 3"):
            scenes[index]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="split 'test'; name one of train, valid"):
        build("test")
    with pytest.raises(ValueError, match="side of 63 pixels; take 64 or more"):
        build(side=63)
    with pytest.raises(FileNotFoundError):
        DigitScenes("nowhere.csv.gz", "train", seed=0, num_scenes=1, side=64)

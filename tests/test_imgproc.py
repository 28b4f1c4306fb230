# SPDX-License-Identifier: Apache-2.0
"""imgproc.py against Pillow's decoders and torchvision's transforms on Pillow images."""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from pictures import largest_difference, noise, photo, smooth
from PIL import Image
from torchvision import transforms
from torchvision.transforms.autoaugment import TrivialAugmentWide, _apply_op

import imgproc


def assert_share(hits: int, draws: int, probability: float) -> None:
    """Within 4 standard deviations of a binomial: 1 in 16,000 fair counts lies outside, and the seeds are fixed."""
    assert abs(hits - draws * probability) <= 4 * math.sqrt(draws * probability * (1 - probability))


def assert_uniform(counts: Sequence[int]) -> None:
    """Pearson's chi-square, within 4 standard deviations of its mean: both follow from the degrees of freedom."""
    expected = sum(counts) / len(counts)
    degrees = len(counts) - 1
    chi_square = sum((count - expected) ** 2 / expected for count in counts)
    assert abs(chi_square - degrees) <= 4 * math.sqrt(2 * degrees)


def assert_same_distribution(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Kolmogorov and Smirnov's two-sample test at a level of 0.1 %."""
    levels = np.union1d(ours, theirs)
    shares = [np.searchsorted(np.sort(sample), levels, side="right") / len(sample) for sample in (ours, theirs)]
    assert np.abs(shares[0] - shares[1]).max() <= 1.95 * math.sqrt(1 / len(ours) + 1 / len(theirs))


# eval_transform

SHORT_SIDES = {32: 37, 64: 73, 96: 110, 128: 146, 160: 183, 192: 219, 224: 256, 299: 342}  # the size over 0.875
SHAPES = (
    *((256, 256), (224, 224), (375, 500), (500, 375), (187, 140), (1200, 900)),
    *((20, 31), (8, 8), (2, 3), (1, 1)),  # smaller than any crop
    *((7, 400), (400, 7), (20, 900), (900, 20), (1, 100)),
)


@pytest.mark.parametrize("image_size", SHORT_SIDES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("content", [smooth, noise])
def test_eval_transform_within_2_levels_of_torchvision(
    content: Callable[[int, int], np.ndarray], shape: tuple[int, int], image_size: int
) -> None:
    image = content(*shape)
    reference = transforms.Compose([transforms.Resize(SHORT_SIDES[image_size]), transforms.CenterCrop(image_size)])
    ours, theirs = imgproc.eval_transform(image, image_size), np.asarray(reference(Image.fromarray(image)))
    assert largest_difference(ours, theirs) <= 2
    assert abs(ours.mean() - theirs.mean()) < 0.05  # no drift to brighter or darker
    assert ours.flags.c_contiguous


def test_eval_transform_leaves_its_input_alone() -> None:
    image = noise(37, 37)
    imgproc.eval_transform(image, 32)[:] = 0
    assert np.array_equal(image, noise(37, 37))


# train_transform

ALL_OFF = {
    "image_size": 64,
    "crop_scale": None,
    "flip_probability": 0.0,
    "trivial_augment": False,
    "erasing_probability": 0.0,
    "erasing_value": (124, 116, 104),
}
ON = {
    "crop_scale": (0.08, 1.0),
    "flip_probability": 1.0,
    "trivial_augment": True,
    "erasing_probability": 1.0,
}


@pytest.mark.parametrize("shape", [(80, 120), (73, 73), (20, 30)])
def test_train_transform_with_every_option_off_is_eval_transform(shape: tuple[int, int]) -> None:
    for seed in range(20):
        ours = imgproc.train_transform(photo(*shape), default_rng(seed), **ALL_OFF)
        assert np.array_equal(ours, imgproc.eval_transform(photo(*shape), 64))


@pytest.mark.parametrize("option", ON)
def test_each_option_alone_changes_the_image(option: str) -> None:
    image = noise(80, 120)
    plain = imgproc.eval_transform(image, 64)
    options = ALL_OFF | {option: ON[option]}
    outputs = [imgproc.train_transform(image, default_rng(seed), **options) for seed in range(50)]
    assert {(output.shape, output.dtype.name, output.flags.c_contiguous) for output in outputs} == {
        ((64, 64, 3), "uint8", True)
    }
    assert sum(not np.array_equal(output, plain) for output in outputs) >= 35


def global_random_states() -> tuple[object, ...]:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def test_same_generator_seed_gives_the_same_images() -> None:
    outputs, states = [], global_random_states()
    for _ in range(2):
        generator = default_rng(7)
        outputs.append([imgproc.train_transform(photo(80, 120), generator, **ALL_OFF | ON) for _ in range(30)])
    assert np.array_equal(*outputs)
    assert global_random_states() == states  # all randomness is the generator's


def test_generators_of_different_seeds_give_different_images() -> None:
    outputs = [imgproc.train_transform(photo(80, 120), default_rng(seed), **ALL_OFF | ON) for seed in range(20)]
    assert len({output.tobytes() for output in outputs}) == 20


def test_train_transform_leaves_its_input_alone() -> None:
    image = noise(73, 73)
    for seed in range(50):
        imgproc.train_transform(image, default_rng(seed), **ALL_OFF | ON | {"crop_scale": None})[:] = 0
    assert np.array_equal(image, noise(73, 73))


def test_flip_mirrors_left_and_right() -> None:
    flipped = imgproc.train_transform(photo(80, 120), default_rng(0), **ALL_OFF | {"flip_probability": 1.0})
    assert np.array_equal(flipped, np.fliplr(imgproc.eval_transform(photo(80, 120), 64)))


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("option", ["flip_probability", "erasing_probability"])
def test_option_acts_on_its_share_of_the_images(option: str, probability: float) -> None:
    image, generator = noise(16, 16), default_rng(0)
    options = ALL_OFF | {"image_size": 16, option: probability}
    plain = imgproc.eval_transform(image, 16)
    changed = sum(not np.array_equal(imgproc.train_transform(image, generator, **options), plain) for _ in range(3000))
    assert_share(changed, 3000, probability)


def test_erasing_comes_last() -> None:
    """Else TrivialAugmentWide would change the value that was written."""
    value = np.array([12, 200, 33])
    for seed in range(100):
        output = imgproc.train_transform(
            smooth(80, 120), default_rng(seed), **ALL_OFF | ON | {"erasing_value": value.tolist()}
        )
        assert (output == value).all(axis=-1).mean() > 0.01


# Random resized crop

DRAWS = 20_000
RATIOS = (3 / 4, 4 / 3)


class CropRecorder:
    """Stands in for imgproc.resize and notes (top, left, height, width) of each crop of coordinates()."""

    def __init__(self) -> None:
        self.boxes: list[tuple[int, int, int, int]] = []

    def __call__(self, crop: np.ndarray, height: int, width: int) -> np.ndarray:
        self.boxes.append((int(crop[0, 0, 0]), int(crop[0, 0, 1]), *crop.shape[:2]))
        return np.zeros((height, width, 3), np.uint8)


def coordinates(height: int, width: int) -> np.ndarray:
    """Each pixel holds its row and column: sides up to 256. The third channel is noise."""
    image = noise(height, width)
    image[..., 0], image[..., 1] = np.mgrid[0:height, 0:width]
    return image


def crop_boxes(shape: tuple[int, int], scale: tuple[float, float], draws: int, patch: pytest.MonkeyPatch) -> np.ndarray:
    recorder = CropRecorder()
    patch.setattr(imgproc, "resize", recorder)
    image, generator = coordinates(*shape), default_rng(0)
    for _ in range(draws):
        imgproc.random_resized_crop(image, 32, scale, generator)
    return np.array(recorder.boxes)


def torchvision_crop_boxes(shape: tuple[int, int], scale: tuple[float, float], draws: int) -> np.ndarray:
    torch.manual_seed(0)
    image = torch.empty(3, *shape)
    return np.array([transforms.RandomResizedCrop.get_params(image, scale, RATIOS) for _ in range(draws)])


def assert_same_box_distribution(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Position, sides, area and aspect ratio."""
    for column in range(4):
        assert_same_distribution(ours[:, column], theirs[:, column])
    for combine in (np.multiply, np.divide):
        assert_same_distribution(combine(ours[:, 2], ours[:, 3]), combine(theirs[:, 2], theirs[:, 3]))


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.35, 0.5)])
@pytest.mark.parametrize("shape", [(200, 240), (224, 224), (250, 120)])
def test_crops_are_distributed_as_in_torchvision(
    shape: tuple[int, int], scale: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = crop_boxes(shape, scale, DRAWS, monkeypatch)
    assert_same_box_distribution(ours, torchvision_crop_boxes(shape, scale, DRAWS))


def test_crop_covers_its_share_with_its_aspect_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 3/4..4/3 on 0.2..0.4 of 250 x 250 always fits, so area share and log ratio are uniform."""
    boxes = crop_boxes((250, 250), (0.2, 0.4), DRAWS, monkeypatch).astype(float)
    shares = boxes[:, 2] * boxes[:, 3] / 250**2
    log_ratios = np.log(boxes[:, 3] / boxes[:, 2])
    quantiles = np.linspace(0, 1, 11)
    # 5 standard deviations of a decile of 20,000 draws are below 2 % of the range; then the rounding to pixels
    assert np.abs(np.quantile(shares, quantiles) - np.linspace(0.2, 0.4, 11)).max() < 0.02 * 0.2 + 0.004
    expected = np.linspace(math.log(3 / 4), math.log(4 / 3), 11)
    assert np.abs(np.quantile(log_ratios, quantiles) - expected).max() < 0.02 * 0.58 + 0.01


def assert_same_support(ours: np.ndarray, theirs: np.ndarray) -> None:
    """A box that one side draws 50 times is drawn by the other: the outermost positions are not left out."""
    counts = [Counter(map(tuple, boxes.tolist())) for boxes in (ours, theirs)]
    for mine, other in (counts, counts[::-1]):
        assert {box for box, count in mine.items() if count >= 50} <= other.keys()


def test_crops_of_a_small_image_are_those_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = crop_boxes((5, 6), (0.3, 0.6), DRAWS, monkeypatch)
    assert_same_support(ours, torchvision_crop_boxes((5, 6), (0.3, 0.6), DRAWS))


@pytest.mark.parametrize("scale", [(0.1, 0.15), (0.6, 0.65)])
def test_train_transform_crops_the_share_it_is_given(
    scale: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = CropRecorder()
    monkeypatch.setattr(imgproc, "resize", recorder)
    for seed in range(50):
        imgproc.train_transform(coordinates(200, 200), default_rng(seed), **ALL_OFF | {"crop_scale": scale})
    shares = [height * width / 200**2 for _, _, height, width in recorder.boxes]
    assert len(shares) == 50
    assert scale[0] - 0.005 < min(shares) and max(shares) < scale[1] + 0.005  # rounding to pixels


@pytest.mark.parametrize("shape", [(1, 250), (250, 1), (9, 250), (250, 9), (3, 100), (1, 1)])
def test_crop_of_a_shape_that_never_fits_is_the_central_one_of_torchvision(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = crop_boxes(shape, (0.9, 1.0), 50, monkeypatch)
    assert np.array_equal(ours, torchvision_crop_boxes(shape, (0.9, 1.0), 50))
    assert len(np.unique(ours, axis=0)) == 1


@pytest.mark.parametrize("shape", [(120, 160), (20, 15), (3, 250), (1, 1)])
def test_crop_is_resized_as_in_torchvision(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the 2 levels of the evaluation transform."""
    image = coordinates(*shape)
    boxes = crop_boxes(shape, (0.08, 1.0), 20, monkeypatch)
    monkeypatch.undo()
    generator = default_rng(0)
    for box in boxes.tolist():
        ours = imgproc.random_resized_crop(image, 48, (0.08, 1.0), generator)
        theirs = transforms.functional.resized_crop(Image.fromarray(image), *box, [48, 48])
        assert largest_difference(ours, theirs) <= 2


# Random erasing


def erased_box(output: np.ndarray) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the white box on black; the whole image where there is none, as torchvision."""
    white = output[..., 0] > 0
    if not white.any():
        return 0, 0, *white.shape
    rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert white.sum() == height * width
    return rows[0], columns[0], height, width


def erased_boxes(shape: tuple[int, int]) -> np.ndarray:
    black, generator = np.zeros((*shape, 3), np.uint8), default_rng(0)
    return np.array([erased_box(imgproc.random_erasing(black, (255, 255, 255), generator)) for _ in range(DRAWS)])


def torchvision_erased_boxes(shape: tuple[int, int]) -> np.ndarray:
    torch.manual_seed(0)
    image, options = torch.empty(3, *shape), {"scale": (0.02, 0.33), "ratio": (0.3, 3.3), "value": [0.0]}
    return np.array([transforms.RandomErasing.get_params(image, **options)[:4] for _ in range(DRAWS)])


@pytest.mark.parametrize("shape", [(100, 100), (60, 150), (150, 60), (20, 200)])
def test_erased_boxes_are_distributed_as_in_torchvision(shape: tuple[int, int]) -> None:
    assert_same_box_distribution(erased_boxes(shape), torchvision_erased_boxes(shape))


def test_erased_boxes_of_a_small_image_are_those_of_torchvision() -> None:
    """8 x 8: the smallest share, 2 %, is one pixel."""
    assert_same_support(erased_boxes((8, 8)), torchvision_erased_boxes((8, 8)))


def test_erasing_writes_its_value_and_nothing_else() -> None:
    image = smooth(40, 50)
    output = imgproc.random_erasing(image, (123.675, 116.28, 103.53), default_rng(0))
    top, left, height, width = erased_box((output != image).any(axis=-1, keepdims=True))
    assert (output[top : top + height, left : left + width] == (124, 116, 104)).all()
    assert np.array_equal(image, smooth(40, 50))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_image_too_thin_for_any_box_stays_as_it_is(shape: tuple[int, int]) -> None:
    generator = default_rng(0)
    for _ in range(50):
        assert np.array_equal(imgproc.random_erasing(noise(*shape), (0, 0, 0), generator), noise(*shape))


# TrivialAugmentWide

SPACE = TrivialAugmentWide()._augmentation_space(31)
BLENDS = ("Color", "Sharpness")  # computed in another order than Pillow's
IMAGES = {
    "noise 224 x 224": noise(224, 224),
    "smooth 187 x 140": smooth(187, 140),
    "photo 64 x 97": photo(64, 97),
    "constant": np.full((50, 60, 3), (200, 17, 90), np.uint8),
    "low contrast": 100 + noise(96, 96) // 16,
    "2 x 2": noise(2, 2),
    "1 x 5": noise(1, 5),
    "5 x 1": noise(5, 1),
    "3 x 3": noise(3, 3),
    "1 x 1": noise(1, 1),
}


def torchvision_magnitudes(name: str) -> list[float]:
    """All that can be drawn for an operation: of each bin, and of each sign."""
    bins, signed = SPACE[name]
    magnitudes = bins.tolist() if bins.ndim else [float(bins)]
    return magnitudes + [-magnitude for magnitude in magnitudes if signed]


def function_name(name: str) -> str:
    return {"AutoContrast": "autocontrast"}.get(name, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())


@pytest.mark.parametrize("name", SPACE)
@pytest.mark.parametrize("image", IMAGES.values(), ids=list(IMAGES))
def test_operation_equals_torchvision_at_every_magnitude(image: np.ndarray, name: str) -> None:
    operation, picture, before = getattr(imgproc, function_name(name)), Image.fromarray(image), image.copy()
    different = pixels = 0
    for magnitude in torchvision_magnitudes(name):
        ours = operation(image, magnitude)
        theirs = _apply_op(picture, name, magnitude, transforms.InterpolationMode.NEAREST, fill=None)
        assert largest_difference(ours, theirs) <= (name in BLENDS), magnitude
        different += np.count_nonzero(ours != np.asarray(theirs))
        pixels += ours.size
    assert different <= 1e-3 * pixels
    assert np.array_equal(image, before)


def test_search_space_is_torchvisions() -> None:
    operations = [operation.__name__ for operation, _ in imgproc.OPERATIONS]
    assert operations == [function_name(name) for name in SPACE]
    for (_, (_, _, signed)), magnitudes, (bins, expected_signed) in zip(
        imgproc.OPERATIONS, imgproc.MAGNITUDES, SPACE.values(), strict=True
    ):
        assert signed == expected_signed
        assert len(magnitudes) == 31
        rounded = magnitudes if bins.is_floating_point() else [round(magnitude) for magnitude in magnitudes]
        assert rounded == bins.expand(31).tolist()


def record_draws(draws: int, patch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """(operation, signed magnitude) of each call of trivial_augment_wide."""
    recorded = []

    def recorder(name: str) -> Callable[[np.ndarray, float], np.ndarray]:
        return lambda image, magnitude: recorded.append((name, magnitude)) or image

    spies = tuple((recorder(operation.__name__), settings) for operation, settings in imgproc.OPERATIONS)
    patch.setattr(imgproc, "OPERATIONS", spies)
    generator, image = default_rng(0), noise(4, 4)
    for _ in range(draws):
        imgproc.trivial_augment_wide(image, generator)
    assert len(recorded) == draws
    return recorded


def test_operations_and_bins_are_drawn_uniformly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operation by operation, and each pair of operation and bin where bins differ."""
    draws = record_draws(30_000, monkeypatch)
    operations = Counter(name for name, _ in draws)
    assert len(operations) == 14
    assert_uniform(list(operations.values()))
    pairs = Counter((name, abs(magnitude)) for name, magnitude in draws)
    continuous = [count for (name, _), count in pairs.items() if len(set_of_magnitudes(name)) == 31]
    assert len(continuous) == 11 * 31
    assert_uniform(continuous)


def set_of_magnitudes(name: str) -> set[float]:
    index = [function_name(operation) for operation in SPACE].index(name)
    return set(imgproc.MAGNITUDES[index])


def test_half_of_the_signed_magnitudes_are_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each operation and of all together."""
    signs = {function_name(name): [] for name, (_, signed) in SPACE.items() if signed}
    assert len(signs) == 9
    for name, magnitude in record_draws(30_000, monkeypatch):
        if name in signs:
            signs[name].append(math.copysign(1, magnitude) < 0)
    together = [negative for drawn in signs.values() for negative in drawn]
    for negative in (*signs.values(), together):
        assert_share(sum(negative), len(negative), 0.5)


def test_unsigned_magnitudes_are_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    unsigned = {function_name(name) for name, (_, signed) in SPACE.items() if not signed}
    assert all(magnitude >= 0 for name, magnitude in record_draws(5_000, monkeypatch) if name in unsigned)


def test_trivial_augment_applies_what_it_draws() -> None:
    """Each output is the image under one of torchvision's operations."""
    image, generator = photo(20, 24), default_rng(0)
    possible = [
        np.asarray(_apply_op(Image.fromarray(image), name, magnitude, transforms.InterpolationMode.NEAREST, None))
        for name in SPACE
        for magnitude in torchvision_magnitudes(name)
    ]
    for _ in range(50):
        output = imgproc.trivial_augment_wide(image, generator)
        assert min(largest_difference(output, other) for other in possible) <= 1


# normalize and denormalize

STATISTICS = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "halves": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


def all_levels() -> np.ndarray:
    """Two images that hold each of the 256 levels in each channel, at different places: [2, 16, 16, 3]."""
    generator = default_rng(0)
    levels = [generator.permuted(np.arange(256, dtype=np.uint8)) for _ in range(6)]
    return np.stack(levels).reshape(2, 3, 16, 16).transpose(0, 2, 3, 1).copy()


@pytest.fixture(params=STATISTICS)
def statistics(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel."""
    mean, std = STATISTICS[request.param]
    return torch.tensor(mean), torch.tensor(std)


def test_normalize_equals_torchvision(statistics: tuple[torch.Tensor, torch.Tensor]) -> None:
    reference = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*(s.tolist() for s in statistics))])
    theirs = torch.stack([reference(Image.fromarray(image)) for image in all_levels()])
    ours = imgproc.normalize(torch.from_numpy(all_levels()).permute(0, 3, 1, 2), *statistics)
    assert ours.dtype == torch.float32
    assert (ours - theirs).abs().max() <= 1e-6


def test_normalize_has_the_same_bits_in_both_memory_formats(statistics: tuple[torch.Tensor, torch.Tensor]) -> None:
    images = torch.from_numpy(all_levels()).permute(0, 3, 1, 2)
    assert torch.equal(imgproc.normalize(images, *statistics), imgproc.normalize(images.contiguous(), *statistics))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_normalize_keeps_the_memory_format_and_its_input(memory_format: torch.memory_format) -> None:
    images = torch.from_numpy(all_levels()).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    before = images.clone()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    assert imgproc.normalize(images, mean, std).is_contiguous(memory_format=memory_format)
    assert torch.equal(images, before)
    assert torch.equal(mean, torch.tensor([0.485, 0.456, 0.406]))


def test_denormalize_gives_back_all_256_levels(statistics: tuple[torch.Tensor, torch.Tensor]) -> None:
    images = torch.from_numpy(all_levels()).permute(0, 3, 1, 2)
    restored = imgproc.denormalize(imgproc.normalize(images, *statistics), *statistics)
    assert restored.dtype == torch.uint8
    assert torch.equal(restored, images)


@pytest.mark.parametrize(("share", "level"), [(-0.3, 0), (0.0, 0), (0.4999 / 255, 0), (0.5001 / 255, 1), (1.7, 255)])
def test_denormalize_rounds_and_clips(share: float, level: int, statistics: tuple[torch.Tensor, torch.Tensor]) -> None:
    mean, std = statistics
    images = ((share - mean) / std).reshape(1, 3, 1, 1)
    assert imgproc.denormalize(images, mean, std).flatten().tolist() == [level] * 3

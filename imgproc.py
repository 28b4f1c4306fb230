# SPDX-License-Identifier: Apache-2.0
"""One image: train and evaluation transforms, normalise. Images are RGB uint8 [H, W, 3] numpy arrays.

Mixup and cutmix, which mix the images of a batch, are in core/training_loss.py.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from core.pixels import Image

__all__ = [
    "augmentation",
    "denormalize",
    "eval_transform",
    "normalize",
    "random_erasing",
    "random_resized_crop",
    "train_transform",
    "trivial_augment_wide",
]

CROP_SHARE = 0.875  # evaluation crops the central 7/8 of the short side: 224 of 256


def resize(image: Image, height: int, width: int) -> Image:
    """Antialiased bilinear resize of uint8 [H, W, 3], within 2 grey levels of Pillow's."""
    if image.shape[:2] == (height, width):
        return image
    # The batch axis goes first: torch then sees a channels_last tensor, its fast path, and gives one back.
    batch = torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(batch, (height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def eval_transform(image: Image, image_size: int) -> Image:
    """Short side to image_size / 0.875 (256 for 224), then the central square: uint8 [S, S, 3].

    What the published accuracies were measured with; within 2 grey levels of torchvision's on Pillow images.
    """
    height, width = image.shape[:2]
    short, target = min(height, width), round(image_size / CROP_SHARE)
    image = resize(image, target * height // short, target * width // short)
    top, left = (round((side - image_size) / 2) for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + image_size, left : left + image_size])


def augmentation(config: ModuleType) -> Callable[[Image, Generator], Image]:
    """train_transform() as config.py asks for it."""
    return partial(
        train_transform,
        image_size=config.image_size,
        crop_scale=config.random_crop_scale,
        flip_probability=config.random_flip_probability,
        trivial_augment=config.trivial_augment,
        erasing_probability=config.random_erasing_probability,
        erasing_value=[255 * mean for mean in config.model_mean_parameters],
    )


def train_transform(
    image: Image,
    generator: Generator,
    *,
    image_size: int,
    crop_scale: Sequence[float] | None,
    flip_probability: float,
    trivial_augment: bool,
    erasing_probability: float,
    erasing_value: Sequence[float],
) -> Image:
    """Crop, flip, augment, erase, in torchvision's order: uint8 [S, S, 3]. All randomness is the generator's.

    `crop_scale`: least and largest share of the area a random crop covers; None takes the evaluation crop instead.
    `erasing_value`: the RGB levels, 0..255, that random erasing writes (the mean: 0 after normalising).
    """
    if crop_scale is None:
        image = eval_transform(image, image_size)
    else:
        image = random_resized_crop(image, image_size, crop_scale, generator)
    if generator.random() < flip_probability:
        image = cv2.flip(image, 1)
    if trivial_augment:
        image = trivial_augment_wide(image, generator)
    if generator.random() < erasing_probability:
        image = random_erasing(image, erasing_value, generator)
    return np.ascontiguousarray(image)


def random_resized_crop(image: Image, image_size: int, scale: Sequence[float], generator: Generator) -> Image:
    """Crop a random share of the area with a random shape and resize it to [S, S, 3].

    The distribution of torchvision's RandomResizedCrop: area share uniform in `scale`, aspect ratio log-uniform in
    3/4..4/3, ten tries, then the largest central crop whose aspect ratio is allowed.
    """
    height, width = image.shape[:2]
    ratios = 3 / 4, 4 / 3
    least, most = scale
    for _ in range(10):
        area = height * width * generator.uniform(least, most)
        ratio = math.exp(generator.uniform(math.log(ratios[0]), math.log(ratios[1])))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = generator.integers(height - crop_height + 1)
            left = generator.integers(width - crop_width + 1)
            break
    else:
        crop_width = min(width, round(height * ratios[1]))
        crop_height = min(height, round(width / ratios[0]))
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return resize(image[top : top + crop_height, left : left + crop_width], image_size, image_size)


def random_erasing(image: Image, value: Sequence[float], generator: Generator) -> Image:
    """Fill one random rectangle with `value` (RGB levels), in a copy.

    The distribution of torchvision's RandomErasing: 2 % to 33 % of the area, aspect ratio log-uniform in 0.3..3.3,
    ten tries, then the image as it is.
    """
    height, width = image.shape[:2]
    for _ in range(10):
        area = height * width * generator.uniform(0.02, 0.33)
        ratio = math.exp(generator.uniform(math.log(0.3), math.log(3.3)))
        box_height, box_width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if box_height < height and box_width < width:
            top = generator.integers(height - box_height + 1)
            left = generator.integers(width - box_width + 1)
            image = image.copy()
            image[top : top + box_height, left : left + box_width] = np.round(value)
            return image
    return image


# TrivialAugmentWide (arXiv:2103.10158) with torchvision's operations and magnitudes, on OpenCV. Each operation takes
# the image and a magnitude and follows Pillow's arithmetic: geometry to the pixel, colour to the grey level or,
# where blend() is called, within one.


def grey_levels(image: Image) -> Image:
    """RGB -> luminance uint8 [H, W] with the ITU-R 601 weights in 1/65536 that Pillow's convert("L") uses."""
    # Exact in float32: 24 bits hold every sum of levels times weights.
    grey: np.ndarray = cv2.transform(image.astype(np.float32), GREY_WEIGHTS)
    grey += np.float32(0.5)
    return grey.astype(np.uint8)


GREY_WEIGHTS = np.array([[19595, 38470, 7471]], dtype=np.float32) / 65536


def blend(start: Image, end: Image, factor: float) -> Image:
    """start + factor * (end - start), clipped and cut to whole levels as Pillow does; factors above 1 extrapolate."""
    # OpenCV rounds where Pillow cuts: just under half a level less makes the two agree
    return cv2.addWeighted(end, factor, start, 1 - factor, -0.4999)


def look_up_blend(start: float, factor: float) -> np.ndarray:
    """The table of blend() for one constant start level, uint8 [256]."""
    levels = np.arange(256, dtype=np.float32)
    return np.clip(np.float32(start) + np.float32(factor) * (levels - np.float32(start)), 0, 255).astype(np.uint8)


def warp(image: Image, matrix: Sequence[float]) -> Image:
    """Pixel (x, y) takes the input at (a x + b y + c, d x + e y + f), nearest neighbour, black outside.

    `matrix`: a, b, c, d, e, f about pixel centres. In the 1/65536 steps Pillow computes in, so the pixels are equal.
    """
    height, width = image.shape[:2]
    columns, rows = np.arange(width, dtype=np.int32), np.arange(height, dtype=np.int32)[:, None]
    source = np.empty((height, width, 2), dtype=np.int16)
    for axis, (along_x, along_y, offset) in enumerate((matrix[:3], matrix[3:])):
        start = math.floor((offset + 0.5 * along_x + 0.5 * along_y) * 65536 + 0.5)
        step_x, step_y = (math.floor(step * 65536 + 0.5) for step in (along_x, along_y))
        source[..., axis] = (columns * step_x + start + rows * step_y) >> 16
    return cv2.remap(image, source, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)  # type: ignore[call-overload]


def shear_x(image: Image, magnitude: float) -> Image:
    """Move each row by magnitude * its distance from the top; the top left corner stays."""
    return warp(image, (1, magnitude, 0, 0, 1, 0))


def shear_y(image: Image, magnitude: float) -> Image:
    """Move each column by magnitude * its distance from the left; the top left corner stays."""
    return warp(image, (1, 0, 0, magnitude, 1, 0))


def translate_x(image: Image, magnitude: float) -> Image:
    """Move to the right by whole pixels; black comes in."""
    return warp(image, (1, 0, -int(magnitude), 0, 1, 0))


def translate_y(image: Image, magnitude: float) -> Image:
    """Move down by whole pixels; black comes in."""
    return warp(image, (1, 0, 0, 0, 1, -int(magnitude)))


def rotate(image: Image, magnitude: float) -> Image:
    """Turn counter-clockwise about the centre, by degrees."""
    height, width = image.shape[:2]
    cosine, sine = (round(turn(math.radians(-magnitude)), 15) for turn in (math.cos, math.sin))
    centre_x, centre_y = width / 2, height / 2
    return warp(
        image,
        (
            *(cosine, sine, centre_x - cosine * centre_x - sine * centre_y),
            *(-sine, cosine, centre_y + sine * centre_x - cosine * centre_y),
        ),
    )


def brightness(image: Image, magnitude: float) -> Image:
    """Blend from black."""
    return cv2.LUT(image, look_up_blend(0, 1 + magnitude))


def color(image: Image, magnitude: float) -> Image:
    """Blend from grey."""
    return blend(cv2.cvtColor(grey_levels(image), cv2.COLOR_GRAY2RGB), image, 1 + magnitude)


def contrast(image: Image, magnitude: float) -> Image:
    """Blend from the mean grey level."""
    return cv2.LUT(image, look_up_blend(int(cv2.mean(grey_levels(image))[0] + 0.5), 1 + magnitude))


def sharpness(image: Image, magnitude: float) -> Image:
    """Blend from a smoothed copy, whose outermost pixels stay as they are."""
    smooth = image.copy()
    if min(image.shape[:2]) > 2:
        smooth[1:-1, 1:-1] = cv2.filter2D(image, -1, SMOOTH_KERNEL)[1:-1, 1:-1]
    return blend(smooth, image, 1 + magnitude)


SMOOTH_KERNEL = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13


def posterize(image: Image, magnitude: float) -> Image:
    """Keep the highest bits of each level; the magnitude is their number."""
    return image & np.uint8(256 - (1 << 8 - round(magnitude)))


def solarize(image: Image, magnitude: float) -> Image:
    """Invert the levels from the magnitude up."""
    levels = np.arange(256)
    return cv2.LUT(image, np.where(levels < magnitude, levels, 255 - levels).astype(np.uint8))


def histograms(image: Image) -> list[np.ndarray]:
    """Count the pixels of each level, for each channel: three int64 [256]."""
    return [cv2.calcHist([image], [c], None, [256], [0, 256]).ravel().astype(np.int64) for c in range(3)]


def autocontrast(image: Image, magnitude: float) -> Image:
    """Stretch each channel so that its darkest level becomes 0 and its brightest 255."""
    tables = np.tile(np.arange(256, dtype=np.uint8)[:, None], 3)
    for channel, counts in enumerate(histograms(image)):
        low, *_, high = np.flatnonzero(counts)[[0, -1]]
        if high > low:
            scale = 255.0 / (high - low)
            tables[:, channel] = np.clip(np.arange(256) * scale - low * scale, 0, 255)
    return cv2.LUT(image, tables[None])


def equalize(image: Image, magnitude: float) -> Image:
    """Spread the levels of each channel so that its histogram becomes flat."""
    tables = np.tile(np.arange(256, dtype=np.uint8)[:, None], 3)
    for channel, counts in enumerate(histograms(image)):
        step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        if step > 0:
            tables[:, channel] = np.minimum((step // 2 + counts.cumsum() - counts) // step, 255)
    return cv2.LUT(image, tables[None])


def identity(image: Image, magnitude: float) -> Image:
    """Give the image back."""
    return image


BINS = 31
# operation -> (magnitude of its first bin, of its last, whether its sign is random), as torchvision tables them
TRIVIAL_AUGMENT_WIDE: dict[Callable[[Image, float], Image], tuple[float, float, bool]] = {
    identity: (0, 0, False),
    shear_x: (0, 0.99, True),
    shear_y: (0, 0.99, True),
    translate_x: (0, 32, True),
    translate_y: (0, 32, True),
    rotate: (0, 135, True),
    brightness: (0, 0.99, True),
    color: (0, 0.99, True),
    contrast: (0, 0.99, True),
    sharpness: (0, 0.99, True),
    posterize: (8, 2, False),
    solarize: (255, 0, False),
    autocontrast: (0, 0, False),
    equalize: (0, 0, False),
}
OPERATIONS = tuple(TRIVIAL_AUGMENT_WIDE.items())
# torchvision's float32 steps: 16 pixels come out as 15.99..., which translate_x cuts to 15
MAGNITUDES = [torch.linspace(first, last, BINS).tolist() for _, (first, last, _) in OPERATIONS]


def trivial_augment_wide(image: Image, generator: Generator) -> Image:
    """Apply one operation, its magnitude and its sign each drawn uniformly (arXiv:2103.10158, wide search space)."""
    index = generator.integers(len(OPERATIONS))
    operation, (_, _, signed) = OPERATIONS[index]
    magnitude = MAGNITUDES[index][generator.integers(BINS)]
    return operation(image, -magnitude if signed and generator.random() < 0.5 else magnitude)


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 levels [N, 3, H, W] -> float32 (level / 255 - mean) / std, in the same memory format and on the device.

    mean, std: float32 [3] on the device of `images`, as shares of white (0..1).
    """
    scale, shift = 1 / (255 * std), mean / std
    levels = images.permute(0, 2, 3, 1)
    if images.is_cuda or not levels.is_contiguous():
        return images.float().mul_(scale[:, None, None]).sub_(shift[:, None, None])
    # In numpy, and image by image: the threads of torch would wait for their next task by running, on the cores of the
    # loader workers. Several rows of pixels at once: a loop over 3 channels takes four times as long.
    count, height, width, channels = levels.shape
    joined = math.gcd(height, 8) * width
    rows = count, height * width // joined, joined * channels
    row_scale, row_shift = (each.repeat(joined).numpy() for each in (scale, shift))
    # Not torch.empty(): glibc does not reuse a freed block for an aligned one of the same size, and the process grows.
    normalized = np.empty(levels.shape, np.float32)
    for source, target in zip(levels.numpy().reshape(rows), normalized.reshape(rows), strict=True):
        target[...] = source
        target *= row_scale
        target -= row_shift
    return torch.from_numpy(normalized).permute(0, 3, 1, 2)


def denormalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The inverse of normalize(): float [N, 3, H, W] -> uint8 levels, rounded and clipped to 0..255."""
    return ((images * std[:, None, None] + mean[:, None, None]) * 255).round().clamp(0, 255).to(torch.uint8)

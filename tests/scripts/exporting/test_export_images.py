# SPDX-License-Identifier: Apache-2.0
"""exporting/images.py: which images calibrate and which are scored."""

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import config_with

from core.image_files import load_image
from exporting.descriptions import describe_calibration
from exporting.images import calibration_images, scored_images
from imgproc import eval_transform
from shared.small_training import CLASSES, write_images


@pytest.fixture
def config(tmp_path: Path) -> ModuleType:
    write_images(tmp_path / "train", 12)
    write_images(tmp_path / "valid", 4, seed=1)
    return config_with(
        train_image_dir=str(tmp_path / "train"), valid_image_dir=str(tmp_path / "valid"), num_workers=0, mode="train"
    )


def test_images_are_those_of_the_evaluation(config: ModuleType) -> None:
    images = scored_images(config, CLASSES, None)
    assert images.levels.shape == (12, 32, 32, 3)
    assert images.targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for path, levels in zip(images.paths, images.levels, strict=True):
        np.testing.assert_array_equal(levels, eval_transform(load_image(path), 32))


def test_images_are_drawn_by_the_seed(config: ModuleType) -> None:
    paths = calibration_images(config, CLASSES, None, 9).paths
    assert len(set(paths)) == 9
    assert all(Path(path).parents[1].name == "train" for path in paths)
    assert calibration_images(config, CLASSES, None, 9).paths == paths
    config.seed = 1
    assert calibration_images(config, CLASSES, None, 9).paths != paths
    assert len(calibration_images(config, CLASSES, None, None).paths) == 36  # fewer than the usual 300


def test_order_of_the_classes_is_that_of_the_network(config: ModuleType) -> None:
    images = scored_images(config, ["red", "green", "blue", "black"], 5)
    assert [images.targets.tolist().count(place) for place in range(4)][3] == 0
    assert all(
        Path(path).parent.name == ["red", "green", "blue"][target]
        for path, target in zip(images.paths, images.targets, strict=True)
    )


def test_what_cannot_be_is_one_line(config: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="12 images, and --check asks for 13; lower it"):
        scored_images(config, CLASSES, 13)
    with pytest.raises(ValueError, match="36 images, and --images asks for 37; lower it"):
        calibration_images(config, CLASSES, None, 37)
    for name in CLASSES[1:]:
        shutil.rmtree(tmp_path / "valid" / name)
    for image in sorted((tmp_path / "valid").glob("*/*"))[1:]:
        image.unlink()
    with pytest.raises(ValueError, match="1 image, and --check asks for 2; lower it"):
        scored_images(config, CLASSES, 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty: no class folders"):
        calibration_images(config, CLASSES, tmp_path / "empty", None)
    with pytest.raises(ValueError, match=r"its class folders are not those of the training set: missing .*'black'"):
        calibration_images(config, ["black", "white"], tmp_path / "train", None)
    config.mode = "test"
    with pytest.raises(
        ValueError, match=r'config.py line \d+: int8 is calibrated on training images, and mode = "test"'
    ):
        calibration_images(config, CLASSES, None, None)


def test_images_that_are_scored_too_are_counted(config: ModuleType, tmp_path: Path) -> None:
    scored = scored_images(config, CLASSES, 8)
    described = describe_calibration(calibration_images(config, CLASSES, tmp_path / "valid", None), scored, seed=0)
    assert described == {"folder": "valid", "images": 12, "seed": 0, "scored_too": 8}
    described = describe_calibration(calibration_images(config, CLASSES, None, 5), scored, seed=0)
    assert described == {"folder": "train", "images": 5, "seed": 0, "scored_too": 0}

# SPDX-License-Identifier: Apache-2.0
"""Segmentation of a folder of photos with masks: what the network sees of it, and the scripts as users run them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from task_projects import run
from test_segmentation_scripts import RESULTS, create_project
from voc_layout import write_image, write_list, write_mask, write_masks

from core.annotated_folders import open_source
from segmentation.dataset import MaskedImages
from shared.small_training import edit_config

NAMES = ["sky", "sea", "sand"]


def striped(seed: int, size: tuple[int, int] = (72, 96)) -> tuple[np.ndarray, np.ndarray]:
    """A picture of four stripes whose red level is 60 times their class, and the mask; stripes as high as the seed."""
    mask = np.repeat(np.arange(4, dtype=np.uint8), size[0] // 4)[:, None].repeat(size[1], 1)
    mask = np.roll(mask, seed, axis=0)
    mask[:, : size[1] // 3] = 0
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0] = 60 * mask
    return image, mask


def write_photos(root: Path, count: int, split: str) -> Path:
    names = [f"{split}_{seed}" for seed in range(count)]
    for seed, name in enumerate(names):
        image, mask = striped(5 * seed)
        write_image(root / f"JPEGImages/{name}.png", image)
        write_mask(root / f"SegmentationClass/{name}.png", mask)
    write_list(root, names, split, "Segmentation")
    (root / "classes.txt").write_text("\n".join(NAMES))
    return root


def share_that_fits(image: np.ndarray, mask: np.ndarray) -> float:
    """Of the pixels, those whose red level tells their class; others were mixed at an edge."""
    return float((np.abs(image[..., 0] / 60 - mask) < 0.1).mean())


def test_whole_pictures_of_any_shape_are_seen(tmp_path: Path) -> None:
    root = write_photos(tmp_path, 1, "train")
    pictures = MaskedImages(open_source(str(root), "train", masks=True), 64)
    image, mask = pictures[5, 0]
    assert (image.shape, mask.shape) == ((64, 64, 3), (64, 64))
    assert (image.dtype, mask.dtype) == (np.uint8, np.uint8)
    assert share_that_fits(image, mask) > 0.9
    for place in range(4):  # each class keeps its share of the picture
        assert (mask == place).mean() == pytest.approx((striped(0)[1] == place).mean(), abs=0.02)
    assert pictures.classes == ["background", *NAMES]


def test_flip_turns_picture_and_mask(tmp_path: Path) -> None:
    root = write_photos(tmp_path, 2, "train")
    source = open_source(str(root), "train", masks=True)
    plain, flipped = (MaskedImages(source, 64, 7, flip_probability=share) for share in (0.0, 1.0))
    for index in range(2):
        for before, after in zip(plain[3, index], flipped[3, index], strict=True):
            assert np.array_equal(before[:, ::-1], after)
    half = MaskedImages(source, 64, 7, flip_probability=0.5)
    turned = [np.array_equal(half[epoch, 0][1], flipped[0, 0][1]) for epoch in range(40)]
    assert 8 <= sum(turned) <= 32  # of 40 throws; outside with a probability of 0.0001
    assert turned == [np.array_equal(half[epoch, 0][1], flipped[0, 0][1]) for epoch in range(40)]


def test_crops_take_the_mask_with_them_and_keep_what_is_ignored(tmp_path: Path) -> None:
    image, mask = striped(0)
    mask[10:20] = 255
    root = write_masks(tmp_path, {"a": mask})
    (root / "classes.txt").write_text("\n".join(NAMES))
    write_image(root / "JPEGImages/a.png", image)
    crops = MaskedImages(open_source(str(root), "train", masks=True), 64, 0, (0.3, 0.6), 0.5)
    for epoch in range(8):
        cropped, classes = crops[epoch, 0]
        counted = classes != 255
        assert set(np.unique(classes)) <= {0, 1, 2, 3, 255}
        assert (np.abs(cropped[..., 0] / 60 - classes)[counted] < 0.1).mean() > 0.8


@pytest.mark.parametrize("damaged", ["JPEGImages/train_1.png", "SegmentationClass/train_1.png"])
def test_what_cannot_be_read_is_left_out_if_that_is_asked_for(tmp_path: Path, damaged: str) -> None:
    root = write_photos(tmp_path, 3, "train")
    source = open_source(str(root), "train", masks=True)
    (root / damaged).write_bytes((root / damaged).read_bytes()[:90])
    skipping = MaskedImages(source, 64, 7, skip_bad=True)
    assert [skipping[0, index] is None for index in range(3)] == [False, True, False]
    with pytest.raises(ValueError, match=damaged):
        MaskedImages(source, 64, 7)[0, 1]


@pytest.fixture(scope="module")
def photos_project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("folders") / "project"
    values = {
        "data_dir": "photos",
        "model_num_classes": 4,
        "random_flip_probability": 0.5,
        "epochs": 1,
        "num_workers": 1,
    }
    create_project(root, **values)
    write_photos(root / "photos", 16, "train")
    write_photos(root / "photos", 5, "val")
    (root / "photos/SegmentationClass/val_4.png").unlink()
    return root, run(root, "segmentation/train.py")


def test_training_on_a_folder_says_what_it_leaves_out(photos_project: tuple[Path, str]) -> None:
    root, printed = photos_project
    assert "photos/SegmentationClass/val_4.png: a mask that cannot be used (No such file or directory)" in printed
    assert "16 training and 4 validation images of 4 classes; cpu, float32." in printed
    assert "flips" in printed
    weights = torch.load(root / RESULTS / "best.pth.tar", weights_only=True)
    assert weights["class_names"] == ["background", *NAMES]


def test_classes_are_called_as_in_the_training(photos_project: tuple[Path, str]) -> None:
    """Also where the folder that is tested on has them in another order: the scores stay with their names."""
    root, _ = photos_project
    printed = run(root, "segmentation/test.py", mode="test")
    assert [line.split()[0] for line in printed.splitlines() if "IoU  " in line] == ["background", *NAMES]
    before = json.loads((root / RESULTS / "test.json").read_text())
    other = write_photos(root / "other", 5, "val")
    (other / "classes.txt").write_text("sand\nsea\nsky\n")
    for path in (other / "SegmentationClass").iterdir():
        mask = striped(5 * int(path.stem.rpartition("_")[2]))[1]
        write_mask(path, np.where(mask > 0, 4 - mask, 0).astype(np.uint8))
    (other / "SegmentationClass/val_4.png").unlink()
    edit_config(root / "segmentation/config.py", {"data_dir": "other"})
    run(root, "segmentation/test.py", mode="test")
    after = json.loads((root / RESULTS / "test.json").read_text())
    assert [(report.pop("data"), report.pop("split")) for report in (before, after)] == [
        ("photos", "val"),
        ("other", "val"),
    ]
    assert after == before
    (other / "classes.txt").write_text("sand\nsea\nsnow\n")
    errors = run(root, "segmentation/test.py", mode="test", status=2)
    edit_config(root / "segmentation/config.py", {"data_dir": "photos"})
    assert errors == (
        "other: its classes are not those of the training: missing sky, unknown snow (1 and 1 in all); correct their "
        "names\n"
    )


def test_inference_names_the_classes_of_the_weights(photos_project: tuple[Path, str], tmp_path: Path) -> None:
    root, _ = photos_project
    picture = tmp_path / "stripes.png"
    cv2.imwrite(str(picture), striped(0)[0])
    printed = run(root, "segmentation/inference.py", str(picture))
    words = {word for word in printed.partition(": ")[2].partition("; ")[0].split() if not word.endswith(("%", "%,"))}
    assert words <= {"background", *NAMES}
    assert words


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "model_num_classes = 11, but photos (train) has 4 classes with the background; set it to 4, or name"),
        ({"data_dir": ""}, "model_num_classes = 4, but train scenes has 11 classes with the background; set it to 11"),
        ({"train_split": "../val"}, "train_split = '../val'; expected the name of a folder"),
        ({"train_split": "trainval"}, "photos/ImageSets/Segmentation/trainval.txt: no such file; there are train"),
        ({"data_dir": "nowhere"}, "nowhere: no such folder; correct data_dir in segmentation/config.py"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, values: dict, message: str) -> None:
    classes = {} if not values else {"model_num_classes": 4}
    root = create_project(tmp_path / "project", data_dir="photos")
    write_photos(root / "photos", 1, "train")
    edit_config(root / "segmentation/config.py", classes | values)
    errors = run(root, "segmentation/train.py", status=2)
    assert message in errors
    assert errors.count("\n") == 1
    assert not (root / "results").exists()

# SPDX-License-Identifier: Apache-2.0
"""Detection in folders of photos: the scripts as users run them, on the same pictures in both layouts."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from task_projects import run
from test_detection_scripts import RESULTS, create_project
from voc_layout import annotation_xml, object_xml, write_image, write_list

from core.annotated_folders import open_source
from detection.dataset import CROWD, DIFFICULT, BoxDataset, take_targets
from shared.small_training import edit_config

NAMES = ["traffic light", "bus", "naïve"]
COLOURS = [(250, 40, 40), (40, 250, 40), (40, 40, 250)]


class Thing(NamedTuple):
    """An object in a photo."""

    label: int
    box: tuple[int, int, int, int]  # left, top, width, height from 0
    is_ignored: bool = False


def things_of(seed: int) -> list[Thing]:
    """One to three objects in a photo of 96 x 72 pixels; of every fourth the last one is ignored."""
    generator = np.random.default_rng(seed)
    count = 1 + seed % 3
    corners, sides = generator.integers(0, 40, (count, 2)), generator.integers(16, 32, (count, 2))
    boxes = np.hstack([corners, sides]).tolist()
    return [Thing((seed + n) % 3, tuple(box), seed % 4 == 3 and n == count - 1) for n, box in enumerate(boxes)]


def draw_photo(things: list[Thing]) -> np.ndarray:
    image = np.full((72, 96, 3), 90, np.uint8)
    for label, (x, y, width, height), _ in things:
        image[y : y + height, x : x + width] = COLOURS[label]
    return image


def write_voc(root: Path, count: int, split: str) -> None:
    names = [f"{split}_{seed}" for seed in range(count)]
    for seed, name in enumerate(names):
        objects = [
            object_xml(NAMES[label], (x + 1, y + 1, x + width, y + height), f"<difficult>{int(ignored)}</difficult>")
            for label, (x, y, width, height), ignored in things_of(seed)
        ]
        write_image(root / f"JPEGImages/{name}.png", draw_photo(things_of(seed)))
        path = root / f"Annotations/{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(annotation_xml(objects, (72, 96)), encoding="utf-8")
    write_list(root, names, split)
    (root / "classes.txt").write_text("\n".join(NAMES), encoding="utf-8")


def write_coco(root: Path, count: int, split: str, ids: tuple[int, ...] = (1, 2, 3)) -> None:
    """`ids`: of the categories, whose order is that of the classes."""
    images, annotations = [], []
    for seed in range(count):
        name = f"{split}_{seed}.png"
        write_image(root / split / name, draw_photo(things_of(seed)))
        images.append({"id": seed, "file_name": name, "height": 72, "width": 96})
        for label, box, ignored in things_of(seed):
            ends = {"bbox": list(box), "iscrowd": int(ignored), "area": box[2] * box[3]}
            annotations.append({"id": len(annotations) + 1, "image_id": seed, "category_id": ids[label]} | ends)
    categories = [{"id": number, "name": name} for number, name in zip(ids, NAMES, strict=True)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = root / f"annotations/instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


Write = Callable[..., None]


def create_photos_project(root: Path, write: Write, count: int = 16, **values: object) -> Path:
    settings = {"data_dir": "photos", "model_num_classes": 3, "epochs": 1, "num_workers": 1}
    create_project(root, **settings | values)
    write(root / "photos", count, "train")
    write(root / "photos", 5, "val")
    return root


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = create_photos_project(tmp_path_factory.mktemp("voc") / "project", write_voc)
    (root / "photos/Annotations/val_4.xml").unlink()
    return root, run(root, "detection/train.py")


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = create_photos_project(tmp_path_factory.mktemp("coco") / "project", write_coco)
    (root / "photos/val/val_4.png").unlink()
    return root, run(root, "detection/train.py")


def test_training_says_what_it_leaves_out(voc: tuple[Path, str], coco: tuple[Path, str]) -> None:
    line = "photos/Annotations/val_4.xml: an annotation that cannot be used (No such file or directory); left out"
    assert voc[1].count(line) == 1
    assert coco[1].count("photos/val/val_4.png: an image that cannot be read") == 1
    for root, printed in (voc, coco):
        assert "16 training and 4 validation images of 3 classes; cpu, float32." in printed
        assert torch.load(root / RESULTS / "best.pth.tar", weights_only=True)["class_names"] == NAMES


def test_both_layouts_train_the_same_weights(voc: tuple[Path, str], coco: tuple[Path, str]) -> None:
    weights = [torch.load(root / RESULTS / "last.pth.tar", weights_only=True) for root, _ in (voc, coco)]
    for name, value in weights[0]["state_dict"].items():
        assert torch.equal(value, weights[1]["state_dict"][name])


def test_scores_stay_with_the_names_of_the_training(voc: tuple[Path, str], coco: tuple[Path, str]) -> None:
    """Also in another layout, which has the classes in another order."""
    root, _ = voc
    printed = run(root, "detection/test.py", mode="test")
    assert [line.partition("AP ")[0].strip() for line in printed.splitlines() if "AP  " in line] == NAMES
    assert "4 images of 64 x 64 pixels; cpu, torch.float32." in printed
    before = json.loads((root / RESULTS / "test.json").read_text())
    assert list(before["ap"]) == list(before["ap50"]) == NAMES
    write_coco(root / "other", 4, "val", ids=(7, 5, 6))
    assert open_source(str(root / "other"), "val").classes == [NAMES[1], NAMES[2], NAMES[0]]
    edit_config(root / "detection/config.py", {"data_dir": "other"})
    run(root, "detection/test.py", mode="test")
    after = json.loads((root / RESULTS / "test.json").read_text())
    assert after["loss"] == before["loss"]
    assert list(after["ap"]) == NAMES
    path = root / "other/annotations/instances_val.json"
    path.write_text(path.read_text().replace("bus", "tram"))
    errors = run(root, "detection/test.py", mode="test", status=2)
    edit_config(root / "detection/config.py", {"data_dir": "photos"})
    assert errors.startswith("other/annotations/instances_val.json: its classes are not those of the training: missing")
    assert errors.count("\n") == 1


def test_inference_names_the_classes_of_the_weights(voc: tuple[Path, str], tmp_path: Path) -> None:
    root, _ = voc
    edit_config(root / "detection/config.py", {"inference_score_threshold": 0.0})
    picture = tmp_path / "photo.png"
    cv2.imwrite(str(picture), draw_photo(things_of(0)))
    printed = run(root, "detection/inference.py", str(picture))
    names = "|".join(NAMES)
    assert re.fullmatch(rf"{picture}: (({names}) \d+%(, )?)+; drawn in results/Boxes/photo_boxes.png\n", printed)
    assert cv2.imread(str(root / RESULTS / "photo_boxes.png")).shape == (72, 96, 3)


@pytest.mark.parametrize(("write", "kind"), [(write_voc, DIFFICULT), (write_coco, CROWD)])
def test_what_is_ignored_is_scored_and_not_trained_on(tmp_path: Path, write: Write, kind: int) -> None:
    write(tmp_path, 8, "train")
    source = open_source(str(tmp_path), "train")
    assert source.most_objects == 3
    scored, trained = (BoxDataset(source, 64, seed) for seed in (None, 0))
    for index in range(8):
        ((_, rows), (_, kept)) = scored[0, index], trained[0, index]
        expected = [kind * thing.is_ignored for thing in things_of(index)]
        assert rows[rows[:, 4] >= 0, 5].tolist() == expected
        assert kept[kept[:, 4] >= 0, 4].tolist() == [t.label for t in things_of(index) if not t.is_ignored]
        (target,) = take_targets(torch.from_numpy(rows)[None])
        assert len(target["boxes"]) == expected.count(0)


@pytest.mark.parametrize("side", [1, 12, 64])
def test_objects_of_a_pixel_of_a_large_photo_have_no_loss(tmp_path: Path, side: int) -> None:
    """At 64 of 1280 pixels it is a twentieth of a pixel: an object to score, and none to train on."""
    write_image(tmp_path / "JPEGImages/a.png", np.zeros((1280, 1280, 3), np.uint8))
    (tmp_path / "Annotations").mkdir()
    boxes = [(900, 900, 899 + side, 899 + side), (1, 1, 1280, 1280)]
    xml = annotation_xml([object_xml("dog", box) for box in boxes], (1280, 1280))
    (tmp_path / "Annotations/a.xml").write_text(xml)
    write_list(tmp_path, ["a"])
    source = open_source(str(tmp_path), "train")
    for seed in (None, 0):
        _, rows = BoxDataset(source, 64, seed)[0, 0]
        assert (rows[:, 4] >= 0).sum() == 2
        (target,) = take_targets(torch.from_numpy(rows)[None])
        assert len(target["boxes"]) == (2 if side == 64 else 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {},
            "model_num_classes = 10, but photos (train) has 3 classes; set it to 3, or name the classes in "
            "photos/classes.txt",
        ),
        ({"data_dir": "", "model_num_classes": 3}, "model_num_classes = 3, but train scenes has 10 classes; set it"),
        ({"train_split": "../val"}, "train_split = '../val'; expected the name of a folder"),
        ({"train_split": "trainval"}, "photos/ImageSets/Main/trainval.txt: no such file; there are train, val"),
        ({"data_dir": "nowhere"}, "nowhere: no such folder; correct data_dir in detection/config.py"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, values: dict, message: str) -> None:
    classes = {} if values else {"model_num_classes": 10}
    root = create_photos_project(tmp_path / "project", write_voc, 2, **values | classes)
    errors = run(root, "detection/train.py", status=2)
    assert message in errors
    assert errors.count("\n") == 1
    assert not (root / "results").exists()


def test_a_photo_that_was_cut_stops_a_training_or_is_left_out(tmp_path: Path) -> None:
    """A JPEG whose header is sound: what is missing shows when it is decoded."""
    root = create_photos_project(tmp_path / "project", write_voc, resume="auto")
    photo = root / "photos/JPEGImages/train_3.png"
    encoded = cv2.imencode(".jpg", draw_photo(things_of(3)))[1].tobytes()
    photo.write_bytes(encoded[: len(encoded) * 3 // 4])
    errors = run(root, "detection/train.py", status=2)
    assert errors.startswith("photos/JPEGImages/train_3.png: not a readable image")
    assert errors.count("\n") == 1
    edit_config(root / "detection/config.py", {"bad_images": "skip"})
    printed = run(root, "detection/train.py")
    assert "Left out 1 unreadable training image; scripts/check_dataset.py names it." in printed
    assert (root / RESULTS / "last.pth.tar").is_file()

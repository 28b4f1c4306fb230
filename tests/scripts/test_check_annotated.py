# SPDX-License-Identifier: Apache-2.0
"""scripts/check_dataset.py on folders with boxes or masks, whose faults are known because the tests made them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_check_dataset import check, cut, findings, photo
from voc_layout import (
    annotation_xml,
    object_xml,
    random_image,
    write_boxes,
    write_image,
    write_list,
    write_masks,
)

from core.annotated_folders import list_contents, open_source

DOG, CAT = object_xml("dog", (3, 4, 20, 22)), object_xml("cat", (5, 6, 30, 28))
PIXELS = [
    "pixels: width 40 to 40 (median 40), height 30 to 30 (median 30), shortest side 30 to 30 (median 30)",
    "kinds: RGB {}; 0 with a camera orientation other than upright",
]


def boxes_folder(root: Path) -> Path:
    """Three images to train on, a, b and c, with two dogs and a cat in a and none in c; v to validate on."""
    write_boxes(root, {"v": annotation_xml([DOG, CAT])}, "val")
    write_image(root / "JPEGImages/v.png", random_image(100))
    (root / "classes.txt").write_text("cat\ndog\n")
    images = {"a": annotation_xml([DOG, DOG, CAT]), "b": annotation_xml([DOG]), "c": annotation_xml([])}
    return write_boxes(root, images)


def masks_folder(root: Path) -> Path:
    """Masks of 40 x 30 pixels, all to train on: m and n have cats, n has dogs too, o has only the background."""
    masks = {name: np.zeros((30, 40), np.uint8) for name in "mno"}
    masks["m"][:9], masks["n"][:9], masks["n"][9:12] = 1, 1, 2
    write_masks(root, masks)
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


def write_coco(root: Path, split: str, count: int, file: str, **more: Any) -> None:
    """Images 1 to `count`, each with a dog, in the folder of the split; `more`: for the annotations."""
    for number in range(1, count + 1):
        write_image(root / f"{split}/{number}.png", random_image(number + 50 * len(split)))
    dog = {"category_id": 3, "bbox": [5, 5, 10, 10], "segmentation": [[5, 5, 15, 5, 15, 15]], **more}
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in range(1, count + 1)],
        "categories": [{"id": 3, "name": "dog"}],
        "annotations": [{"id": n, "image_id": n, **dog} for n in range(1, count + 1)],
    }
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content))


def test_sound_folder_of_pascal_voc_passes(tmp_path: Path) -> None:
    """The lists of a class are no splits, and trainval, which is train and val, shares its images with both."""
    root = masks_folder(boxes_folder(tmp_path / "VOC"))
    write_list(root, ["a", "b", "c", "v"], "trainval")
    write_list(root, ["a  1", "b -1", "c -1"], "cat_train")
    for name in "mno":
        write_image(root / f"JPEGImages/{name}.png", random_image(ord(name)))
    done = check(root, "--list", "bad.txt")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "train, boxes: 3 images, 1 without an object; 2 classes, 4 objects; "
        "smallest cat (1), largest dog (3, 3.0 times as many)",
        "val, boxes: 1 image, 0 without an object; 2 classes, 2 objects; "
        "smallest cat (1), largest cat (1, 1.0 times as many)",
        "trainval, boxes: 4 images, 1 without an object; 2 classes, 6 objects; "
        "smallest cat (2), largest dog (4, 2.0 times as many)",
        "train, masks: 3 images, 1 without an object; 2 classes, counted by images; "
        "smallest dog (1), largest cat (2, 2.0 times as many)",
        PIXELS[0],
        PIXELS[1].format(7),
        "VOC: 7 images, 0 unreadable, 0 warnings; training works.",
    ]
    assert (tmp_path / "bad.txt").read_bytes() == b""


def test_image_that_ends_training_is_a_problem_and_one_that_is_left_out_a_warning(tmp_path: Path) -> None:
    root = masks_folder(boxes_folder(tmp_path / "VOC"))
    (root / "JPEGImages/b.png").unlink()
    photo(0).save(root / "JPEGImages/b.jpg")  # of 40 x 30
    cut(root / "JPEGImages/b.jpg")
    (root / "JPEGImages/c.png").write_bytes(b"")
    (root / "Annotations/a.xml").write_text("<annotation><size>")
    cut_mask = root / "SegmentationClass/m.png"
    cut_mask.write_bytes(cut_mask.read_bytes()[:-30])
    done = check(root, "--list", "bad.txt")
    assert done.returncode == 1
    found = findings(done.stdout)
    assert found.pop("Problem: 1 unreadable image")[0].startswith("VOC/JPEGImages/b.jpg: not a readable image (")
    lines = {heading.removeprefix("Warning: "): line.split(" (")[0] for heading, (line,) in found.items()}
    assert lines == {
        "1 split without some of the classes": "train, boxes: 1, cat",
        "1 time an image that cannot be read": "VOC/JPEGImages/c.png: an image that cannot be read",
        "1 time an annotation that cannot be used": "VOC/Annotations/a.xml: an annotation that cannot be used",
        "1 time a mask that cannot be used": "VOC/SegmentationClass/m.png: a mask that cannot be used",
    }
    *_, unreadable, left_out, summary = done.stdout.splitlines()
    assert unreadable.startswith("To go on: replace or remove the unreadable images (--list FILE")
    assert left_out.startswith("To go on: training does without what is left out; to have it, correct the files")
    assert summary == "VOC: 4 images, 1 unreadable, 4 warnings; training would fail."
    assert (tmp_path / "bad.txt").read_text() == "VOC/JPEGImages/b.jpg\nVOC/JPEGImages/c.png\n"


def test_nothing_is_called_left_out_where_a_box_is_only_clipped(tmp_path: Path) -> None:
    root = boxes_folder(tmp_path / "VOC")
    (root / "Annotations/b.xml").write_text(annotation_xml([object_xml("dog", (3, 3, 50, 20))]))
    output = check(root).stdout
    (line,) = findings(output)["Warning: 1 time a box that reaches out"]
    assert line.endswith("(3, 3, 50, 20 in 40 x 30 pixels); clipped")
    assert "left out" not in output


def test_shapes_that_cannot_be_drawn_are_one_kind_with_boxes_and_without(tmp_path: Path) -> None:
    """Where there is a box it is ignored, and nothing is left out."""
    root = tmp_path / "coco"
    write_coco(root, "train2017", 3, "annotations/instances_train2017.json")
    path = root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][1] |= {"segmentation": [[5, 5]]}
    content["annotations"][2] |= {"segmentation": [[5, 5]], "bbox": None}
    path.write_text(json.dumps(content))
    output = check(root).stdout
    endings = [
        line.rpartition("; ")[2] for line in findings(output)["Warning: 2 times an object whose shape cannot be drawn"]
    ]
    assert sorted(endings) == ["its box is ignored", "left out"]
    assert output.count("To go on: training does without what is left out") == 1


def test_all_that_is_left_out_is_named_once(tmp_path: Path) -> None:
    """Training shows three lines of a kind."""
    root = boxes_folder(tmp_path / "VOC")
    flat = [object_xml("cat", (9, 9, 8, 9 + number)) for number in range(5)]
    (root / "Annotations/a.xml").write_text(annotation_xml([DOG, *flat, object_xml("cow", (1, 1, 9, 9))]))
    write_list(root, ["a", "b", "v"], "trainval")
    output = check(root).stdout
    found = findings(output)
    assert len(found["Warning: 5 times a box without an area"]) == 5
    assert found["Warning: 2 unknown classes"] == [
        f"VOC ({split}): unknown class 'cow' (1 object, the first in VOC/Annotations/a.xml); left out"
        for split in ("train", "trainval")
    ]
    advice = [line for line in output.splitlines() if line.startswith("To go on: ")]
    assert [line.partition("; to ")[0] for line in advice] == [
        "To go on: training does without what is left out",
        "To go on: correct the unknown classes where they are misspelt",
        "To go on: take each file out of all splits but one.",
    ]


def test_file_in_two_splits_is_named_whatever_its_name(tmp_path: Path) -> None:
    root = masks_folder(boxes_folder(tmp_path / "VOC"))
    shutil.copy(root / "JPEGImages/a.png", root / "JPEGImages/v.png")
    shutil.copy(root / "JPEGImages/a.png", root / "JPEGImages/m.png")  # of another task
    write_list(root, ["v", "b"], "val")
    done = check(root)
    assert done.returncode == 0
    heading = "Warning: 2 files in two splits: a score on one will look better than it is after training on the other"
    assert findings(done.stdout)[heading] == [
        "VOC/JPEGImages/a.png = VOC/JPEGImages/v.png: in train, val",
        "VOC/JPEGImages/b.png: in train, val",
    ]


def test_orientation_is_a_warning_whatever_config_says(tmp_path: Path) -> None:
    root = boxes_folder(tmp_path / "VOC")
    exif = Image.Exif()
    exif[274] = 6
    (root / "JPEGImages/b.png").unlink()
    photo(0).save(root / "JPEGImages/b.jpg", exif=exif)
    ((heading, lines),) = findings(check(root).stdout).items()
    assert heading.startswith("Warning: 1 photo that the camera noted as turned, which training takes as stored")
    assert "boxes and masks of these pixels: if they were drawn on the turned photo, store it turned" in heading
    assert lines == ["VOC/JPEGImages/b.jpg: orientation 6"]


def test_file_of_coco_has_boxes_and_masks(tmp_path: Path) -> None:
    root = tmp_path / "COCO"
    write_coco(root, "train", 3, "annotations/instances_train.json")
    write_coco(root, "val", 2, "annotations/instances_val.json")
    shutil.copy(root / "train/1.png", root / "val/1.png")
    done = check(root)
    assert done.returncode == 0
    counted = "class, counted by images; smallest dog"
    assert done.stdout.splitlines()[1:5] == [
        "train, boxes: 3 images, 0 without an object; 1 class, 3 objects; "
        "smallest dog (3), largest dog (3, 1.0 times as many)",
        "val, boxes: 2 images, 0 without an object; 1 class, 2 objects; "
        "smallest dog (2), largest dog (2, 1.0 times as many)",
        f"train, masks: 3 images, 0 without an object; 1 {counted} (3), largest dog (3, 1.0 times as many)",
        f"val, masks: 2 images, 0 without an object; 1 {counted} (2), largest dog (2, 1.0 times as many)",
    ]
    assert list(findings(done.stdout).values()) == [["COCO/train/1.png = COCO/val/1.png: in train, val"]]


def test_split_that_cannot_be_opened_is_a_problem_in_a_line(tmp_path: Path) -> None:
    root = tmp_path / "COCO"
    write_coco(root, "train", 2, "train/_annotations.coco.json")
    write_coco(root, "valid", 2, "valid/_annotations.coco.json", segmentation=[[1, 2]])
    text = (root / "train/_annotations.coco.json").read_text()
    write_coco(root, "test", 1, "test/_annotations.coco.json")
    (root / "test/_annotations.coco.json").write_text(text.replace("dog", "cow"))
    write_coco(root, "more", 1, "more/_annotations.coco.json")
    (root / "more/_annotations.coco.json").write_text('{"images": [')
    done = check(root)
    assert done.returncode == 1
    found = findings(done.stdout)
    others, unread, shapeless = found["Problem: 3 splits that cannot be used"]
    assert unread.startswith("COCO/more/_annotations.coco.json: no readable JSON (")
    assert shapeless.startswith("COCO/valid/_annotations.coco.json: no polygons or run lengths of dog")
    assert others.startswith("COCO/test/_annotations.coco.json: its classes are not those of the training: missing dog")


def test_folders_of_roboflow_have_boxes_alone(tmp_path: Path) -> None:
    root = tmp_path / "COCO"
    for split in ("train", "valid", "test"):
        write_coco(root, split, 1, f"{split}/_annotations.coco.json", segmentation=[])
    assert list_contents(str(root)) == [(split, False) for split in ("train", "valid", "test")]
    voc = tmp_path / "VOC"
    for split in ("test", "train"):
        write_image(voc / f"{split}/1.png", random_image(len(split)))
        (voc / f"{split}/1.xml").write_text(annotation_xml([DOG]))
    assert list_contents(str(voc)) == [("train", False), ("test", False)]
    assert check(root).returncode == check(voc).returncode == 0


def test_folder_without_lists_is_told_what_to_write(tmp_path: Path) -> None:
    root = boxes_folder(tmp_path / "VOC")
    shutil.rmtree(root / "ImageSets")
    done = check(root)
    assert done.returncode == 1
    ((heading, (line,)),) = findings(done.stdout).items()
    assert heading == "Problem: 1 split that cannot be used"
    assert line.startswith("VOC/ImageSets/Main/train.txt: no such file; write it: the names of the images")
    assert "\nTo go on: do what the lines about splits say and check again, or name other splits" in done.stdout


@pytest.mark.parametrize("place", ["train/red/1", "red/1", "train/notes"])
def test_class_folders_may_hold_xml(tmp_path: Path, place: str) -> None:
    write_image(tmp_path / "train/red/1.png", random_image(0))
    write_image(tmp_path / "red/1.png", random_image(0))
    (tmp_path / f"{place}.xml").write_text(annotation_xml([DOG]))
    assert list_contents(str(tmp_path)) == []


def test_objects_are_counted_as_they_are_read(tmp_path: Path) -> None:
    """By image and class, in the order of the training classes; what a mask of COCO ignores is none."""
    assert open_source(str(boxes_folder(tmp_path / "VOC")), "train").class_counts().tolist() == [[1, 2], [0, 1], [0, 0]]
    masks = open_source(str(masks_folder(tmp_path / "masks")), "train", masks=True, classes=["dog", "cat"])
    assert masks.class_counts().tolist() == [[0, 1], [1, 1], [0, 0]]
    write_coco(tmp_path / "COCO", "train", 1, "annotations/instances_train.json")
    file = tmp_path / "COCO/annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"] += [{**content["annotations"][0], "id": 2}, {**content["annotations"][0], "iscrowd": 1}]
    file.write_text(json.dumps(content))
    counted = {kind: open_source(str(tmp_path / "COCO"), "train", masks=kind).class_counts() for kind in (False, True)}
    assert counted[False].tolist() == [[3]]
    assert counted[True].tolist() == [[2]]

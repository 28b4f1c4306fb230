# SPDX-License-Identifier: Apache-2.0
"""Folders in the layout of COCO: against torchvision's and pycocotools' reading, and with odd content."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from voc_layout import random_image, write_image

from core.annotated_folders import open_source
from core.coco_masks import check_shape, decode_counts

SIZE = (30, 40)
SQUARE, TRIANGLE = [5, 5, 15, 5, 15, 15, 5, 15], [20.5, 3.25, 35.75, 8, 22, 25.5]
CATEGORIES = [{"id": 7, "name": "dog", "supercategory": "animal"}, {"id": 3, "name": "cat", "supercategory": "animal"}]


def annotation(image: object = 1, category: object = 7, **values: object) -> dict[str, Any]:
    return {
        **{"image_id": image, "category_id": category, "bbox": [5, 5, 10, 10.5], "iscrowd": 0, "area": 100},
        **{"segmentation": [SQUARE], **values},
    }


def write_coco(
    root: Path,
    annotations: list[Any],
    images: list[Any] | None = None,
    categories: list[Any] | None = None,
    file: str = "annotations/instances_train.json",
) -> Path:
    """Images 1 and 2 of 40 x 30 pixels, unless others are listed."""
    listed = [{"id": n, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in (1, 2)]
    numbered = [{"id": n, **each} if isinstance(each, dict) else each for n, each in enumerate(annotations, 1)]
    content = {
        **{"images": listed if images is None else images, "annotations": numbered},
        **{"categories": CATEGORIES if categories is None else categories},
    }
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    for n in (1, 2):
        write_image(root / f"train/{n}.png", random_image(n, SIZE))
    return root


def noted(root: Path, *, masks: bool = False) -> list[str]:
    source = open_source(str(root), "train", masks=masks)
    return [line.replace(str(root), "ROOT") for line in source.notes]


def test_boxes_and_labels_are_torchvisions(tmp_path: Path) -> None:
    several = [annotation(2, 3, bbox=[0, 1.5, 40, 28]), annotation(1, 7), annotation(1, 3, bbox=[20, 3, 9.25, 4])]
    root = write_coco(tmp_path, [*several, annotation(1, 7, iscrowd=1, bbox=[1, 2, 3, 4])])
    source = open_source(str(root), "train")
    dataset = torchvision.datasets.CocoDetection(root / "train", root / "annotations/instances_train.json")
    keys = ("boxes", "labels", "iscrowd")
    theirs = torchvision.datasets.wrap_dataset_for_transforms_v2(dataset, target_keys=keys)
    assert len(source) == len(theirs) == 2
    assert source.classes == ["cat", "dog"]  # by their ids, 3 and 7
    for index, (picture, target) in enumerate(theirs):
        item = source[index]
        assert np.array_equal(item.image, np.asarray(picture))
        assert np.array_equal(item.boxes, target["boxes"].numpy())
        assert np.array_equal(np.array([3, 7])[item.labels], target["labels"].numpy())
        assert item.ignored.tolist() == [bool(value) for value in target["iscrowd"]]


def test_order_of_the_training_classes_holds(tmp_path: Path) -> None:
    root = write_coco(tmp_path, [annotation(1, 3), annotation(1, 7)])
    assert open_source(str(root), "train")[0].labels.tolist() == [0, 1]
    trained = open_source(str(root), "train", classes=["dog", "cat"])
    assert trained.classes == ["dog", "cat"]
    assert trained[0].labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match="not those of the training: missing cow, unknown cat, dog"):
        open_source(str(root), "train", classes=["cow"])


def blob(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Random pixels in Fortran order, as pycocotools wants them."""
    return np.asfortranarray(np.random.default_rng(seed).random(size) < 0.3).astype(np.uint8, order="F")


def run_lengths(pixels: np.ndarray) -> list[int]:
    """By column, zeros first."""
    flat = np.concatenate([[0], pixels.flatten(order="F"), [2]])
    edges = np.flatnonzero(np.diff(flat))
    return np.diff([0, *edges.tolist()]).tolist()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools with numpy 2
def test_masks_are_pycocotools(tmp_path: Path) -> None:
    """Polygons, run lengths and their text; where two overlap, and in a crowd, 255."""
    text = coco_mask.encode(blob(0))["counts"].decode()
    shapes = [
        annotation(1, 7, segmentation=[SQUARE, TRIANGLE]),
        annotation(2, 3, segmentation={"size": list(SIZE), "counts": run_lengths(blob(1))}),
        annotation(2, 7, segmentation={"size": list(SIZE), "counts": text}),
        annotation(1, 3, segmentation=[[4, 4, 30, 9, 9, 28]]),
        annotation(1, 3, segmentation=[[1, 20, 9, 20, 9, 29]], iscrowd=1),
    ]
    root = write_coco(tmp_path, shapes)
    source = open_source(str(root), "train", masks=True)
    coco = COCO(root / "annotations/instances_train.json")
    for index, number in enumerate((1, 2)):
        expected = np.zeros(SIZE, int)
        drawn = np.zeros(SIZE, int)
        for each in coco.imgToAnns[number]:
            pixels = coco.annToMask(each)
            drawn += pixels
            expected += pixels * (255 if each["iscrowd"] else {3: 1, 7: 2}[each["category_id"]])
        expected[(drawn > 1) | (expected > 255)] = 255
        item = source[index]
        assert item.mask.dtype == np.uint8
        assert np.array_equal(item.mask, expected)
        assert {1, 2, 255} <= set(np.unique(item.mask))
        assert len(item.boxes) == 0


def test_overlap_by_hand(tmp_path: Path) -> None:
    """Two squares of 10 pixels a side that share 5 x 10 of them."""
    shifted = [10, 5, 20, 5, 20, 15, 10, 15]
    root = write_coco(tmp_path, [annotation(1, 3), annotation(1, 7, segmentation=[shifted])])
    mask = open_source(str(root), "train", masks=True)[0].mask
    expected = np.zeros(SIZE, int)
    expected[5:15, 5:10], expected[5:15, 10:15], expected[5:15, 15:20] = 1, 255, 2
    assert np.array_equal(mask, expected)


@pytest.mark.parametrize("seed", range(5))
def test_text_of_run_lengths_is_decoded(seed: int) -> None:
    pixels = blob(seed, (50 + 40 * seed, 70))
    assert decode_counts(coco_mask.encode(pixels)["counts"].decode()) == run_lengths(pixels)


def test_roboflows_folders_are_read(tmp_path: Path) -> None:
    """The images beside the file, and a category 0 above the others, of which there are no objects."""
    categories = [
        {"id": 0, "name": "animals-abc", "supercategory": "none"},
        *({"id": n, "name": name, "supercategory": "animals-abc"} for n, name in ((1, "cat"), (2, "dog"))),
    ]
    root = write_coco(tmp_path, [annotation(1, 2)], categories=categories, file="train/_annotations.coco.json")
    source = open_source(str(root), "train")
    assert source.classes == ["cat", "dog"]
    assert source[0].labels.tolist() == [1]
    assert source.path(0) == f"{root}/train/1.png"
    root = write_coco(tmp_path, [annotation(1, 0)], categories=categories, file="train/_annotations.coco.json")
    assert open_source(str(root), "train").classes == ["animals-abc", "cat", "dog"]


@pytest.mark.parametrize(("train", "valid"), [(2, 0), (0, 2)])
def test_splits_of_roboflow_have_the_same_classes(tmp_path: Path, train: int, valid: int) -> None:
    """Whichever of the two has an object of the category above the others: that of the training decides."""
    categories = [{"id": 0, "name": "all", "supercategory": "none"}]
    categories += [{"id": n, "name": name, "supercategory": "all"} for n, name in ((1, "cat"), (2, "dog"))]
    for split, category in (("train", train), ("valid", valid)):
        objects = [annotation(1, category), annotation(1, 1)]
        write_coco(tmp_path, objects, [{"id": 1, "file_name": "1.png"}], categories, f"{split}/_annotations.coco.json")
    write_image(tmp_path / "valid/1.png", random_image(1, SIZE))
    trained = open_source(str(tmp_path), "train")
    source = open_source(str(tmp_path), "valid", classes=trained.classes)
    assert source.classes == trained.classes == (["cat", "dog"] if train else ["all", "cat", "dog"])
    assert [source.classes[label] for label in source[0].labels] == (["cat"] if train else ["dog", "cat"])
    unknown = [note for note in source.notes if "unknown class 'category_id 0' (1 object, the first in " in note]
    assert len(unknown) == (1 if train else 0)


@pytest.mark.parametrize("name", ["background", "Background", "_background_", "__background__", " BACKGROUND "])
@pytest.mark.parametrize("masks", [False, True])
def test_category_of_the_background_is_no_class(tmp_path: Path, name: str, masks: bool) -> None:
    """What is annotated with it is background: neither an object nor an unknown class."""
    categories = [{"id": 0, "name": name}, *CATEGORIES]
    root = write_coco(tmp_path, [annotation(2, 0), annotation(1, 7), annotation(2, 3)], categories=categories)
    source = open_source(str(root), "train", masks=masks)
    assert source.classes == ["cat", "dog"]
    assert [line.replace(str(root), "ROOT") for line in source.notes] == [
        f"ROOT/annotations/instances_train.json: a category of the background ({name.strip()}); no class, and its "
        "annotations no objects"
    ]
    if masks:
        assert set(np.unique(source[1].mask)) == {0, 1}  # one square over the other: else 255
    else:
        assert source[1].labels.tolist() == [0]


@pytest.mark.parametrize(("name", "place"), [("1.png", "images"), ("1.png", "images/train"), ("day/1.png", "")])
def test_images_are_found_where_tools_put_them(tmp_path: Path, name: str, place: str) -> None:
    root = write_coco(tmp_path, [annotation()], [{"id": 1, "file_name": name}])
    (root / "train/1.png").unlink()
    write_image(root / place / name, random_image(0, SIZE))
    assert open_source(str(root), "train").path(0) == str(root / place / name)


def test_splits_that_are_there_are_named(tmp_path: Path) -> None:
    root = write_coco(tmp_path, [annotation()], file="annotations/instances_train2017.json")
    with pytest.raises(FileNotFoundError, match=r"annotations/instances_train.json: no such file; there are train2017"):
        open_source(str(root), "train")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"bbox": [5, 5, 0, 9]}, "a box without an area (5, 5, 5, 14); left out"),
        ({"bbox": [5, 5, -4, 9]}, "a box without an area (5, 5, 1, 14); left out"),
        ({"bbox": [40, 5, 4, 9]}, "a box outside of its image (40, 5, 44, 14 in 40 x 30 pixels); left out"),
        ({"bbox": [30, 5, 14, 9]}, "a box that reaches out (30, 5, 44, 14 in 40 x 30 pixels); clipped"),
        ({"bbox": [float("nan"), 5, 4, 9]}, "a box whose coordinates are not all numbers (bbox [nan, 5, 4, 9]); left"),
        ({"bbox": [5, 5, float("inf"), 9]}, "a box whose coordinates are not all numbers (bbox [5, 5, inf, 9]); left"),
        ({"bbox": [5, 5, 10**400, 9]}, "a box whose coordinates are not all numbers (bbox [5, 5, 1000"),
        ({"bbox": ["5", 5, 4, 9]}, "a box whose coordinates are not all numbers (bbox ['5', 5, 4, 9]); left out"),
        ({"bbox": []}, "a box whose coordinates are not all numbers (bbox []); left out"),
    ],
)
def test_box_that_cannot_be_is_left_out(tmp_path: Path, values: dict, line: str) -> None:
    root = write_coco(tmp_path, [annotation(**values), annotation(2), annotation(1)])
    (found,) = noted(root)
    assert found.startswith(f"ROOT/train/1.png: {line}")
    assert open_source(str(root), "train")[0].boxes[-1].tolist() == [5, 5, 15, 15.5]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"category_id": 9}, "ROOT (train): unknown class 'category_id 9' (1 object, the first in JSON); left out"),
        (
            {"category_id": [7]},
            "ROOT (train): unknown class 'category_id [7]' (1 object, the first in JSON); left out",
        ),
        ({"image_id": 9}, "JSON: an annotation of an image that is not listed (image_id 9); left out"),
        ({"image_id": {}}, "JSON: an annotation of an image that is not listed (image_id {}); left out"),
    ],
)
@pytest.mark.parametrize("masks", [False, True])
def test_annotation_of_nothing_known_is_left_out(tmp_path: Path, values: dict, line: str, masks: bool) -> None:
    root = write_coco(tmp_path, [annotation(1), annotation(2), annotation() | values])
    assert noted(root, masks=masks) == [line.replace("JSON", "ROOT/annotations/instances_train.json")]


@pytest.mark.parametrize(
    ("image", "line"),
    [
        ({"id": 2, "file_name": "2.png"}, "JSON: an image that is there twice (2, '2.png'); the first taken"),
        ({"id": 5, "file_name": "2.png"}, "JSON: an image that is there twice (5, '2.png'); the first taken"),
        ({"id": 5, "file_name": "5.png"}, "ROOT/train/5.png: an image that cannot be read (No such file or directory)"),
        ({"id": 5, "file_name": "../../5.png"}, "JSON: an image without an id and the name of a file below the folder"),
        ({"id": 5, "file_name": "/etc/passwd"}, "JSON: an image without an id and the name of a file below the folder"),
        ({"id": 5, "file_name": "a\0"}, "JSON: an image without an id and the name of a file below the folder"),
        ({"id": [5], "file_name": "5.png"}, "JSON: an image without an id and the name of a file below the folder"),
        ({"id": 5, "file_name": None}, "JSON: an image without an id and the name of a file below the folder"),
        ("2.png", "JSON: an image that is no JSON object (str); left out"),
        (
            {"id": 5, "file_name": "5.jpg", "height": 40, "width": 30},
            "ROOT/train/5.jpg: an image of another size than its annotation says (40 x 30 pixels, not 30 x 40)",
        ),
    ],
)
def test_image_that_cannot_be_is_left_out(tmp_path: Path, image: object, line: str) -> None:
    listed = [{"id": n, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in (1, 2)]
    root = write_coco(tmp_path, [annotation(1), annotation(2), annotation(2)], [*listed, image])
    write_image(root / "train/5.jpg", random_image(5, SIZE))
    (found,) = noted(root)
    assert found.startswith(line.replace("JSON:", "ROOT/annotations/instances_train.json:"))
    assert len(open_source(str(root), "train")) == 2


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "[" * 100_000, '{"images": [], "annotations": []}', "\x00\x01", '{"a": ' + "9" * 5000 + "}"),
        '{"images": [], "annotations": {}, "categories": []}',
    ],
)
def test_file_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    root = write_coco(tmp_path, [])
    (root / "annotations/instances_train.json").write_text(text)
    with pytest.raises(ValueError, match=r"instances_train.json: (no readable JSON|not a JSON object with lists of)"):
        open_source(str(root), "train")


def test_file_without_anything_left_is_refused(tmp_path: Path) -> None:
    root = write_coco(tmp_path, [annotation(1, 9)])
    with pytest.raises(ValueError, match=r"no object of cat, dog is left, but of category_id 9; .*json must have"):
        open_source(str(root), "train")
    root = write_coco(tmp_path, [annotation(1)], [{"id": 1, "file_name": "nowhere.png"}])
    with pytest.raises(ValueError, match=r"nowhere.png: .*; left out; no image is left in .*; .*json must have images"):
        open_source(str(root), "train")
    with pytest.raises(ValueError, match="instances_train.json: 0 classes"):
        open_source(str(write_coco(tmp_path, [annotation(1)], categories=[])), "train")
    with pytest.raises(ValueError, match="two classes have one name, cat"):
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]
        open_source(str(write_coco(tmp_path, [annotation(1)], categories=categories)), "train")


def test_file_of_boxes_alone_has_no_masks(tmp_path: Path) -> None:
    root = write_coco(tmp_path, [annotation(1, segmentation=[])])
    with pytest.raises(ValueError, match="no polygons or run lengths of cat, dog; export the shapes"):
        open_source(str(root), "train", masks=True)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"image_id": 1001}, ["an annotation of an image that is not listed (image_id 1001)"] * 2),
        (
            {"bbox": [], "segmentation": [[]]},
            [
                "ROOT/train/1.png: a box whose coordinates are not all numbers (bbox [])",
                "ROOT/train/1.png: an object whose shape cannot be drawn (a polygon of fewer than three points, or "
                "half a point)",
            ],
        ),
    ],
)
def test_what_left_no_object_is_named(tmp_path: Path, values: dict, reason: list[str], masks: bool) -> None:
    images = [{"id": n, "file_name": f"{n}.png"} for n in (1, 2, 3)]  # the third is not there, which matters less
    root = write_coco(tmp_path, [annotation(1, **values), annotation(2, **values)], images)
    with pytest.raises(ValueError, match="; correct the files$") as caught:
        open_source(str(root), "train", masks=masks)
    message = str(caught.value).replace(str(root), "ROOT")
    assert ("no object of cat, dog is left; ", "no polygons or run lengths of cat, dog; ")[masks] in message
    assert f"{reason[masks]}; left out (1 more like it); correct" in message


def test_shapes_that_are_there_are_not_asked_for(tmp_path: Path) -> None:
    other = {"size": [7, 7], "counts": [49]}
    root = write_coco(tmp_path, [annotation(1, segmentation=other), annotation(2, segmentation=other)])
    reason = (
        r"cannot be drawn \(run lengths of another size, \[7, 7\]\); its box is ignored \(1 more like it\); correct"
    )
    with pytest.raises(ValueError, match=reason):
        open_source(str(root), "train", masks=True)
    root = write_coco(tmp_path, [annotation(1, 99), annotation(2, 99)])
    with pytest.raises(ValueError, match=r"unknown class 'category_id 99' \(2 objects, .*; correct the files"):
        open_source(str(root), "train", masks=True)
    background = [{"id": 3, "name": "cat"}, {"id": 7, "name": "background"}]
    root = write_coco(tmp_path, [annotation(1), annotation(2)], categories=background)
    with pytest.raises(ValueError, match=r"no object of cat is left; .*a category of the background \(background\)"):
        open_source(str(root), "train")


def test_shares_of_the_sides_are_no_pixels(tmp_path: Path) -> None:
    shares = {"bbox": [0.1, 0.2, 0.5, 0.8], "segmentation": [[0.1, 0.2, 0.6, 0.2, 0.6, 1.0]]}
    root = write_coco(tmp_path, [annotation(1, **shares), annotation(2, **shares)])
    for masks, what in ((False, "boxes"), (True, "polygons")):
        with pytest.raises(ValueError, match=rf"its {what} are all within the first pixel .*; write them in pixels"):
            open_source(str(root), "train", masks=masks)
    runs_of_all = {"size": list(SIZE), "counts": [0, SIZE[0] * SIZE[1]]}
    rounded = {"segmentation": [[0.1, 0.2, 0.6, 0.2, 0.6, 1.0000001]]}
    root = write_coco(tmp_path, [annotation(1, **rounded), annotation(2, segmentation=runs_of_all)])
    with pytest.raises(ValueError, match="its polygons are all within the first pixel"):
        open_source(str(root), "train", masks=True)
    large = {"segmentation": [*shares["segmentation"], SQUARE]}
    for values in (large, {"segmentation": runs_of_all}):
        root = write_coco(tmp_path, [annotation(1, **values), annotation(2, **values)])
        for masks in (False, True):
            assert len(open_source(str(root), "train", masks=masks)) == 2


def runs(counts: object, size: object = SIZE) -> dict[str, object]:
    return {"size": list(size) if isinstance(size, tuple) else size, "counts": counts}


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        *((shape, "no polygons and no run lengths") for shape in (None, [], "polygon", 3, [[1] * 6] * 10_001)),
        *(([points], "a polygon of fewer than three points") for points in ([], [1, 2, 3, 4], [1] * 7, 5, "123456")),
        *(
            ([[value, 1, 9, 1, 9, 9]], "a polygon whose coordinates are not all numbers")
            for value in (float("nan"), float("inf"), "1", None, [1], True)
        ),
        *(([[value, 1, 9, 1, 9, 9]], "a polygon that reaches far out") for value in (-41, 81, 10**12, 10**400)),
        ([[0, 0, 40, 30] * 40_000], "polygons with far too long an edge"),
        *((runs([1200], size), "run lengths of another size") for size in ((40, 30), (30, 41), None, "30", [30])),
        *((runs(counts), "run lengths that are no whole") for counts in (None, 5, [1.5], ["1"], [True], {})),
        *((runs(counts), "run lengths that do not cover") for counts in ([], [1199], [1201], [-1, 1201], [10**30])),
        *((runs(counts), "damaged run lengths") for counts in ("P", "~~", "é", "PPPPPPPPPP", "a b")),
        *((runs(counts), "run lengths that do not cover") for counts in ("", "0", "11")),
    ],
)
def test_shape_that_pycocotools_should_not_see_is_not_drawn(tmp_path: Path, shape: Any, reason: str) -> None:
    assert check_shape(shape, SIZE).startswith(reason)
    root = write_coco(tmp_path, [annotation(1), annotation(2), annotation(1, 3, segmentation=shape)])
    (line,) = noted(root, masks=True)
    assert line.startswith(f"ROOT/train/1.png: an object whose shape cannot be drawn ({reason}")
    assert line.endswith("; its box is ignored")
    mask = open_source(str(root), "train", masks=True)[0].mask
    assert (mask[5:15, 5:15] == 255).all()  # neither its class nor background
    mask[5:16, 5:16] = 0
    assert set(np.unique(mask)) <= {0, 2}


def test_shape_that_cannot_be_drawn_and_has_no_box_is_left_out(tmp_path: Path) -> None:
    root = write_coco(tmp_path, [annotation(1), annotation(2), annotation(1, 3, segmentation=None, bbox=None)])
    (line,) = noted(root, masks=True)
    assert line.endswith("; left out")
    assert set(np.unique(open_source(str(root), "train", masks=True)[0].mask)) == {0, 2}


def test_lines_and_pictures_of_others_stay_whole(tmp_path: Path) -> None:
    root = write_coco(tmp_path, ["x", 3, annotation(1), annotation(2, bbox=None)])
    assert [re.sub(r" \(.*", "", line) for line in noted(root)] == [
        "ROOT/annotations/instances_train.json: an annotation that is no JSON object",
        "ROOT/annotations/instances_train.json: an annotation that is no JSON object",
        "ROOT/train/2.png: a box whose coordinates are not all numbers",
        "ROOT",
    ]

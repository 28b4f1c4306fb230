# SPDX-License-Identifier: Apache-2.0
"""Folders in the layout of Pascal VOC: against torchvision's and Pillow's reading, and with odd content."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image
from torchvision.tv_tensors import BoundingBoxes
from voc_layout import (
    annotation_xml,
    object_xml,
    random_image,
    write_boxes,
    write_image,
    write_list,
    write_mask,
    write_masks,
)

from core.annotated_folders import open_source
from core.voc_folders import VOC_CLASSES

DOG = object_xml("dog", (5, 6, 20, 25))


def noted(root: Path, *, masks: bool = False, images: int = 1) -> str:
    """The one line that a folder gets, of which so many images are left."""
    source = open_source(str(root), "train", masks=masks)
    assert len(source) == images
    (line,) = source.notes
    return line.replace(str(root), "ROOT")


def torchvision_annotations(root: Path) -> list[dict]:
    """torchvision takes the names of images to end with .jpg."""
    for path in (root / "JPEGImages").glob("*.png"):
        write_image(path.with_suffix(".jpg"), random_image(0))
        path.unlink()
    destination = root.parent / "VOCdevkit/VOC2012"
    destination.parent.mkdir()
    destination.symlink_to(root)
    dataset = torchvision.datasets.VOCDetection(root.parent, image_set="train")
    return torchvision.datasets.wrap_dataset_for_transforms_v2(dataset, target_keys=("boxes", "labels", "annotation"))


def test_boxes_and_classes_are_torchvisions(tmp_path: Path) -> None:
    """But for the pixel by which VOC counts from 1."""
    names = ["aeroplane", "person", "tvmonitor"]
    objects = [object_xml(name, (3 + place, 4, 20, 18 + place)) for place, name in enumerate(names)]
    root = write_boxes(tmp_path / "photos", {"a": annotation_xml(objects), "b": annotation_xml(objects[1:])})
    source = open_source(str(root), "train")
    ours = [source[index] for index in range(2)]
    theirs = torchvision_annotations(root)
    for mine, (_, target) in zip(ours, theirs, strict=True):
        assert isinstance(target["boxes"], BoundingBoxes)
        assert np.array_equal(mine.boxes + np.array([1, 1, 0, 0]), target["boxes"].numpy())
        assert np.array_equal(mine.labels + 1, target["labels"].numpy())  # theirs has the background first
        assert (mine.boxes.dtype, mine.labels.dtype, mine.ignored.dtype) == (np.float32, np.int64, bool)
        assert mine.mask is None


def test_box_covers_the_pixels_that_the_file_names(tmp_path: Path) -> None:
    """Columns 5 .. 20 counted from 1, both inside, are 16: 4 .. 19 counted from 0."""
    root = write_boxes(tmp_path, {"a": annotation_xml([DOG])})
    source = open_source(str(root), "train")
    assert source[0].boxes.tolist() == [[4, 5, 20, 25]]
    assert source[0].labels.tolist() == [VOC_CLASSES.index("dog")]
    assert np.array_equal(source[0].image, random_image(0))
    assert source.path(0) == f"{root}/JPEGImages/a.png"
    assert source.notes == []


def test_classes_are_pascal_vocs_in_their_order() -> None:
    """Those of Pascal VOC are in the order of the alphabet."""
    assert len(VOC_CLASSES) == 20
    assert sorted(VOC_CLASSES) == list(VOC_CLASSES)
    detection = torchvision.models.segmentation.DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT.meta["categories"]
    assert ["__background__", *VOC_CLASSES] == list(detection)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "\ufeffcat\n dog \n\n"),
        ("classes.txt", "Background\ncat\ndog\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:1,2,3::\ndog:4,5,6:a,b:\n"),
    ],
)
def test_classes_of_the_folder_come_first(tmp_path: Path, file: str, text: str) -> None:
    root = write_boxes(tmp_path, {"a": annotation_xml([DOG])})
    (root / file).write_text(text, "utf-8")
    if file == "classes.txt":  # which is the project's own
        (root / "labelmap.txt").write_text("cup:0,0,0::\n")
    source = open_source(str(root), "train")
    assert source.classes == ["cat", "dog"]
    assert source[0].labels.tolist() == [1]
    trained = open_source(str(root), "train", classes=["dog", "cat"])
    assert trained.classes == ["dog", "cat"]
    assert trained[0].labels.tolist() == [0]
    with pytest.raises(ValueError, match="not those of the training: missing cow, unknown cat, dog"):
        open_source(str(root), "train", classes=["cow"])


def test_what_tools_write_otherwise_is_read(tmp_path: Path) -> None:
    """<difficult> missing, <name> last, fractions, sides in another order, no size, polygons, parts with boxes."""
    plain = object_xml("dog", (5, 6, 20, 25), more="")
    fractions = object_xml("dog", ("5.5", "6.25", "20.0", "25.75"), more="<difficult> 1 </difficult>")
    roboflow = (
        "<object><polygon><x1>1</x1></polygon><part><name>head</name><bndbox><xmin>1</xmin></bndbox></part><bndbox>"
        "<xmin>5</xmin><xmax>20</xmax><ymin>6</ymin><ymax>25</ymax></bndbox><name> dog\n</name></object>"
    )
    root = write_boxes(tmp_path, {"a": annotation_xml([plain, fractions, roboflow], size=(0, 0))})
    item = open_source(str(root), "train")[0]
    assert item.boxes.tolist() == [[4, 5, 20, 25], [4.5, 5.25, 20, 25.75], [4, 5, 20, 25]]
    assert item.ignored.tolist() == [False, True, False]


def test_images_beside_their_annotations_are_a_split(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_image(tmp_path / split / "a_jpg.rf.0123.jpg", random_image(0))
        (tmp_path / split / "a_jpg.rf.0123.xml").write_text(annotation_xml([DOG]))
    source = open_source(str(tmp_path), "valid")
    assert source.path(0) == f"{tmp_path}/valid/a_jpg.rf.0123.jpg"
    assert source[0].boxes.tolist() == [[4, 5, 20, 25]]
    with pytest.raises(
        FileNotFoundError, match="/val: no folder with XML files; there are train, valid; name one in config.py$"
    ):
        open_source(str(tmp_path), "val")


def test_folders_among_the_images_are_parts_of_their_names(tmp_path: Path) -> None:
    write_image(tmp_path / "JPEGImages/day one/a.png", random_image(3))
    (tmp_path / "Annotations/day one").mkdir(parents=True)
    (tmp_path / "Annotations/day one/a.xml").write_text(annotation_xml([DOG]))
    write_list(tmp_path, ['"day one/a.png"'])
    source = open_source(str(tmp_path), "train")
    assert source[0].boxes.tolist() == [[4, 5, 20, 25]]
    assert np.array_equal(source[0].image, random_image(3))


@pytest.mark.parametrize(
    ("thing", "line"),
    [
        (("dog", (6, 6, 5, 25)), "a box without an area (6, 6, 5, 25); left out"),
        (("dog", (5, 6.5, 25, 6)), "a box without an area (5, 6.5, 25, 6); left out"),
        (("dog", (20, 25, 5, 6)), "a box without an area (20, 25, 5, 6); left out"),
        (("dog", (41, 1, 50, 9)), "a box outside of its image (41, 1, 50, 9 in 40 x 30 pixels); left out"),
        (("dog", (-9, -9, 0, 0)), "a box outside of its image (-9, -9, 0, 0 in 40 x 30 pixels); left out"),
        (("dog", ("nan", 1, 9, 9)), "a box whose coordinates are not all numbers (nan, 1, 9, 9); left out"),
        (("dog", (1, 1, "inf", 9)), "a box whose coordinates are not all numbers (1, 1, nan, 9); left out"),
        (("dog", (1, 1, "1e999", 9)), "a box whose coordinates are not all numbers (1, 1, nan, 9); left out"),
        (("dog", (1, "", 9, 9)), "a box whose coordinates are not all numbers (1, nan, 9, 9); left out"),
    ],
)
def test_object_that_cannot_be_is_left_out(tmp_path: Path, thing: tuple, line: str) -> None:
    root = write_boxes(tmp_path, {"a": annotation_xml([object_xml(*thing), DOG])})
    assert noted(root) == f"ROOT/Annotations/a.xml: {line}"
    assert open_source(str(root), "train")[0].boxes.tolist() == [[4, 5, 20, 25]]


def test_object_without_a_box_or_a_known_name_is_left_out(tmp_path: Path) -> None:
    root = write_boxes(tmp_path, {"a": annotation_xml(["<object><name>dog</name></object>", DOG])})
    assert "a box whose coordinates are not all numbers (nan, nan, nan, nan); left out" in noted(root)
    root = write_boxes(tmp_path, {"a": annotation_xml([object_xml("wolf", (1, 1, 9, 9)), DOG, "<object/>", DOG])})
    notes = open_source(str(root), "train").notes
    assert [note.replace(str(root), "ROOT") for note in notes] == [
        "ROOT (train): unknown class 'wolf' (1 object, the first in ROOT/Annotations/a.xml); left out",
        "ROOT (train): unknown class '' (1 object, the first in ROOT/Annotations/a.xml); left out",
    ]


def test_object_of_the_background_is_none(tmp_path: Path) -> None:
    root = write_boxes(tmp_path, {"a": annotation_xml([object_xml("Background", (1, 1, 40, 30)), DOG])})
    assert noted(root) == "ROOT/Annotations/a.xml: an object of the background (Background); left out"
    assert len(open_source(str(root), "train")[0].boxes) == 1


def test_box_from_a_pixel_to_the_same_is_that_pixel(tmp_path: Path) -> None:
    """VOC counts the last pixel as inside; the corners of the image too."""
    boxes = [object_xml("dog", corners) for corners in ((5, 6, 5, 25), (9, 9, 9, 9), (1, 1, 1, 1), (40, 30, 40, 30))]
    source = open_source(str(write_boxes(tmp_path, {"a": annotation_xml(boxes)})), "train")
    assert source.notes == []
    assert source[0].boxes.tolist() == [[4, 5, 5, 25], [8, 8, 9, 9], [0, 0, 1, 1], [39, 29, 40, 30]]


def test_box_that_reaches_out_is_clipped(tmp_path: Path) -> None:
    """The line comes from more than a pixel on: tools that count from 0 are one off."""
    root = write_boxes(tmp_path, {"a": annotation_xml([object_xml("dog", (-5, 3, 50, 20))])})
    assert noted(root).endswith("a.xml: a box that reaches out (-5, 3, 50, 20 in 40 x 30 pixels); clipped")
    assert open_source(str(root), "train")[0].boxes.tolist() == [[0, 2, 40, 20]]
    root = write_boxes(tmp_path, {"a": annotation_xml([object_xml("dog", (0, 0, 41, 30))])})
    assert open_source(str(root), "train").notes == []
    assert open_source(str(root), "train")[0].boxes.tolist() == [[0, 0, 40, 30]]


def test_image_without_an_object_stays(tmp_path: Path) -> None:
    root = write_boxes(tmp_path, {"a": annotation_xml([DOG]), "b": annotation_xml([])})
    assert noted(root, images=2) == "ROOT (train): 1 of 2 images has no object"
    item = open_source(str(root), "train")[1]
    assert (item.boxes.shape, item.labels.shape, item.ignored.shape) == ((0, 4), (0,), (0,))


BOMB = f'<!DOCTYPE a [<!ENTITY a "dog"><!ENTITY b "{"&a;" * 9}">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        (b"<annotation><object>", "no readable XML: no element found: line 1, column 20"),
        (b"", "no readable XML: no element found: line 1, column 0"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "no readable XML: unknown encoding"),
        (b"<html/>", "begins with <html>, not <annotation>"),
        (BOMB.encode(), "a DOCTYPE or UTF-16, which are not read"),
        (BOMB.encode("utf-16"), "a DOCTYPE or UTF-16, which are not read"),
        (b"<annotation>" + b" " * 2**22 + b"</annotation>", "above 4,194,304 bytes"),
        (None, "No such file or directory"),
    ],
)
def test_annotation_that_cannot_be_read_is_left_out(tmp_path: Path, xml: bytes | None, words: str) -> None:
    root = write_boxes(tmp_path, {"a": annotation_xml([DOG]), "b": ""})
    path = root / "Annotations/b.xml"
    path.unlink() if xml is None else path.write_bytes(xml)
    assert noted(root).startswith(f"ROOT/Annotations/b.xml: an annotation that cannot be used ({words}")


def test_deeply_nested_annotation_is_survived(tmp_path: Path) -> None:
    root = write_boxes(tmp_path, {"a": annotation_xml([DOG, "<a>" * 50_000 + "</a>" * 50_000])})
    assert len(open_source(str(root), "train")) == 1


def test_images_that_are_missing_twice_or_damaged_are_left_out(tmp_path: Path) -> None:
    root = write_boxes(tmp_path, {name: annotation_xml([DOG]) for name in "abc"})
    (root / "JPEGImages/b.png").write_bytes((root / "JPEGImages/b.png").read_bytes()[:99])
    write_list(root, ["a", "b", "c", "a", "../../etc/passwd", "/etc/passwd", "d"])
    write_image(root / "JPEGImages/c.jpg", random_image(9))
    source = open_source(str(root), "train")
    assert [source.path(index) for index in range(2)] == [f"{root}/JPEGImages/{name}" for name in ("a.png", "c.jpg")]
    assert [note.replace(f"{root}/JPEGImages", "IMAGES") for note in source.notes] == [
        "IMAGES/c.png: a second image of one name (c.jpg); left out",
        "IMAGES/a.png: an image that the split has twice; taken once",
        "IMAGES/../../etc/passwd: an image of the split that is not there; left out",
        "IMAGES//etc/passwd: an image of the split that is not there; left out",
        "IMAGES/d: an image of the split that is not there; left out",
        "IMAGES/b.png: an image that cannot be read (not a readable image (99 bytes); replace or remove the file); "
        "left out",
    ]


def test_image_of_another_size_than_its_annotation_says_is_left_out(tmp_path: Path) -> None:
    root = write_boxes(tmp_path, {"a": annotation_xml([DOG]), "b": annotation_xml([DOG], size=(40, 30))})
    expected = "b.xml: its image has another size than it says (40 x 30 pixels, not 30 x 40); left out"
    assert noted(root) == f"ROOT/Annotations/{expected}"


def test_many_lines_of_one_kind_are_counted(tmp_path: Path) -> None:
    root = write_boxes(tmp_path, {"a": annotation_xml([object_xml("dog", (9, 9, 8, 9))] * 40 + [DOG])})
    notes = open_source(str(root), "train").notes
    assert len(notes) == 4
    assert notes[-1] == f"{root} (train): 37 more: a box without an area"


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([object_xml("wolf", (1, 1, 9, 9))], "tvmonitor is left, but of wolf; name the classes in ROOT/classes.txt"),
        ([], "tvmonitor is left; its files have none: label"),
        ([object_xml("tvmonitor", (9, 9, 8, 9))], "is left; ROOT/Annotations/a.xml: a box without an area (9, 9, 8"),
    ],
)
def test_folder_without_an_object_of_the_classes_is_refused(tmp_path: Path, objects: list, message: str) -> None:
    root = write_boxes(tmp_path, {"a": annotation_xml(objects)})
    (root / "classes.txt").write_text("tvmonitor\n")
    with pytest.raises(ValueError, match=re.escape(message.replace("ROOT", str(root)))):
        open_source(str(root), "train")


def test_shares_of_the_sides_are_no_pixels(tmp_path: Path) -> None:
    root = write_boxes(tmp_path, {"a": annotation_xml([object_xml("dog", (0.1, 0.2, 0.6, 1.0))])})
    with pytest.raises(ValueError, match=r"its boxes are all within the first pixel of their images, .* in pixels"):
        open_source(str(root), "train")


def test_what_to_write_is_said_where_the_lists_are_missing(tmp_path: Path) -> None:
    root = write_boxes(tmp_path, {"a": annotation_xml([DOG])}, "trainval")
    with pytest.raises(
        FileNotFoundError, match=r"ImageSets/Main/val.txt: no such file; there are trainval; name one in "
    ):
        open_source(str(root), "val")
    (root / "ImageSets/Main/trainval.txt").unlink()
    with pytest.raises(FileNotFoundError, match="Main/val.txt: no such file; write it: the names of the images in"):
        open_source(str(root), "val")
    (root / "ImageSets/Main/val.txt").write_text("b\n")
    with pytest.raises(ValueError, match=r"b: an image of the split that is not there; left out; no image is left"):
        open_source(str(root), "val")
    with pytest.raises(ValueError, match=r"neither a folder of Pascal VOC .*; .*/VOC2012 is one: name it"):
        write_boxes(tmp_path / "VOCdevkit/VOC2012", {"a": annotation_xml([DOG])})
        open_source(str(tmp_path / "VOCdevkit"), "train")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        open_source(str(tmp_path / "nowhere"), "train")


def random_mask(seed: int, size: tuple[int, int] = (30, 40)) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([0, 1, 20, 255], np.uint8), size)


def test_masks_are_pillows_indices(tmp_path: Path) -> None:
    root = write_masks(tmp_path, {name: random_mask(seed) for seed, name in enumerate("ab")})
    source = open_source(str(root), "train", masks=True)
    assert not (root / "Annotations").exists()
    for index, name in enumerate("ab"):
        with Image.open(root / f"SegmentationClass/{name}.png") as picture:
            assert picture.mode == "P"
            assert np.array_equal(source[index].mask, np.asarray(picture))
        assert np.array_equal(source[index].mask, random_mask(index))
        assert np.array_equal(source[index].image, random_image(index))
    assert source[0].mask.dtype == np.uint8
    assert [note.replace(str(root), "ROOT") for note in source.notes] == [
        "ROOT (train): no pixel of 18 of the classes: bicycle, bird, boat ...",
        "ROOT (train): its classes are taken to be Pascal VOC's twenty, of which it has not all; if they are others, "
        "name the classes in ROOT/classes.txt, one a line",
    ]
    (root / "classes.txt").write_text("\n".join(VOC_CLASSES))
    notes = open_source(str(root), "train", masks=True).notes
    assert [note.replace(str(root), "ROOT") for note in notes] == [
        "ROOT (train): no pixel of 18 of the classes: bicycle, bird, boat ..."
    ]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_masks_of_few_bits_or_grey_have_the_same_indices(tmp_path: Path, bits: int) -> None:
    root = write_masks(tmp_path, {"a": random_mask(0)})
    (root / "classes.txt").write_text("cat\ndog\n")
    indices = np.random.default_rng(0).integers(0, 2 if bits == 1 else 3, (30, 40)).astype(np.uint8)
    picture = Image.fromarray(indices)
    if bits < 8:  # else grey
        picture.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    picture.save(root / "SegmentationClass/a.png", bits=bits)
    assert np.array_equal(open_source(str(root), "train", masks=True)[0].mask, indices)


def test_masks_follow_the_order_of_the_training_classes(tmp_path: Path) -> None:
    root = write_masks(tmp_path, {"a": np.array([[0, 1], [2, 255]], np.uint8)})
    (root / "classes.txt").write_text("cat\ndog\n")
    source = open_source(str(root), "train", masks=True, classes=["dog", "cat"])
    assert source[0].mask.tolist() == [[0, 2], [1, 255]]


def test_indices_of_no_class_are_ignored(tmp_path: Path) -> None:
    root = write_masks(tmp_path, {"a": np.array([[0, 1], [7, 255]], np.uint8)})
    (root / "classes.txt").write_text("cat\n")
    kind = "an index above 1, the number of the classes, in the mask"
    assert noted(root, masks=True) == f"ROOT/SegmentationClass/a.png: {kind} (7); taken as ignored"
    assert open_source(str(root), "train", masks=True)[0].mask.tolist() == [[0, 1], [255, 255]]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "No such file or directory"),
        ("size", "20 x 10 pixels, its image has 40 x 30"),
        ("colours", "a PNG of colours; save the index of the class in each pixel: 8-bit grey, or with a palette"),
        ("cut", "damaged ("),
        ("text", "no PNG"),
        ("16 bits", "a PNG of colours;"),
    ],
)
def test_mask_that_cannot_be_used_is_left_out(tmp_path: Path, kind: str, words: str) -> None:
    root = write_masks(tmp_path, {name: np.ones((30, 40), np.uint8) for name in "ab"})
    (root / "classes.txt").write_text("cat\n")
    path = root / "SegmentationClass/b.png"
    if kind == "missing":
        path.unlink()
    elif kind == "size":
        write_mask(path, np.ones((10, 20), np.uint8))
    elif kind == "colours":
        write_image(path, random_image(0))
    elif kind == "16 bits":
        Image.fromarray(np.ones((30, 40), np.uint16)).save(path)
    else:
        path.write_bytes(path.read_bytes()[:60] if kind == "cut" else b"a mask" * 9)
    assert noted(root, masks=True).startswith(f"ROOT/SegmentationClass/b.png: a mask that cannot be used ({words}")


def test_mask_that_is_none_any_more_is_named(tmp_path: Path) -> None:
    root = write_masks(tmp_path, {"a": np.ones((30, 40), np.uint8)})
    source, path = open_source(str(root), "train", masks=True), root / "SegmentationClass/a.png"
    write_image(path, random_image(0))
    with pytest.raises(ValueError, match=f"^{path}: a PNG of colours; save the index"):
        source[0]


def test_mask_without_a_pixel_that_counts_is_left_out(tmp_path: Path) -> None:
    """The mean of a loss over none of its pixels would be NaN."""
    root = write_masks(tmp_path, {"a": np.ones((3, 4), np.uint8), "b": np.full((3, 4), 255, np.uint8)})
    (root / "classes.txt").write_text("cat\n")
    expected = "ROOT/SegmentationClass/b.png: a mask in which every pixel is ignored (255); left out"
    assert noted(root, masks=True) == expected


def test_masks_without_any_class_are_refused(tmp_path: Path) -> None:
    """Those of 0 and 255, as others write foreground, would teach that all is background."""
    root = write_masks(tmp_path, {"a": np.array([[0, 255]], np.uint8)})
    with pytest.raises(ValueError, match="no mask has an index of a class; 1 stands for aeroplane, and so on"):
        open_source(str(root), "train", masks=True)


def test_a_mask_of_foreground_as_others_write_it_is_told(tmp_path: Path) -> None:
    root = write_masks(tmp_path, {"a": np.ones((3, 4), np.uint8), "b": np.array([[0, 255]], np.uint8)})
    (root / "classes.txt").write_text("cat\n")
    (note,) = open_source(str(root), "train", masks=True).notes
    assert note == f"{root}/SegmentationClass/b.png: a mask of 0 and 255 alone; taken so: 255 is ignored"


@pytest.mark.parametrize("masks", [False, True])
def test_an_empty_list_is_to_name_images(tmp_path: Path, masks: bool) -> None:
    write = write_masks if masks else write_boxes
    root = write(tmp_path, {"a": np.ones((3, 4), np.uint8) if masks else annotation_xml([DOG])})
    (root / "ImageSets" / ("Segmentation" if masks else "Main") / "none.txt").write_text("\n")
    with pytest.raises(ValueError, match="no image is left in .*; the list of a split names images that are there, "):
        open_source(str(root), "none", masks=masks)


def test_source_is_small_where_it_is_sent_to_workers(tmp_path: Path) -> None:
    """Arrays, not an object for each box: what many boxes take is about what their 25 bytes each take."""
    root = write_boxes(tmp_path, {"a": annotation_xml([DOG] * 2000)})
    assert len(pickle.dumps(open_source(str(root), "train"))) < 2000 * (16 + 8 + 1) + 3000


def test_an_image_that_is_damaged_later_is_named(tmp_path: Path) -> None:
    root = write_boxes(tmp_path, {"a": annotation_xml([DOG])})
    source = open_source(str(root), "train")
    (root / "JPEGImages/a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="JPEGImages/a.png: not a readable image"):
        source[0]
    write_image(root / "JPEGImages/a.png", random_image(0, (40, 30)))  # as another program turned it upright
    with pytest.raises(ValueError, match="a.png: 30 x 40 pixels, and 40 x 30 when the run began; start it again"):
        source[0]
    with pytest.raises(IndexError):
        source[1]


def test_classes_of_masks_that_nobody_named_are_told(tmp_path: Path) -> None:
    """A mask does not name its classes: without the line somebody's cups would silently be aeroplanes."""
    root = str(write_masks(tmp_path, {"a": np.ones((30, 40), np.uint8)}))
    (line,) = [note for note in open_source(root, "train", masks=True).notes if "twenty" in note]
    assert line.endswith(f"if they are others, name the classes in {root}/classes.txt, one a line")
    (tmp_path / "classes.txt").write_text("dog\n")
    assert not open_source(root, "train", masks=True).notes

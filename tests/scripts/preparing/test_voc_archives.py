# SPDX-License-Identifier: Apache-2.0
"""scripts/preparing/voc_archives.py: small archives with the names and the layout of the published ones."""

import hashlib
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torchvision
from preparing_runs import add_to_tar, assert_refused, call, contents, make, tar_of
from voc_layout import annotation_xml, object_xml, random_image

from core.annotated_folders import open_source
from preparing import datasets, voc_archives

YEARS = torchvision.datasets.voc.DATASET_YEAR_DICT
EXTRA = {"VOCdevkit/VOC2007/SegmentationObject/1.png": b"not kept", "VOCdevkit/VOC2007/readme.txt": b"not kept"}


def voc_files(year: int, splits: dict[str, list[str]]) -> dict[str, bytes]:
    """What an archive holds: these images by split, with a box and a mask each."""
    files = {}
    for split, names in splits.items():
        listing = "".join(f"{name}\n" for name in names).encode()
        files |= {f"ImageSets/{kind}/{split}.txt": listing for kind in ("Main", "Segmentation")}
        for seed, name in enumerate(names):
            files[f"JPEGImages/{name}.jpg"] = cv2.imencode(".jpg", random_image(seed))[1].tobytes()
            files[f"Annotations/{name}.xml"] = annotation_xml([object_xml("dog", (2, 3, 9, 9))]).encode()
            files[f"SegmentationClass/{name}.png"] = cv2.imencode(".png", np.ones((30, 40), np.uint8))[1].tobytes()
    return {f"VOCdevkit/VOC{year}/{name}": data for name, data in files.items()}


def publish(monkeypatch: pytest.MonkeyPatch, folder: Path, year: str, data: bytes) -> Path:
    """Write an archive under its published name, and let its MD5 be the published one."""
    path = folder / YEARS[year]["url"].rpartition("/")[2]
    path.write_bytes(data)
    monkeypatch.setitem(YEARS, year, YEARS[year] | {"md5": hashlib.md5(data).hexdigest()})
    return path


@pytest.fixture
def voc2007(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Both archives of 2007 in tmp_path/source; what they hold."""
    (tmp_path / "source").mkdir()
    trainval, test = voc_files(2007, {"train": ["1"], "val": ["2"]}), voc_files(2007, {"test": ["3"]})
    publish(monkeypatch, tmp_path / "source", "2007", tar_of(trainval | EXTRA))
    publish(monkeypatch, tmp_path / "source", "2007-test", tar_of(test))
    return trainval | test


def test_archives_have_the_names_of_the_publishers() -> None:
    names = {key: [file.file_name for file in voc_archives.published_files(key)] for key in voc_archives.FOLDERS}
    assert names == {
        "voc2007": ["VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar"],
        "voc2012": ["VOCtrainval_11-May-2012.tar"],
    }


def test_voc2007_is_unpacked_from_both_archives_and_read(tmp_path: Path, voc2007: dict[str, bytes]) -> None:
    target = tmp_path / "out/VOC2007"
    output = make("voc2007", "--source", tmp_path / "source", "--target", target)
    found = contents(target)
    assert found.pop("prepare_dataset.json")
    assert found == {name.removeprefix("VOCdevkit/VOC2007/"): data for name, data in voc2007.items()}
    assert [path.name for path in target.parent.iterdir()] == ["VOC2007"]
    assert "3 in Annotations, 6 in ImageSets, 3 in JPEGImages, 3 in SegmentationClass" in output
    assert f'  data_dir = "{target}"\n  train_split = "train"\n  valid_split = "val"\n  test_split = "test"\n' in output
    assert output.endswith("  model_num_classes = 21\n")
    for split, masks in (("train", False), ("val", True), ("test", False)):
        assert len(open_source(str(target), split, masks=masks)) == 1
    again = make("voc2007", "--source", tmp_path / "source", "--target", target)
    assert "there already, nothing to do" in again
    (target / "JPEGImages/1.jpg").unlink()
    assert_refused(call("voc2007", "--target", target), "JPEGImages: 2 of 3 files; move it away")
    assert_refused(call("voc2012", "--target", target), "was made with name = 'voc2007', not 'voc2012'")


def test_voc2012_goes_into_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "DATA", tmp_path / "data")
    archive = publish(monkeypatch, tmp_path, "2012", tar_of(voc_files(2012, {"train": ["1"], "val": ["2"]})))
    output = make("voc2012", "--source", archive)
    assert '  data_dir = "./data/VOC2012"\n' in output
    assert '  test_split = "val"\n' in output
    assert len(open_source(str(tmp_path / "data/VOC2012"), "val", masks=True)) == 1


def test_other_bytes_than_the_published_ones_are_refused(tmp_path: Path, voc2007: dict[str, bytes]) -> None:
    with (tmp_path / "source/VOCtest_06-Nov-2007.tar").open("ab") as file:
        file.write(b"\0" * 512)
    result = call("voc2007", "--source", tmp_path / "source", "--target", tmp_path / "V")
    assert_refused(result, "VOCtest_06-Nov-2007.tar: its MD5 is", "get the file again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("name", ["../../out.txt", "/tmp/out.txt"])
def test_archive_whose_names_lead_out_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    archive = publish(monkeypatch, tmp_path, "2012", tar_of(voc_files(2012, {"train": ["1"]}) | {name: b"x"}))
    result = call("voc2012", "--source", archive, "--target", tmp_path / "V/VOC2012")
    assert_refused(result, archive.name, "can lead out of the target")
    assert not (tmp_path / "V/VOC2012").exists()


def test_archive_with_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "linked.tar"
    with tarfile.open(path, "w") as archive:
        link = {"type": tarfile.SYMTYPE, "linkname": "/etc"}
        add_to_tar(archive, "VOCdevkit/VOC2012/JPEGImages", **link)
    published = publish(monkeypatch, tmp_path, "2012", path.read_bytes())
    result = call("voc2012", "--source", published, "--target", tmp_path / "V")
    assert_refused(result, "is a link, a device or has no name")


def test_what_is_missing_or_does_not_fit_is_named(tmp_path: Path, voc2007: dict[str, bytes]) -> None:
    (tmp_path / "source/VOCtest_06-Nov-2007.tar").unlink()
    target = tmp_path / "V"
    result = call("voc2007", "--source", tmp_path / "source", "--target", target)
    assert_refused(result, "VOCtest_06-Nov-2007.tar: no such file; name the folder of the published archives")
    assert_refused(call("voc2007", "--source", tmp_path / "nowhere", "--target", target), "no such file or folder")
    assert_refused(call("voc2007", "--short-side", 9), "--short-side: voc2007 stays as it is published")
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    assert_refused(call("voc2007", "--target", target), "is there, but not made by this command; move it away")
    assert (target / "mine.txt").read_text() == "mine"
    file = tmp_path / "source/VOCtrainval_06-Nov-2007.tar"
    words = f"{file}: a file, and voc2007 has several; name the folder with VOCtrainval_06-Nov-2007.tar and VOCtest_06-"
    assert_refused(call("voc2007", "--source", file, "--target", tmp_path / "W"), words)

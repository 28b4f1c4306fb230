# SPDX-License-Identifier: Apache-2.0
"""scripts/preparing/caltech_sources.py: Caltech-101 and Caltech-256."""

import gzip
import os
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from preparing_runs import assert_refused, call, caltech_files, images_of, make, make_source, tar_of


@pytest.mark.parametrize("kind", ["zip of tar.gz", "tar.gz", "folder"])
def test_caltech101_is_read_from_its_archive_in_an_archive(kind: str, tmp_path: Path) -> None:
    files = caltech_files("101_ObjectCategories", ("accordion", "Faces_easy"))
    background = caltech_files("101_ObjectCategories", ("BACKGROUND_Google",), 3)
    hidden = {"101_ObjectCategories/accordion/._image_0001.jpg": b"x", "101_ObjectCategories/accordion/tmp": b"x"}
    everything = {**hidden, **background, **files}
    source = make_source("tar.gz" if "tar" in kind else "folder", tmp_path, everything)
    if kind.startswith("zip"):
        with zipfile.ZipFile(tmp_path / "caltech-101.zip", "w") as archive:
            archive.writestr("caltech-101/Annotations.tar", b"not read")
            archive.writestr("__MACOSX/caltech-101/._Annotations.tar", b"not read")
            archive.write(source, "caltech-101/101_ObjectCategories.tar.gz")
        source = tmp_path / "caltech-101.zip"
    output = make("caltech101", "--source", source, "--target", tmp_path / "C")
    found = images_of(tmp_path / "C")
    assert {name.partition("/")[2]: data for name, data in found.items()} == {
        name.partition("/")[2]: data for name, data in files.items()
    }
    assert Counter(name.rpartition("/")[0] for name in found) == {
        **{f"train/{name}": 8 for name in ("accordion", "Faces_easy")},
        **{f"valid/{name}": 2 for name in ("accordion", "Faces_easy")},
    }
    assert output.count("left out 3 images of the class BACKGROUND_Google") == 1


def test_caltech256_leaves_out_clutter_and_what_is_not_an_image_of_a_class(tmp_path: Path) -> None:
    top = "256_ObjectCategories"
    files = caltech_files(top, ("001.ak47", "056.dog", "198.spider"), 5)
    others = {f"{top}/056.dog/greg/vision309/1.jpg": b"x", f"{top}/198.spider/RENAME2": b"x"}
    source = make_source("tar", tmp_path, {**files, **others, **caltech_files(top, ("257.clutter",), 2)})
    output = make("caltech256", "--source", source, "--target", tmp_path / "C")
    found = images_of(tmp_path / "C")
    assert sorted(found.values()) == sorted(files.values())
    assert {name.split("/")[1] for name in found} == {"001.ak47", "056.dog", "198.spider"}
    for words in (
        "left out 2 images of the class 257.clutter",
        "left out 2 images or other files, not <class>/<image>",
    ):
        assert words in output
    assert "note: 15 images, the published dataset has 29,780" in output


def test_hostile_archive_in_an_archive_writes_nothing(tmp_path: Path) -> None:
    inner = tar_of(
        {**caltech_files("101_ObjectCategories", ("a", "b")), "101_ObjectCategories/a/../../../../x.jpg": b"x"}
    )
    source = make_source("zip", tmp_path, {"caltech-101/101_ObjectCategories.tar.gz": gzip.compress(inner)})
    assert_refused(call("caltech101", "--source", source, "--target", tmp_path / "C"), source, "do not use")
    assert os.listdir(tmp_path) == [source.name]

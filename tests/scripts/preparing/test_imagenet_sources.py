# SPDX-License-Identifier: Apache-2.0
"""scripts/preparing/imagenet_sources.py: ImageNet, Tiny ImageNet and mini-ImageNet."""

import hashlib
import io
import os
import shutil
import struct
import tarfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from preparing_runs import (
    add_to_tar,
    assert_refused,
    call,
    config_line,
    contents,
    images_of,
    make,
    make_source,
    tar_of,
    times,
)

from preparing import datasets, imagenet_sources

TINY_CLASSES = ("n01443537", "n01629819", "n02206856")


def tiny_files() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """A small tiny-imagenet-200 as it is published, and what must come of it."""
    random = np.random.default_rng(2)
    files, expected, rows = {"wnids.txt": b"".join(name.encode() + b"\n" for name in TINY_CLASSES)}, {}, []
    for index, name in enumerate(TINY_CLASSES):
        files[f"train/{name}/{name}_boxes.txt"] = b"n01443537_0.JPEG\t0\t10\t63\t58\n"
        for number in range(3):
            data = random.bytes(400)
            files[f"train/{name}/images/{name}_{number}.JPEG"] = data
            expected[f"train/{name}/{name}_{number}.JPEG"] = data
        for number in range(2):  # the numbers of a class are not neighbours
            image, data = f"val_{index + 3 * number}.JPEG", random.bytes(300)
            files[f"val/images/{image}"] = data
            expected[f"valid/{name}/{image}"] = data
            rows.append(f"{image}\t{name}\t0\t32\t44\t62\n")
    files["val/val_annotations.txt"] = "".join(sorted(rows)).encode()
    files["test/images/test_0.JPEG"] = b"unknown"
    return {f"tiny-imagenet-200/{name}": data for name, data in files.items()}, expected


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_tiny_imagenet_takes_its_validation_classes_from_the_annotations(kind: str, tmp_path: Path) -> None:
    files, expected = tiny_files()
    source = make_source(kind, tmp_path, files)
    output = make("tiny_imagenet_200", "--source", source, "--target", tmp_path / "Tiny")
    assert images_of(tmp_path / "Tiny") == expected
    assert f"note: {source}: left out 1 image without a label" in output
    assert "note: 3 classes, the published dataset has 200" in output


@pytest.mark.parametrize("harm", ["no annotations", "image missing", "annotation missing", "class that leads out"])
def test_tiny_imagenet_that_does_not_fit_is_refused(harm: str, tmp_path: Path) -> None:
    files, _ = tiny_files()
    notes = "tiny-imagenet-200/val/val_annotations.txt"
    if harm == "no annotations":
        del files[notes]
    elif harm == "image missing":
        del files["tiny-imagenet-200/val/images/val_0.JPEG"]
    elif harm == "annotation missing":
        files[notes] = files[notes][files[notes].index(b"\n") + 1 :]
    else:
        files[notes] = files[notes].replace(b"n01443537", b"../../out")
    source = make_source("zip", tmp_path, files)
    assert_refused(call("tiny_imagenet_200", "--source", source, "--target", tmp_path / "T"), source, "val")
    assert os.listdir(tmp_path) == [source.name]


def mini_files(classes: dict[str, list[str]], number: int = 4, folders: bool = False) -> dict[str, bytes]:
    """images/ and one csv file per list, `number` images of each class in each list; `folders`: in class folders."""
    random = np.random.default_rng(3)
    files = {"images/n99999999.jpg": b"in no list"}
    for name, wnids in classes.items():
        rows = ["filename    , label" if folders else "filename,label"]
        for wnid in wnids:
            for place in range(number):
                image = f"{f'{wnid}/' if folders else ''}{wnid}{name}{place:08d}.jpg"
                files[f"images/{image}"] = random.bytes(200)
                rows.append(f"{image},{wnid}")
        files[f"{name}.csv"] = "\r\n".join(rows).encode()
    return {f"mini_imagenet/{name}": data for name, data in files.items()}


@pytest.mark.parametrize(("kind", "valid"), [("tar.gz", "valid"), ("folder", "val")])
def test_mini_imagenet_lists_of_the_same_classes_are_the_splits(kind: str, valid: str, tmp_path: Path) -> None:
    wnids = ["n01532829", "n01558993"]
    files = mini_files({"train": wnids, valid: wnids, "test": wnids}, folders=kind == "folder")
    source = make_source(kind, tmp_path, files)
    output = make("mini_imagenet_1k", "--source", source, "--target", tmp_path / "Mini")
    expected = {}
    for name, data in files.items():
        image = name.rpartition("/")[2]
        split = "train" if "train0" in image else "valid" if f"{valid}0" in image else None
        if split and "/images/" in name:
            expected[f"{split}/{image[:9]}/{image}"] = data
    assert len(expected) == 16
    assert images_of(tmp_path / "Mini") == expected
    assert f"note: {source}: test.csv is left out, 8 images" in output


def test_mini_imagenet_few_shot_lists_are_joined_and_split(tmp_path: Path) -> None:
    lists = {"train": ["n01532829", "n01558993"], "val": ["n01704323"], "test": ["n01749939"]}
    files = mini_files(lists, number=5)
    source = make_source("zip", tmp_path, files)
    output = make("mini_imagenet_1k", "--source", source, "--target", tmp_path / "Mini")
    found = images_of(tmp_path / "Mini")
    images = {name.rpartition("/")[2]: data for name, data in files.items() if "/images/n0" in name}
    assert {name.rpartition("/")[2]: data for name, data in found.items()} == images
    counts = Counter(tuple(name.split("/")[:2]) for name in found)
    for wnid in ("n01532829", "n01558993", "n01704323", "n01749939"):
        assert (counts["train", wnid], counts["valid", wnid]) == (4, 1)
    assert all(name.split("/")[1] == name.split("/")[2][:9] for name in found)
    assert "they are joined" in output
    assert output.count("left out 1 image that no list names") == 1


@pytest.mark.parametrize("harm", ["no lists", "image missing", "columns", "overlap", "upwards", "both lists"])
def test_mini_imagenet_lists_that_cannot_be_are_refused(harm: str, tmp_path: Path) -> None:
    files = mini_files({"train": ["n01532829", "n01558993"], "valid": ["n01532829", "n01558993"]})
    train = "mini_imagenet/train.csv"
    if harm == "no lists":
        files = {name: data for name, data in files.items() if not name.endswith(".csv")}
    elif harm == "image missing":
        del files["mini_imagenet/images/n01532829train00000000.jpg"]
    elif harm == "columns":
        files[train] = files[train].replace(b"filename", b"file")
    elif harm == "overlap":
        files[train] = files[train].replace(b",n01558993", b",n01704323")
    elif harm == "upwards":
        files[train] = files[train].replace(b",n01558993", b",../../out")
    else:
        files[train] += b"\r\nn01532829valid00000000.jpg,n01532829"
    source = make_source("zip", tmp_path, files)
    assert_refused(call("mini_imagenet_1k", "--source", source, "--target", tmp_path / "Mini"), source)
    assert os.listdir(tmp_path) == [source.name]


SYNSETS = ("n02119789", "n01440764", "n02100735")  # ILSVRC2012_ID 1, 2, 3: not the order of their names
VALID_IDS = (3, 1, 2, 2, 1, 3)


def make_devkit(path: Path, synsets: tuple[str, ...] = SYNSETS, ids: tuple[int, ...] = VALID_IDS) -> None:
    """meta.mat with the published fields: the leaves, then a synset above them."""
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    rows = [(number + 1, wnid, "words", 0) for number, wnid in enumerate(synsets)]
    meta = io.BytesIO()
    scipy.io.savemat(
        meta, {"synsets": np.array([*rows, (1001, "n00001740", "entity", 3)], fields)}, do_compression=True
    )
    truth = "".join(f"{number}\n" for number in ids).encode()
    with tarfile.open(path, "w:gz") as archive:
        add_to_tar(archive, "ILSVRC2012_devkit_t12/data/meta.mat", meta.getvalue())
        add_to_tar(archive, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", truth)
        add_to_tar(archive, "ILSVRC2012_devkit_t12/readme.txt", b"text")


def make_imagenet(folder: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The three archives with 3 classes; gives the images of train and valid that must come of them."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(4)
    train, valid, archives = {}, {}, {}
    for wnid in SYNSETS:
        images = {f"{wnid}_{number}.JPEG": random.bytes(500 + number) for number in (18, 7, 10_026)}
        archives[f"{wnid}.tar"] = tar_of(images)
        train |= {f"ILSVRC2012_img_train/{wnid}/{name}": data for name, data in images.items()}
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar_of(archives))
    images = {f"ILSVRC2012_val_{number:08d}.JPEG": random.bytes(300) for number in (4, 2, 6, 1, 3, 5)}
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar_of(images))
    for name, data in images.items():
        wnid = SYNSETS[VALID_IDS[int(name[15:23]) - 1] - 1]
        valid[f"ILSVRC2012_img_val/{wnid}/{name}"] = data
    make_devkit(folder / "ILSVRC2012_devkit_t12.tar.gz")
    return train, valid


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/ImageNet_1K of a repository of its own."""
    monkeypatch.setattr(datasets, "DATA", tmp_path / "data")
    target = tmp_path / "data" / "ImageNet_1K"
    dataset = datasets.DATASETS["imagenet_1k"]._replace(source=target)
    monkeypatch.setitem(datasets.DATASETS, "imagenet_1k", dataset)
    (tmp_path / "data").mkdir()
    return target


ARCHIVES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz")


def test_imagenet_is_made_beside_its_archives(imagenet: Path) -> None:
    train, valid = make_imagenet(imagenet)
    archives = contents(imagenet)
    output = make("imagenet_1k")
    assert images_of(imagenet) == {**archives, **train, **valid}
    lines = output.splitlines()
    assert config_line("dataset_name", "ImageNet_1K") in lines
    assert config_line("train_image_dir", "./data/ImageNet_1K/ILSVRC2012_img_train") in lines
    for name in ("valid", "test"):
        assert config_line(f"{name}_image_dir", "./data/ImageNet_1K/ILSVRC2012_img_val") in lines
    assert config_line("class_label_file", "./data/ImageNet_1K_labels_map.txt") in lines
    assert f"{imagenet / ARCHIVES[0]}: 9 images, not the 1,281,167 of the complete archive" in output
    for name in ARCHIVES:  # no longer needed
        (imagenet / name).unlink()
    before = times(imagenet)
    assert "there already, nothing to do" in make("imagenet_1k")
    assert times(imagenet) == before


@pytest.mark.parametrize("first", ["train", "val"])
def test_imagenet_split_that_comes_later_is_added(first: str, imagenet: Path, tmp_path: Path) -> None:
    train, valid = make_imagenet(tmp_path / "source")
    imagenet.mkdir()
    for name in ARCHIVES:
        if first in name or "devkit" in name:
            shutil.copy(tmp_path / "source" / name, imagenet)
    output = make("imagenet_1k")
    expected, other = (train, "val") if first == "train" else (valid, "train")
    found = {name: data for name, data in images_of(imagenet).items() if not name.endswith((".tar", ".gz"))}
    assert found == expected
    assert f"note: ILSVRC2012_img_{other} is missing: add ILSVRC2012_img_{other}.tar and run again" in output
    assert "there already" in make("imagenet_1k")
    make("imagenet_1k", "--source", tmp_path / "source")
    shutil.rmtree(imagenet / "ILSVRC2012_img_train")  # as its line says if the archive has changed
    assert ": complete\n" in make("imagenet_1k", "--source", tmp_path / "source")
    found = {name: data for name, data in images_of(imagenet).items() if not name.endswith((".tar", ".gz"))}
    assert found == {**train, **valid}


def test_imagenet_made_by_hand_counts_as_there_if_its_classes_do(imagenet: Path, tmp_path: Path) -> None:
    train, valid = make_imagenet(tmp_path / "source")
    for name, data in {**train, **valid}.items():
        (imagenet / name).parent.mkdir(parents=True, exist_ok=True)
        (imagenet / name).write_bytes(data)
    assert_refused(call("imagenet_1k"), imagenet, "1,000 classes")
    row = datasets.DATASETS["imagenet_1k"]
    datasets.DATASETS["imagenet_1k"] = row._replace(classes=3)  # the fixture puts it back
    assert "there already, nothing to do" in make("imagenet_1k")


def harm_imagenet(folder: Path, harm: str) -> str:
    """Damage one archive; gives the word that must name it."""
    train, valid, devkit = (folder / name for name in ARCHIVES)
    if harm == "no archives":
        train.unlink(), valid.unlink()
    elif harm == "no devkit":
        devkit.unlink()
    elif harm == "swapped":
        train.write_bytes(valid.read_bytes())
    elif harm == "class archive cut":
        data = train.read_bytes()
        train.write_bytes(tar_of({"n01440764.tar": tar_of({"a.JPEG": b"x" * 2000})[:1500]}) or data)
    elif harm == "cut":
        train.write_bytes(train.read_bytes()[:-12_000])
    elif harm == "hostile class":
        train.write_bytes(tar_of({"../n01440764.tar": tar_of({"a.JPEG": b"x"})}))
    elif harm == "hostile image":
        train.write_bytes(tar_of({"n01440764.tar": tar_of({"../../../a.JPEG": b"x"})}))
    elif harm == "no image":
        train.write_bytes(tar_of({"n01440764.tar": tar_of({"run.sh": b"x"})}))
    elif harm == "unknown image":
        valid.write_bytes(tar_of({"ILSVRC2012_val_00000007.JPEG": b"x"}))
    elif harm == "unknown class":
        make_devkit(devkit, ids=(4, 1, 2, 2, 1, 3))
    elif harm == "class that leads out":
        make_devkit(devkit, synsets=("n02119789", "../../../out", "n02100735"))
    elif harm == "damaged meta":
        with tarfile.open(devkit, "w:gz") as archive:
            add_to_tar(archive, "x/data/meta.mat", bytes(range(256)) * 9)
            add_to_tar(archive, "x/data/ILSVRC2012_validation_ground_truth.txt", b"1\n")
    elif harm == "meta that unpacks to much":
        packed = zlib.compress(bytes(2**26))
        with tarfile.open(devkit, "w:gz") as archive:
            add_to_tar(
                archive,
                "x/data/meta.mat",
                b"MATLAB 5.0".ljust(124) + b"\0\1IM" + struct.pack("<II", 15, len(packed)) + packed,
            )
            add_to_tar(archive, "x/data/ILSVRC2012_validation_ground_truth.txt", b"1\n")
    names = {"no archives": ARCHIVES[0], "unknown image": ARCHIVES[1]}
    is_devkit = harm.startswith(("no devkit", "unknown class", "class that", "damaged", "meta"))
    return names.get(harm, ARCHIVES[2] if is_devkit else ARCHIVES[0])


HARMS = (
    *("no archives", "no devkit", "swapped", "class archive cut", "cut", "hostile class", "hostile image", "no image"),
    *("unknown image", "unknown class", "class that leads out", "damaged meta", "meta that unpacks to much"),
)


@pytest.mark.parametrize("harm", HARMS)
def test_imagenet_archive_that_is_damaged_or_hostile_is_named(harm: str, imagenet: Path, tmp_path: Path) -> None:
    make_imagenet(imagenet)
    name = harm_imagenet(imagenet, harm)
    before = times(tmp_path)
    assert_refused(call("imagenet_1k"), name)
    work = imagenet.with_name(".ImageNet_1K.partial")
    after = {path for path in times(tmp_path) if not path.is_relative_to(work)}
    assert after == before.keys()


def test_imagenet_archive_with_all_images_but_another_checksum_is_refused(
    imagenet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import imagenet as published

    make_imagenet(imagenet)
    monkeypatch.setitem(imagenet_sources.IMAGENET_IMAGES, "train", 9)
    assert_refused(call("imagenet_1k"), ARCHIVES[0], "damaged", "1d675b47d978889d74fa0da5fadfb00e")
    sums = {
        split: (name, hashlib.md5((imagenet / name).read_bytes()).hexdigest())
        for split, (name, _) in published.ARCHIVE_META.items()
    }
    monkeypatch.setattr(published, "ARCHIVE_META", sums)
    assert "complete archive" not in make("imagenet_1k")

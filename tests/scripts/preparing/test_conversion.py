# SPDX-License-Identifier: Apache-2.0
"""scripts/preparing/conversion.py: images that are stored smaller, or turned upright as their camera noted."""

import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from preparing_runs import (
    CLASSES,
    assert_refused,
    call,
    images_of,
    interrupt_with_full_disk,
    make,
    make_source,
    run,
    smooth_photos,
)


@pytest.fixture
def photos() -> dict[str, bytes]:
    return smooth_photos()


def test_short_side_stores_larger_images_smaller_and_keeps_the_rest(tmp_path: Path, photos: dict[str, bytes]) -> None:
    source = make_source("zip", tmp_path, photos)
    assert run("folder", "--source", source, "--target", tmp_path / "P", "--short-side", "64").returncode == 0
    found = {name.partition("/")[2]: data for name, data in images_of(tmp_path / "P").items()}
    sizes = {"class0/0.jpg": (96, 64), "class1/1.png.jpg": (64, 218), "class0/4.bmp.jpg": (64, 64)}
    for name, size in sizes.items():
        with (
            Image.open(io.BytesIO(found[name])) as stored,
            Image.open(io.BytesIO(photos[name if name in photos else name.removesuffix(".jpg")])) as original,
        ):
            assert (stored.format, stored.mode, stored.size) == ("JPEG", "RGB", size)
            expected, again = original.convert("RGB").resize(size, Image.Resampling.BILINEAR), io.BytesIO()
            expected.save(again, "JPEG", quality=95)
            with Image.open(again) as pillow:
                assert stored.quantization == pillow.quantization  # the tables of quality 95
                difference = np.abs(np.asarray(stored, dtype=int) - np.asarray(pillow))
                assert difference.max() <= 8 and difference.mean() < 1
    kept = {"class0/2.jpg", "class1/3.JPEG", "class1/5.png"}
    assert found.keys() == sizes.keys() | kept
    assert all(found[name] == photos[name] for name in kept)


@pytest.mark.parametrize("data", [b"", b"no image", b"cut"])
def test_short_side_names_an_image_that_cannot_be_read(data: bytes, tmp_path: Path, photos: dict[str, bytes]) -> None:
    if data == b"cut":
        data = photos["class0/0.jpg"][:-300]
    source = make_source("zip", tmp_path, {**photos, "class0/bad.jpg": data})
    result = call("folder", "--source", source, "--target", tmp_path / "P", "--short-side", "64")
    assert_refused(result, source, "class0/bad.jpg")
    assert os.listdir(tmp_path) == [source.name]


def turned_photo(orientation: int, kind: str = "JPEG", size: tuple[int, int] = (96, 64)) -> bytes:
    """A picture that is dark on the left and green at the bottom, so that no two ways to turn it look the same."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8)).save(buffer, kind, exif=exif)
    return buffer.getvalue()


def upright(data: bytes) -> Image.Image:
    """As Pillow turns it."""
    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image.convert("RGB"))


def difference(stored: bytes, expected: Image.Image) -> np.ndarray:
    """In levels. The image must have the right size and no orientation."""
    with Image.open(io.BytesIO(stored)) as image:
        assert image.size == expected.size and 274 not in image.getexif()
        return np.abs(np.asarray(image.convert("RGB"), dtype=int) - np.asarray(expected))


@pytest.fixture(scope="module")
def phone() -> dict[str, bytes]:
    """Two classes of photos with every orientation and in several kinds."""
    files = {f"a/{number}.jpg": turned_photo(number) for number in range(1, 9)}
    files |= {
        "b/jfif.JFIF": turned_photo(6),
        "b/png.png": turned_photo(8, "PNG"),
        "b/webp.webp": turned_photo(3, "WEBP"),
    }
    files |= {"b/avif.avif": turned_photo(6, "AVIF"), "b/tiff.tif": turned_photo(6, "TIFF")}
    return files | {
        "b/plain.png": turned_photo(1, "PNG"),
        "b/cut.jpg": turned_photo(6)[:-200],
        "b/odd.jpg": b"no image",
    }


KEPT = {"a/1.jpg", "b/plain.png", "b/cut.jpg", "b/odd.jpg"}


def test_photos_are_turned_upright(tmp_path: Path, phone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["folder", "--source", make_source("zip", tmp_path, phone), "--target", tmp_path / "F"]
    interrupt_with_full_disk(monkeypatch, *arguments)
    output = make(*arguments)
    assert "continuing" in output
    found = {name.partition("/")[2]: data for name, data in images_of(tmp_path / "F").items()}
    assert {name: found.pop(name) for name in KEPT} == {name: phone[name] for name in KEPT}
    assert found.keys() == {
        *(f"a/{number}.jpg" for number in range(2, 9)),
        *("b/jfif.JFIF", "b/png.png", "b/webp.webp.jpg", "b/avif.avif.jpg", "b/tiff.tif.jpg"),
    }
    for name, data in found.items():
        off = difference(data, upright(phone.get(name) or phone[name.removesuffix(".jpg")]))
        assert off.max() <= 6 if "png" not in name else not off.any()
    with Image.open(io.BytesIO(found["a/6.jpg"])) as image, io.BytesIO() as again:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3  # colours as fine as brightness
        image.save(again, "JPEG", quality=95)
        with Image.open(again) as pillow:
            assert image.quantization == pillow.quantization
    assert "note: 12 photos were turned upright, as their camera noted" in output
    assert re.search(r"  line \d+: apply_orientation = True$", output, re.M)
    second = make(*arguments)
    assert "there already, nothing to do" in second
    assert second.splitlines()[1:] == output.splitlines()[2:]
    record = json.loads((tmp_path / "F/prepare_dataset.json").read_text())
    del record["turned"]  # as the version before had it
    (tmp_path / "F/prepare_dataset.json").write_text(json.dumps(record))
    advice = f"if there are any, rm -r {tmp_path / 'F'}, then the same command, makes it anew"
    assert f"there already, but made by a version that left photos on their side; {advice}" in make(*arguments)
    make(*arguments[:-1], tmp_path / "straight")
    assert images_of(tmp_path / "F") == images_of(tmp_path / "straight")


def test_short_side_turns_photos_upright(tmp_path: Path) -> None:
    photos = {f"train/{name}/1.jpg": turned_photo(6) for name in CLASSES}
    photos |= {f"valid/{name}/1.jpg": turned_photo(8, size=(48, 32)) for name in CLASSES}
    photos |= {"train/cat/2.png": turned_photo(5, "PNG"), "valid/cat/2.png": turned_photo(7, "PNG", size=(32, 60))}
    arguments = ["cifar10", "--source", make_source("tar", tmp_path, photos)]
    output = make(*arguments, "--target", tmp_path / "F", "--short-side", 32)
    found = images_of(tmp_path / "F")
    for name, data in photos.items():
        expected = upright(data)
        if is_longer := min(expected.size) > 32:
            expected = expected.resize([side // 2 for side in expected.size], Image.Resampling.BILINEAR)
        stored = found.pop(name + ".jpg" if name == "train/cat/2.png" else name)
        assert difference(stored, expected).max() <= (8 if is_longer else 6)
    assert not found
    assert "note: 22 photos were turned upright" in output and "apply_orientation = True" in output
    output = make(*arguments, "--target", tmp_path / "bytes")  # as others measured with
    assert images_of(tmp_path / "bytes") == photos
    assert "upright" not in output and "apply_orientation" not in output


@pytest.mark.parametrize("order", [1, -1])
def test_short_side_refuses_two_images_that_get_one_name(order: int, tmp_path: Path, photos: dict[str, bytes]) -> None:
    png, jpeg = photos["class1/1.png"], photos["class0/0.jpg"]
    files = {"train/a/1.png": png, "train/a/1.png.jpg": jpeg, "train/b/1.png": png}
    files |= {"valid/a/1.png": png, "valid/b/1.png": png}
    source = make_source("tar", tmp_path, dict(list(files.items())[::order]))
    arguments = ["folder", "--source", source, "--target", tmp_path / "F"]
    result = call(*arguments, "--short-side", 64)
    assert_refused(result, source, "a/1.png' and", "a/1.png.jpg' get the same name; rename one")
    make(*arguments)
    assert images_of(tmp_path / "F") == files

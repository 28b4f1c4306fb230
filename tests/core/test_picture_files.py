# SPDX-License-Identifier: Apache-2.0
"""The pictures that inference.py of a task takes apart."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from task_projects import load_config

from core.picture_files import class_colours, ink_on, read_pictures
from segmentation.inference import load_unless_long
from utils import describe_error

CONFIG = SimpleNamespace(exp_name="Run", inference_image_path="", image_size=64, data_dir="")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photos/, with one upright, one on its side, one that is none, one 10 times as wide as high, and a text."""
    monkeypatch.chdir(tmp_path)
    folder = Path("photos")
    folder.mkdir()
    Image.new("RGB", (40, 30), "red").save(folder / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    Image.new("RGB", (40, 30), "red").save(folder / "b.jpg", exif=exif)
    (folder / "c.jpg").write_bytes(b"")
    Image.new("RGB", (40, 4), "red").save(folder / "d.png")
    (folder / "notes.txt").touch()
    return folder


def test_a_folder_is_read_to_its_end(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be read is named at the end, and what is on its side at once."""
    pictures = read_pictures([str(photos)], CONFIG, "boxes", describe_error)
    for stem, suffix, shape in (("a", "png", (30, 40, 3)), ("b", "jpg", (30, 40, 3)), ("d", "png", (4, 40, 3))):
        name, image, target = next(pictures)
        assert (name, image.shape) == (f"photos/{stem}.{suffix}", shape)
        assert target == Path(f"results/Run/{stem}_boxes.png")
    with pytest.raises(SystemExit, match="^1$"):
        next(pictures)
    assert capsys.readouterr().err == (
        "photos: left out 1 .txt\n"
        "photos/b.jpg: stored on its side (camera orientation 6), taken as stored; save it upright\n"
        "1 of 4 pictures could not be read:\n"
        "photos/c.jpg: not a readable image (0 bytes); replace or remove the file\n"
    )


def test_a_single_picture_that_cannot_be_read_is_an_error(photos: Path) -> None:
    with pytest.raises(ValueError, match=r"^photos/c.jpg: not a readable image"):
        next(read_pictures(["photos/c.jpg"], CONFIG, "boxes", describe_error))


def test_what_is_not_there_is_named_after_the_rest(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As what cannot be read is; alone it is an error."""
    Path("empty").mkdir()
    pictures = read_pictures(["gone.png", "empty", "photos/a.jpg", "photos/a.png"], CONFIG, "boxes", describe_error)
    assert [name for name, _, _ in until_exit(pictures)] == ["photos/a.png"]
    summary, gone, empty, rival = capsys.readouterr().err.splitlines()
    assert summary == "3 of 4 pictures could not be read:"
    assert rival.startswith("photos/a.jpg: no such image or folder (")  # though it would be drawn in the place of a.png
    assert gone == f"gone.png: no such image or folder (looked for at {Path('gone.png').absolute()})"
    assert empty.startswith("empty: no images in this folder (.apng, ")
    with pytest.raises(FileNotFoundError, match="^gone.png: no such image or folder$"):
        next(read_pictures(["gone.png"], CONFIG, "boxes", describe_error))


def until_exit(pictures: Iterator[tuple[str, np.ndarray, Path]]) -> Iterator[tuple[str, np.ndarray, Path]]:
    """The pictures before the exit with status 1."""
    with pytest.raises(SystemExit, match="^1$"):
        yield from pictures


def test_a_picture_that_would_be_huge_is_named_with_the_unreadable(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = read_pictures(["photos/d.png", "photos/a.png"], CONFIG, "classes", describe_error, load_unless_long)
    assert next(pictures)[0] == "photos/a.png"
    with pytest.raises(SystemExit, match="^1$"):
        next(pictures)
    assert "photos/d.png: 40 x 4 pixels; one side is over 8 times the other; cut" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_scenes_of_digits_do_not_stand_for_photos(task: str, tmp_path: Path) -> None:
    """Weights of a folder of photos know nothing of them."""
    config = load_config(tmp_path / "config.py", task, {"data_dir": "photos"})
    with pytest.raises(ValueError, match="^no picture named: give one after inference.py, or as inference_image_path"):
        next(read_pictures([], config, "boxes", describe_error))
    config = load_config(tmp_path / "config.py", task, {})
    assert next(read_pictures([], config, "boxes", describe_error))[0] == "scene 0 of the test scenes"


def test_no_two_classes_have_one_colour() -> None:
    """OpenCV has 180 hues; a file of COCO can have more classes, and ImageNet has 1,000."""
    counts = [*range(1, 400), 500, 999, 1000]
    assert [len(np.unique(class_colours(count), axis=0)) for count in counts] == counts
    assert class_colours(2).tolist() == [[0, 255, 0], [0, 0, 255]]
    assert (class_colours(1000).max(axis=1) == 255).all()  # of full brightness, all


@pytest.mark.parametrize(
    ("colour", "grey"), [("0000FF", 255), ("FFFF00", 0), ("00FF00", 0), ("757575", 255), ("767676", 0)]
)
def test_names_are_in_what_stands_out_more(colour: str, grey: int) -> None:
    """Contrast with white as tables of WCAG have it: 8.6, 1.1, 1.4, 4.61 and 4.54; that with black is 21 over it."""
    assert ink_on(bytes.fromhex(colour)) == (grey,) * 3

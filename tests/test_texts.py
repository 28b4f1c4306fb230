# SPDX-License-Identifier: Apache-2.0
"""README.md, docs/ and the other texts: what they name is there, and says what they say of it."""

import ast
import functools
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from task_projects import load_config

from core.settings import Rules, check_config
from detection.settings import RULES as DETECTION_RULES
from downloading.published import CHECKPOINTS, MEASURED_BY_KERAS, published_table, published_weights
from downloading.records import ENDING
from measuring.chart import PICTURE, draw_chart, fingerprint, read_measurements, speed_table
from segmentation.settings import RULES as SEGMENTATION_RULES

TEXTS = [
    *("README.md", "CONTRIBUTING.md", "data/README.md", "findings/README.md"),
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    *("examples/README.md", "examples/android/README.md", "examples/ios/README.md"),
]
TASKS = ("detection", "segmentation")
FOLDERS = ("core", *TASKS, "docs", "examples", "figure", "findings", "scripts", "tests", r"\.github", r"\.ci")
PYTHON_FILES = [path for folder in (".", "core", *TASKS, "scripts") for path in (ROOT / folder).glob("*.py")]


def prose(name: str) -> str:
    """A text with all its words on one line, so that it may break anywhere."""
    return " ".join((ROOT / name).read_text().split())


def anchors(path: Path) -> set[str]:
    """What links can name in a text: its titles in small letters without punctuation, a hyphen for each space."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@functools.cache
def defined_names(path: Path) -> set[str]:
    """Functions, classes, and the constants at the top."""
    text = path.read_text()
    return set(re.findall(r"^(?: *(?:def|class) )?(\w+)(?:\(|:| = )", text, re.MULTILINE))


def test_readme_is_read_in_five_minutes() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 190
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", TEXTS)
def test_every_line_of_config_holds_the_name_beside_it(name: str) -> None:
    config_lines = (ROOT / "config.py").read_text().splitlines()
    for number, word in re.findall(r"[Ll]ine (\d+)(?:[:,]? `|: )(\w+)(?:`| =)", prose(name)):
        assert re.match(rf" *{word} = ", config_lines[int(number) - 1]), f"line {number}: {word}"


@pytest.mark.parametrize("name", TEXTS)
def test_every_value_is_one_of_a_name_of_config(name: str) -> None:
    known = set(re.findall(r"^ *(\w+) = ", (ROOT / "config.py").read_text(), re.MULTILINE))
    assert set(re.findall(r"`(\w+) = [^`]+`", prose(name))) <= known


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_to_a_file_and_a_title_in_it(name: str) -> None:
    path = ROOT / name
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if not link.startswith("https://"):
            file, _, anchor = link.partition("#")
            target = path.parent / file if file else path
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("name", TEXTS)
def test_every_file_that_is_named_exists(name: str) -> None:
    text = prose(name)
    for file in re.findall(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w", text):
        assert (ROOT / file).exists(), file
    at_the_top = {path.name for path in ROOT.iterdir()} | {path.name for path in PYTHON_FILES}
    assert set(re.findall(r"(?<![\w./-])[\w-]+\.py\b", text)) <= at_the_top


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_that_is_named_exists(name: str) -> None:
    text = prose(name)
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:`|\$ )make (\w+)", text)) <= set(targets[1].split())
    for script in re.findall(r"(?:python3?|bash) ((?!-)[\w./-]+\.(?:py|sh))", text):
        assert (ROOT / script).is_file(), script
    for script, options in re.findall(r"scripts/(\w+)\.py((?: [^ `$]+)*?(?: --[\w-]+))", text):
        source = (ROOT / f"scripts/{script}.py").read_text()
        for option in re.findall(r" (--[\w-]+)", options):
            assert option in source, f"{script}.py {option}"


@pytest.mark.parametrize("name", TEXTS)
def test_every_test_that_is_named_exists(name: str) -> None:
    tests = set().union(*(defined_names(path) for path in (ROOT / "tests").rglob("test_*.py")))
    assert {
        word for word in re.findall(r"`(test_\w+)`", prose(name)) if word not in ("test_image_dir", "test_split")
    } <= tests


def test_code_map_has_every_file_and_what_answers_each_question() -> None:
    text = (ROOT / "docs/code.md").read_text()
    linked = set(re.findall(r"\]\(\.\./([\w/]+\.py)\)", text))
    folders = [ROOT, *(ROOT / name for name in ("core", *TASKS))]
    files = {f"{path.relative_to(ROOT)}" for folder in folders for path in folder.glob("*.py")}
    assert linked == {file for file in files if not file.endswith("__init__.py")}
    for file, answer in re.findall(r"^\|[^|]+\? \| ([\w/.]+), ([^|]+) \|$", text, re.MULTILINE):
        assert set(re.findall(r"`(\w+)`", answer)) <= defined_names(ROOT / file), answer


@pytest.mark.parametrize(("task", "rules"), [("detection", DETECTION_RULES), ("segmentation", SEGMENTATION_RULES)])
def test_settings_for_photos_are_lines_of_the_config_of_the_task(task: str, rules: Rules, tmp_path: Path) -> None:
    block = (ROOT / f"docs/{task}.md").read_text().split("## Your own photos")[1].split("```")[1]
    values = {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(block).body}
    config = load_config(tmp_path / "config.py", task, values | {"device": "cpu"})
    check_config(config, "train", rules)
    published = published_weights()["v1"]
    assert {name: value for name, value in published.use().items() if name != "image_size"}.items() <= values.items()
    path = f"results/pretrained_models/{published.target_start}-{published.hash_start}{ENDING}"
    assert values["pretrained_model_weights_path"] == path


def test_index_has_every_page() -> None:
    linked = re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs/README.md").read_text())
    assert sorted(linked) == sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name != "README.md")


def test_table_of_findings_has_each_once() -> None:
    linked = re.findall(r"^\| \[([\w.]+)\]\(\1\) \|", (ROOT / "findings/README.md").read_text(), re.MULTILINE)
    assert linked == sorted(path.name for path in (ROOT / "findings").glob("*.sh"))


def test_table_of_speeds_is_that_of_the_measurements() -> None:
    assert f"\n\n{speed_table(read_measurements())}\n\n" in (ROOT / "docs/speed.md").read_text()


def test_table_of_published_weights_is_that_of_the_program() -> None:
    assert f"\n\n{published_table()}\n\n" in (ROOT / "docs/published.md").read_text()


def test_figures_of_keras_stand_beside_those_of_the_authors() -> None:
    text = (ROOT / "docs/published.md").read_text()
    for width, _, _, _, *authors in (row for row in CHECKPOINTS if row[1] == 224):
        figures = [f"{width}", *map(str, authors), *(f"{value:.3f}" for value in MEASURED_BY_KERAS[width])]
        assert re.search(r"\| +" + r" \| +".join(map(re.escape, figures)) + r" \|", text), width


def test_picture_of_speeds_is_that_of_the_measurements() -> None:
    with Image.open(PICTURE) as picture:
        assert picture.text["measurements"] == fingerprint()
        kept = np.asarray(picture.convert("RGB"), dtype=int)
    drawn = np.asarray(draw_chart(read_measurements()), dtype=int)
    assert np.abs(kept - drawn).mean() < 1  # other versions of Pillow and the 32 colours of the file smooth otherwise


def test_speeds_in_readme_are_among_the_measurements() -> None:
    section = prose("README.md").split("## Speed ")[1].split("## ")[0]
    figures = re.findall(r"\d+\.\d+", section)
    measured = " ".join(" ".join(row.values()) for row in read_measurements())
    assert len(figures) >= 6
    assert set(figures) <= set(re.findall(r"\d+\.\d+", measured))

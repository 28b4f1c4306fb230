# SPDX-License-Identifier: Apache-2.0
"""scripts/report.py as users run it, after test.py, and on files with odd names; the page in a parser and a browser."""

import base64
import html.parser
import io
import json
import os
import re
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from command_runs import STARTER
from conftest import ROOT, Project, ready_interpreter
from headless_browser import Browser, is_installed
from PIL import Image
from prediction_files import write_predictions, write_test_json

from imgproc import eval_transform
from reporting.markup import VOID

NAME = "MobileNetV2-Colours"


class Reporting:
    """A project with its scripts."""

    def __init__(self, project: Project) -> None:
        self.project, self.results = project, project.root / "results" / NAME
        shutil.copytree(ROOT / "scripts", project.root / "scripts", dirs_exist_ok=True)

    def run(self, *arguments: str, **environment: str) -> CompletedProcess:
        words = [str(STARTER), str(self.project.root / "scripts/report.py"), *arguments]
        return ready_interpreter().run(words, self.project.root, self.project.environment("train") | environment)

    def run_well(self, **environment: str) -> str:
        done = self.run(**environment)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout

    def refusal(self) -> str:
        """The one line of a run that must be refused; an earlier report stays."""
        before = self.project.snapshot()
        done = self.run()
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stdout + done.stderr
        assert self.project.snapshot() == before
        return done.stderr.strip()

    @property
    def page(self) -> Path:
        return self.results / "report.html"


class Page(html.parser.HTMLParser):
    """What a page holds; its elements must be closed in the order they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []  # element, attribute, value
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.opened == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.opened:
            self.text.append(data.strip())

    def values(self, tag: str, attribute: str) -> list[str]:
        return [value for name, key, value in self.attributes if (name, key) == (tag, attribute)]

    def elements(self) -> set[str]:
        return {tag for tag, _, _ in self.attributes}

    def addresses(self) -> list[str]:
        return [value for _, name, value in self.attributes if name in ("src", "href", "xlink:href", "srcset", "data")]


@pytest.fixture(scope="module")
def reported(trained_project: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Reporting, str, str]:
    """After test.py at a size with 2 x 2 places, what that printed, and what report.py did."""
    project = trained_project.copy_to(tmp_path_factory.mktemp("reported") / "project")
    project.set(image_size=64, precision="float32")
    tested = project.run_well("test.py", mode="test")
    reporting = Reporting(project)
    return reporting, tested, reporting.run_well()


MARKED, EVIL = '<b>&"', "<script>alert(1)</script>"
ODD_FILES = ["pictures/\udcff.png", "pictures/<img src=x onerror=alert(2)>.png", "pictures/gone.png"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reporting, str]:
    """Classes and files whose names are HTML or no text at all; no weights, a missing image, a damaged log."""
    project = Project(tmp_path_factory.mktemp("odd"))
    (project.root / "pictures").mkdir()
    for file in ODD_FILES[:2]:
        shutil.copy(project.root / "data/Colours/valid/red/000.png", project.root / file)
    rows = [
        (ODD_FILES[0], MARKED, [(EVIL, 0.9), (MARKED, 0.1)]),
        (ODD_FILES[1], EVIL, [(EVIL, 0.6), (MARKED, 0.4)]),
        (ODD_FILES[2], MARKED, [(EVIL, 0.8), (MARKED, 0.2)]),
    ]
    reporting = Reporting(project)
    write_predictions(reporting.results / "predictions.csv", rows)
    write_test_json(reporting.results / "test.json", rows, data="javascript:alert(3)", weights="a\x1b[31m.pth")
    logs = project.root / "samples/logs" / NAME
    logs.mkdir(parents=True)
    (logs / "events.out.tfevents.1.<i>").write_bytes(b"no log")
    return reporting, reporting.run_well()


def test_figures_are_those_of_test(reported: tuple[Reporting, str, str]) -> None:
    reporting, tested, printed = reported
    acc1 = re.search(r"Acc@1 (\d+\.\d{3})", tested.splitlines()[-1])[1]
    *notes, path, summary = printed.splitlines()
    assert notes == [line for line in notes if "was trained with image_size = 32" in line]
    size = reporting.page.stat().st_size
    assert path == f"results/{NAME}/report.html: {size / 1e6:.1f} MB; open it in a browser."
    assert summary.startswith(f" * Acc@1 {acc1}, 95 % interval ")
    assert summary.endswith(" (15 images)")
    text = Page(reporting.page.read_text()).text
    assert f"{float(acc1):.2f} %" in text
    assert {"red", "green", "blue", "15 of 3 classes", "./data/Colours/valid"} <= set(text)
    assert "top-5 accuracy" not in text  # of three classes


def test_pictures_are_what_the_network_saw_with_its_map(reported: tuple[Reporting, str, str]) -> None:
    reporting, *_ = reported
    page = Page(reporting.page.read_text())
    pictures = dict(zip(page.values("img", "alt"), page.values("img", "src"), strict=True))
    plain = {alt: source for alt, source in pictures.items() if not alt.startswith("Activation map of ")}
    assert {f"Activation map of {alt}" for alt in plain} == pictures.keys() - plain.keys()
    assert len(plain) >= 12
    assert any("It has 2 x 2 places" in text for text in page.text)
    for alt, source in plain.items():
        file = reporting.project.root / alt.partition(": ")[0]
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
            shown = np.asarray(picture, dtype=int)
        expected = eval_transform(np.array(Image.open(file).convert("RGB")), 64).astype(int)
        assert np.abs(shown - expected).mean() < 6  # JPEG, of noise


def test_curves_of_the_training_are_there(reported: tuple[Reporting, str, str]) -> None:
    labels = Page(reported[0].page.read_text()).values("svg", "aria-label")
    for title in ("Loss (nats)", "Acc@1 (%)"):
        assert any(re.fullmatch(rf"{re.escape(title)} over .*Train: .*, Valid: .*", label) for label in labels)
    assert any(label.startswith("Learning rate over") for label in labels)


@pytest.mark.parametrize("which", ["reported", "odd"])
def test_page_needs_nothing_from_outside(which: str, request: pytest.FixtureRequest) -> None:
    page = Page(request.getfixturevalue(which)[0].page.read_text())
    assert page.addresses()
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses())
    assert not page.elements() & {"script", "link", "iframe", "object", "a", "b:script"}
    assert "url(" not in (ROOT / "scripts/reporting/style.css").read_text()


def test_names_are_shown_and_do_nothing(odd: tuple[Reporting, str]) -> None:
    text = odd[0].page.read_text()
    page = Page(text)
    assert {MARKED, EVIL} <= set(page.text)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "<script" not in text and "<i>" not in text and "\x1b" not in text
    assert r"pictures/\udcff.png" in page.text
    assert len(page.values("img", "src")) == 3  # one of the two pictures is also a doubtful label


def test_what_is_missing_is_named_and_the_rest_is_drawn(odd: tuple[Reporting, str]) -> None:
    reporting, printed = odd
    weights, images, log, *_ = printed.splitlines()
    assert weights.startswith("There are no activation maps, for the weights cannot be used: a\\x1b[31m.pth: ")
    assert images == "1 of the 3 images to show cannot be read: pictures/gone.png: No such file or directory"
    assert "events.out.tfevents.1.<i>: damaged or cut off after 0 of 6 bytes" in log
    assert "cannot be read" in Page(reporting.page.read_text()).text  # in its place


def test_another_experiment_is_named_by_the_environment(odd: tuple[Reporting, str], tmp_path: Path) -> None:
    reporting = Reporting(odd[0].project.copy_to(tmp_path / "project"))
    reporting.results.rename(reporting.results.with_name("other"))
    assert "\nresults/other/report.html: " in reporting.run_well(EXP_NAME="other")


def test_changed_weights_and_changed_images_are_told(reported: tuple[Reporting, str, str], tmp_path: Path) -> None:
    reporting = Reporting(reported[0].project.copy_to(tmp_path / "project"))
    levels = np.random.default_rng(0).integers(0, 256, (15, 1, 1, 3), np.uint8)  # other colours, and in other classes
    for file, colour in zip(
        sorted((reporting.project.root / "data/Colours/valid").glob("*/*.png")), levels, strict=True
    ):
        Image.fromarray(np.tile(colour, (30, 36, 1))).save(file)
    printed = reporting.run_well()
    assert "images to show get another answer now than predictions.csv has" in printed
    assert "images or config.py have changed since; run `python3 test.py` again" in printed
    measured = reporting.results / "test.json"
    measured.write_text(json.dumps(json.loads(measured.read_text()) | {"precision": "bfloat16"}))
    assert "test.py computed in bfloat16, the maps are computed in float32" in reporting.run_well()
    with open(reporting.results / "best.pth.tar", "ab") as weights:
        weights.write(b"\0")
    assert f"results/{NAME}/best.pth.tar has changed since test.py scored it" in reporting.run_well()


def test_without_the_files_of_test_there_is_no_report(odd: tuple[Reporting, str], tmp_path: Path) -> None:
    reporting = Reporting(odd[0].project.copy_to(tmp_path / "project"))
    (reporting.results / "test.json").unlink()
    assert reporting.refusal().startswith(f"results/{NAME}/test.json: not there; run `python3 test.py`")
    (reporting.results / "predictions.csv").write_bytes(b"file,true_class\n")
    assert reporting.refusal().startswith(f"results/{NAME}/predictions.csv: its columns are not those")
    (reporting.results / "predictions.csv").unlink()
    assert reporting.refusal().startswith(f"results/{NAME}/predictions.csv: not there; run `python3 test.py` first")
    done = reporting.run("results")
    assert (done.returncode, done.stderr) == (2, "report.py: unrecognized arguments: results\n")


def test_many_classes_are_listed_and_their_pairs_too(tmp_path: Path) -> None:
    """1,000 classes of 2 images each, of which one is taken for the next class."""
    names = [f"n{number:04}" for number in range(1000)]
    rows = [(f"{k}.png", names[k // 2], [(names[(k // 2 + k % 2) % 1000], 0.9), ("n0000", 0.1)]) for k in range(2000)]
    project = Project(tmp_path)
    reporting = Reporting(project)
    write_predictions(reporting.results / "predictions.csv", rows)
    write_test_json(reporting.results / "test.json", rows)
    assert " * Acc@1 50.000 Acc@5 " in reporting.run_well()
    page = Page(reporting.page.read_text())
    assert set(names) <= set(page.text)
    assert (
        "1,000 pairs of a true and a predicted class were confused; these are the 100 most frequent of them."
        in page.text
    )
    assert os.path.getsize(reporting.page) < 2e6


@pytest.mark.skipif(
    not is_installed(), reason="the browser is not installed; `make browser` does it where there is npm"
)
def test_page_opens_in_a_browser(reported: tuple[Reporting, str, str], odd: tuple[Reporting, str]) -> None:
    browser = Browser()
    try:
        for reporting in (reported[0], odd[0]):
            address = reporting.page.as_uri()
            browser.ask("requests")
            browser.ask("open", address)
            widths = browser.ask("evaluate", "[...document.images].map((image) => image.naturalWidth)")
            assert widths and min(widths) > 0
            assert browser.ask("troubles") == []
            requests = browser.ask("requests")
            assert [one for one in requests if not one.startswith("data:")] == [address]
            wide = browser.ask("evaluate", "document.documentElement.scrollWidth <= window.innerWidth")
            assert wide  # only tables scroll sideways
    finally:
        browser.close()

# SPDX-License-Identifier: Apache-2.0
"""examples/web in a headless Chromium: the answers of inference.py, without a network, from a camera."""

import functools
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from exported_network import MOST_LEVELS, Answers, assert_same_answers, create_exports, expected_square
from headless_browser import Browser, is_installed

PAGE = ROOT / "examples/web"
pytestmark = pytest.mark.skipif(
    not (is_installed() and (PAGE / "node_modules").is_dir()),
    reason="the browser is not installed; `make browser` does it where there is npm",
)
READY = "document.querySelector('#status').textContent === 'Ready, also without a network.'"
ANSWERED = "document.querySelectorAll('#answers li').length === 5"
FAILED = "!document.querySelector('#error').hidden"
READ_ANSWERS = """[...document.querySelectorAll('#answers li')].map(
    ({children: [label, share]}) => [label.textContent.trim(), parseFloat(share.textContent)])"""


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder, without a line on stderr for each."""

    def log_message(self, *_: object) -> None:
        pass


class Site:
    """The page with an exported file, and a browser to look at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        exports = create_exports()
        shutil.copytree(PAGE, folder, ignore=shutil.ignore_patterns("node_modules"))
        (folder / "node_modules").symlink_to(PAGE / "node_modules")
        for path in (exports.float_file, exports.float_file.with_suffix(".json"), *exports.pictures):
            shutil.copy(path, folder)
        self.server, self.address = None, ("127.0.0.1", 0)
        self.serve()
        self.browser = Browser()
        self.ask = self.browser.ask

    def serve(self) -> None:
        self.server = ThreadingHTTPServer(self.address, functools.partial(Handler, directory=str(self.folder)))
        self.address = self.server.server_address
        threading.Thread(target=self.server.serve_forever, args=(0.01,)).start()

    def stop_serving(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def close(self) -> None:
        self.browser.close()
        self.stop_serving()

    def open(self, query: str = "", until: str = READY) -> None:
        self.ask("open", f"http://127.0.0.1:{self.address[1]}/{query}")
        self.ask("wait", until)

    def answers(self, picture: Path) -> Answers:
        """What the page answers to a picture that is chosen there."""
        self.ask("evaluate", "document.querySelector('#answers').replaceChildren()")
        self.ask("upload", picture)
        self.ask("wait", ANSWERED)
        return [(label, share) for label, share in self.ask("evaluate", READ_ANSWERS)]

    def error(self) -> str:
        return self.ask("evaluate", "document.querySelector('#error').textContent")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site") / "web")
    yield site
    site.close()


@pytest.fixture(scope="module")
def expected() -> dict[str, Answers]:
    return create_exports().answers_of_inference(image_size=96, apply_orientation=True)


def test_pictures_are_answered_as_by_inference(site: Site, expected: dict[str, Answers]) -> None:
    site.open()
    for picture in create_exports().pictures:
        assert_same_answers(site.answers(picture), expected[picture.name])
        assert " ms for the network, " in site.ask("evaluate", "document.querySelector('#status').textContent")
    assert site.ask("troubles") == []


@pytest.mark.parametrize("apply_orientation", [False, True])
def test_pixels_are_those_of_the_program(site: Site, apply_orientation: bool) -> None:
    site.open()
    for size in (97, 224):
        taken = {"image_size": size, "resize": {"short_side": round(size / 0.875)}}
        taken["apply_orientation"] = apply_orientation
        for picture in create_exports().pictures:
            code = f"""(async () => {{
                const {{ centralSquare, decode, readPixels }} = await import("./picture.js");
                const taken = {json.dumps(taken)};
                const picture = await decode(await (await fetch("{picture.name}")).blob(), taken);
                return Array.from(centralSquare(readPixels(picture, picture.width, picture.height), taken));
            }})()"""
            levels = np.array(site.ask("evaluate", code)).reshape(size, size, 3)
            assert np.abs(levels - expected_square(picture, size, apply_orientation)).max() <= MOST_LEVELS


def test_works_without_a_network_after_the_first_time(site: Site, expected: dict[str, Answers]) -> None:
    site.open()
    site.stop_serving()
    try:
        for query in ("", "index.html"):
            site.open(query)
            assert_same_answers(site.answers(site.folder / "photo.jpg"), expected["photo.jpg"])
    finally:
        site.serve()
        site.ask("troubles")  # of the server that was not there


def test_camera_is_answered_until_it_is_stopped(site: Site, expected: dict[str, Answers]) -> None:
    site.open()
    site.ask("evaluate", "document.querySelector('#camera').click()")
    site.ask("wait", ANSWERED)
    assert site.ask("evaluate", "document.querySelector('video').videoWidth") > 0
    site.ask("evaluate", "document.querySelector('#camera').click()")
    site.ask("wait", "document.querySelector('video').hidden")
    site.ask("evaluate", "document.querySelector('#camera').click()")
    site.ask("wait", "!document.querySelector('video').hidden")
    site.ask("upload", site.folder / "small.png")  # stops it as well
    site.ask("wait", "!document.querySelector('#shown').hidden && document.querySelector('video').hidden")
    assert_same_answers(site.answers(site.folder / "photo.jpg"), expected["photo.jpg"])
    assert site.ask("troubles") == []


def test_what_is_no_picture_is_said(site: Site, expected: dict[str, Answers]) -> None:
    site.open()
    site.ask("upload", site.folder / "classify.js")
    site.ask("wait", FAILED)
    assert site.error() == "classify.js is not a picture that this browser can read"
    assert_same_answers(site.answers(site.folder / "photo.jpg"), expected["photo.jpg"])
    assert site.error() == ""


def test_files_that_do_not_fit_are_refused(site: Site) -> None:
    model = site.folder / "mobilenet_v2-onnx.onnx"
    described = json.loads(model.with_suffix(".json").read_text())
    (site.folder / "int8.json").write_text(json.dumps(described | {"int8": "post-training"}))
    (site.folder / "other.json").write_text(json.dumps(described | {"files": {"other.onnx": "0" * 64}}))
    shutil.copy(model, site.folder / "other.onnx")
    (site.folder / "pte.json").write_text(json.dumps(described | {"format": "executorch"}))
    for query, message in {
        "?model=int8": "int8 is int8, which is slower than float in a browser: export it without --int8",
        "?model=other": "other.onnx is not the file of its description: copy both again",
        "?model=pte": "pte.json is not what `scripts/export.py onnx` writes",
        "?model=gone": "gone.json is missing: copy it and gone.onnx here from results/.../export",
        "?model=../web/int8": "?model= takes the name of a file beside this page, without .onnx",
    }.items():
        site.open(query, FAILED)
        assert site.error() == message
    site.ask("troubles")

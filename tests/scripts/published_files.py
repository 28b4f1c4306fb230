# SPDX-License-Identifier: Apache-2.0
"""A server on this machine in place of the published addresses, and download_weights.py with folders of its own."""

import contextlib
import dataclasses
import hashlib
import io
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision.models import MobileNet_V2_Weights

import download_weights
import utils
from downloading import published

V1, V2 = MobileNet_V2_Weights.IMAGENET1K_V1, MobileNet_V2_Weights.IMAGENET1K_V2


class Handler(BaseHTTPRequestHandler):
    """Answers by the first folder of the path."""

    def do_GET(self) -> None:
        content = self.server.content
        kind = self.path.split("/")[1]
        if kind.isdecimal():
            self.send_error(int(kind))
            return
        if kind == "garbled":
            self.wfile.write(b"nonsense\r\n\r\n")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client that gives up
            self.wfile.write({"good": content, "cut": content[:-5000], "wrong": content[:-1] + b"?"}[kind])

    def log_message(self, *arguments: object) -> None:
        """Nothing on stderr."""


@contextlib.contextmanager
def serving(content: bytes) -> Iterator[str]:
    """The address of a server on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content = content
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def saved(weights: dict[str, torch.Tensor]) -> bytes:
    """What torch.save() writes."""
    file = io.BytesIO()
    torch.save(weights, file)
    return file.getvalue()


class Runner:
    """Calls the script's main() as the command line does, with folders of its own for everything it writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, root: Path, content: bytes):
        self.monkeypatch, self.capsys, self.root = monkeypatch, capsys, root
        self.hash = hashlib.sha256(content).hexdigest()
        self.file_name = f"mobilenet_v2-{self.hash[:8]}.pth"
        self.folder = root / "results/pretrained_models"
        self.target = self.folder / f"MobileNetV2-ImageNet_1K-{self.hash[:8]}.pth.tar"
        self.by_hand = self.folder / self.file_name
        self.cached = root / "torch_home/hub/checkpoints" / self.file_name
        (root / "temporary").mkdir()
        monkeypatch.setattr(download_weights, "REPOSITORY", root)
        monkeypatch.setattr(download_weights, "FOLDER", self.folder)
        monkeypatch.setattr(tempfile, "tempdir", str(root / "temporary"))
        monkeypatch.setenv("TORCH_HOME", str(root / "torch_home"))
        monkeypatch.setenv("KERAS_HOME", str(root / "keras_home"))
        for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        self.publish("http://127.0.0.1:1")
        self.publish_others("http://127.0.0.1:1")

    def publish(self, address: str, version: MobileNet_V2_Weights = V1) -> None:
        """Let torchvision's registry say that the weights are at this address."""
        self.url = f"{address}/{self.file_name}"
        self.monkeypatch.setattr(version, "_value_", dataclasses.replace(version.value, url=self.url))

    def publish_others(self, address: str) -> None:
        """Let Keras' files and timm's lie at this address."""
        self.monkeypatch.setattr(published, "KERAS_FOLDER", address)
        self.monkeypatch.setattr(published, "TIMM_FOLDER", address)

    def run(self, *words: str) -> str:
        """Returns what was printed."""
        self.monkeypatch.setattr(sys, "argv", ["download_weights.py", *words])
        with utils.user_errors():
            download_weights.main()
        return self.capsys.readouterr().out

    def refusal(self, *words: str) -> str:
        """The one line of an error; no file and no folder is left behind."""
        before = sorted(self.root.rglob("*"))
        with pytest.raises(SystemExit) as caught:
            self.run(*words)
        line = self.capsys.readouterr().err
        assert caught.value.code == 2
        assert line.count("\n") == 1
        assert sorted(self.root.rglob("*")) == before
        return line

# SPDX-License-Identifier: Apache-2.0
"""scripts/preparing/downloads.py, with a server on this machine in place of the published addresses."""

import hashlib
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_runs import ENVIRONMENT
from preparing_runs import assert_refused, call, caltech_files, images_of, run, tar_of

from preparing import downloads, work_folder


def test_download_without_a_network_says_what_to_fetch(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and no listen(): every connection is refused
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
        environment = {name: value for name, value in ENVIRONMENT.items() if not name.lower().endswith("_proxy")}
        environment |= {"http_proxy": proxy, "https_proxy": proxy}
        result = run("cifar10", "--target", tmp_path / "out" / "CIFAR10", environment=environment)
    assert_refused(result, "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "--source cifar-10-python.tar.gz")
    assert os.listdir(tmp_path) == []


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one file and counts the requests for it."""

    data, requests = b"", 0

    def do_GET(self) -> None:
        type(self).requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()
        self.wfile.write(self.data)

    do_HEAD = do_GET  # torchvision looks for redirections first

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serves a small 256_ObjectCategories.tar in place of the published one."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    files = caltech_files("256_ObjectCategories", ("001.ak47", "056.dog"), 5)
    monkeypatch.setattr(Server, "data", tar_of(files))
    monkeypatch.setattr(Server, "requests", 0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{listening.server_port}/256_ObjectCategories.tar"
        md5 = hashlib.md5(Server.data).hexdigest()
        monkeypatch.setitem(downloads.FIXED, "caltech256", downloads.Download((url,), md5))
        yield url
        listening.shutdown()
        thread.join()


def test_download_is_checked_kept_over_an_interruption_and_removed(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt = monkeypatch.context()
    with interrupt as patch:
        patch.setattr(work_folder, "write_sample", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert call("caltech256", "--target", tmp_path / "C").returncode == 130
    requests = Server.requests
    assert requests > 0
    result = call("caltech256", "--target", tmp_path / "C")
    assert result.returncode == 0, result.stderr
    assert Server.requests == requests
    assert sorted(images_of(tmp_path / "C").values()) == sorted(
        caltech_files("256_ObjectCategories", ("001.ak47", "056.dog"), 5).values()
    )
    assert os.listdir(tmp_path) == ["C"]


def test_download_with_another_checksum_is_refused(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "data", Server.data[:-1] + b"x")
    result = call("caltech256", "--target", tmp_path / "C")
    assert result.returncode == 2 and not (tmp_path / "C").exists()
    assert f"cannot download {server}" in result.stderr and "--source 256_ObjectCategories.tar" in result.stderr

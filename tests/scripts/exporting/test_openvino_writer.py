# SPDX-License-Identifier: Apache-2.0
"""exporting/openvino_writer.py: what OpenVINO says of the files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from export_requests import DESCRIPTION, normalised, pictures, request_for, trained_network

from core.runtimes import open_openvino, stop_telemetry
from exporting.openvino_writer import count_int8, write
from exporting.requests import LEVEL_INPUT, POST_TRAINING
from model import TENSORFLOW


@pytest.fixture(scope="session")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("float")
    return write(request_for(trained_network(TENSORFLOW), folder, "openvino", input=LEVEL_INPUT, softmax=True))


@torch.no_grad()
def test_float_file_computes_the_network(float_file: Path) -> None:
    levels = pictures(3, 64, seed=1)
    expected = trained_network(TENSORFLOW)(normalised(levels)).softmax(1)
    np.testing.assert_allclose(open_openvino(float_file, 1)(levels), expected, rtol=0, atol=1e-3)
    assert count_int8(float_file) == (0, 0)


def test_weights_are_float32_and_the_file_says_what_it_is(float_file: Path) -> None:
    """save_model would store float16; the network has 0.4 million weights and those of 5 classes: 1.58 MB."""
    assert sorted(path.name for path in float_file.parent.iterdir()) == ["network.bin", "network.xml"]
    assert float_file.with_suffix(".bin").stat().st_size > 1_500_000
    stop_telemetry()
    import openvino

    said = openvino.Core().read_model(float_file).get_rt_info("description")
    assert json.loads(said["classes"]) == DESCRIPTION["classes"]
    text = float_file.read_text()
    for word in (".py", "site-packages", "/tmp", str(Path.cwd())):
        assert word not in text


@torch.no_grad()
def test_every_layer_is_in_int8(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    network = trained_network()
    path = write(request_for(network, tmp_path, "openvino", int8=POST_TRAINING))
    assert capfd.readouterr() == ("", "")
    assert count_int8(path) == (52, 1)
    assert path.with_suffix(".bin").stat().st_size < 500_000
    images = normalised(pictures(64, 64, seed=1))
    found = open_openvino(path, 1)(images.numpy()).argmax(1)
    assert (found == network(images).argmax(1).numpy()).sum() >= 56


def test_openvino_reports_to_nobody() -> None:
    load = "import sys; from core.runtimes import stop_telemetry; stop_telemetry(); import openvino"
    code = f"{load}; print(sys.modules['openvino_telemetry'])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (0, "None\n")

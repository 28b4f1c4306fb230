# SPDX-License-Identifier: Apache-2.0
"""scripts/measuring/plain_training.py: its evaluation counts."""

import sys
from pathlib import Path

import pytest
import torch
import torchvision

from measuring import plain_training
from shared.small_training import write_images


def test_plain_evaluation_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A network whose logits are constants says the class with the largest one of every image."""
    write_images(tmp_path / "images", 4)
    network = torchvision.models.mobilenet_v2(num_classes=3)
    with torch.no_grad():
        network.classifier[1].weight.zero_()
        network.classifier[1].bias.copy_(torch.tensor([0.0, 1.0, 0.5]))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    command = ["plain_training.py", "test", str(tmp_path / "images"), "--weights", str(tmp_path / "weights.pth")]
    monkeypatch.setattr(sys, "argv", [*command, "--image-size", "32", "--workers", "0"])
    plain_training.main()
    assert capsys.readouterr().out == "top-1 4 top-5 12 of 12\n"

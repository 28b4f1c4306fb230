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


@pytest.mark.parametrize(("frozen_blocks", "moved"), [(19, 2), (18, 5)])
def test_plain_fine_tuning_moves_what_is_not_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen_blocks: int, moved: int
) -> None:
    """The classifier alone, or the last convolution with its scale and shift too; statistics move everywhere."""
    write_images(tmp_path / "images", 2)
    torch.save(torchvision.models.mobilenet_v2(num_classes=3).state_dict(), tmp_path / "start.pth")
    command = ["plain_training.py", "fine-tune", *2 * [str(tmp_path / "images")], "--epochs", "1", "--batch-size", "3"]
    command += ["--weights", str(tmp_path / "weights.pth"), "--start", str(tmp_path / "start.pth")]
    command += ["--frozen-blocks", str(frozen_blocks), "--image-size", "32", "--workers", "0"]
    monkeypatch.setattr(sys, "argv", command)
    plain_training.main()
    before, after = (torch.load(tmp_path / f"{name}.pth", weights_only=True) for name in ("start", "weights"))
    parameters = dict(torchvision.models.mobilenet_v2(num_classes=3).named_parameters())
    assert sum(not torch.equal(before[name], after[name]) for name in parameters) == moved
    assert not torch.equal(before["features.0.1.running_mean"], after["features.0.1.running_mean"])

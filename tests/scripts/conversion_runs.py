# SPDX-License-Identifier: Apache-2.0
"""scripts/convert_weights.py called as the command line does."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import config_with
from torch import nn

import convert_weights
import utils
from core import network_weights
from model import MobileNetV2


class Runner:
    """Calls the script's main() as the command line does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, folder: Path) -> None:
        self.monkeypatch, self.capsys, self.folder = monkeypatch, capsys, folder
        self.source, self.target = folder / "source.pth", folder / "target.pth.tar"

    def run(self, *options: object, source: Path | None = None) -> str:
        """Returns what was printed."""
        words = [str(word) for word in (source or self.source, self.target, *options)]
        self.monkeypatch.setattr(sys, "argv", ["convert_weights.py", *words])
        with utils.user_errors():
            convert_weights.main()
        return self.capsys.readouterr().out

    def as_start(self) -> ModuleType:
        """config.py for fine-tuning from the converted weights."""
        return config_with(pretrained_model_weights_path=self.target)

    def convert(self, checkpoint: object, *options: object) -> str:
        torch.save(checkpoint, self.source)
        return self.run(*options)

    def refusal(self, *options: object, source: Path | None = None) -> str:
        """The one line of an error; nothing is written."""
        before = sorted(self.folder.rglob("*"))
        with pytest.raises(SystemExit) as caught:
            self.run(*options, source=source)
        printed = self.capsys.readouterr()
        assert caught.value.code == 2
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert sorted(self.folder.rglob("*")) == before
        return printed.err

    def refuses(self, checkpoint: object) -> str:
        torch.save(checkpoint, self.source)
        return self.refusal()

    def network(self, num_classes: int = 5, width: float = 0.35) -> nn.Module:
        """The network as test.py and inference.py load it."""
        network = MobileNetV2(num_classes, width)
        config = config_with(model_weights_path=str(self.target), image_size=224)
        config.model_width_mult, config.model_num_classes = width, num_classes
        network_weights.load_trained_network(network, config)
        return network.eval()

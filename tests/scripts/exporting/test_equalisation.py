# SPDX-License-Identifier: Apache-2.0
"""exporting/equalisation.py: the same logits, and channels of like range."""

import torch

from exporting.equalisation import channel_ranges, equalise, find_streams
from exporting.networks import plain_network
from exporting.requests import FLOAT_INPUT, Choices
from model import TENSORFLOW, MobileNetV2


def test_streams_are_those_of_table_2() -> None:
    """Seven stages; all blocks of a stage but its first add to what the one before gave."""
    choices = Choices("onnx", "", FLOAT_INPUT, False, "1")
    streams = find_streams(plain_network(MobileNetV2(3, 0.35), choices, 32, [0.5] * 3, [0.5] * 3))
    assert [len(stream.writers) for stream in streams] == [1, 2, 3, 4, 3, 3, 1]
    assert [len(stream.readers) for stream in streams] == [1, 2, 3, 4, 3, 3, 1]


def test_channels_made_unequal_are_equal_again_and_the_logits_stay() -> None:
    torch.manual_seed(0)
    network = MobileNetV2(3, 0.35, definition=TENSORFLOW)
    images = torch.randn(8, 3, 64, 64)
    network.train()(images.clone())  # statistics of batch-norm
    network.eval()
    with torch.no_grad():
        for stream in find_streams(network):
            factors = torch.exp2(10 * torch.rand(len(stream.writers[0].bias)))
            for writer in stream.writers:
                writer.weight.mul_(factors)
                writer.bias.mul_(factors)
            for reader in stream.readers:
                reader.weight.div_(factors[:, None, None])
    plain = plain_network(network, Choices("onnx", "", FLOAT_INPUT, False, "1"), 64, [0.5] * 3, [0.5] * 3)
    changed = equalise(plain, images)
    with torch.no_grad():
        expected = plain(images)
        torch.testing.assert_close(changed(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())

    def inequality(network: torch.nn.Module) -> float:
        with torch.no_grad():
            ranges = channel_ranges(network, images)
        return max((widest.max() / widest.median()).item() for widest in ranges.values())

    assert inequality(plain) > 20
    assert inequality(changed) < inequality(plain) ** 0.5 * 2

# SPDX-License-Identifier: Apache-2.0
"""exporting/rounding.py: weights in steps of int8, and the means of what each layer gives as they were."""

import torch
from torch import nn

from exporting.rounding import round_weights


def small_network() -> nn.Module:
    """A full, a depthwise, a pointwise and a linear layer, whose inputs hardly vary beside their means."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2), nn.ReLU6(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU6(), nn.Conv2d(8, 16, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)).requires_grad_(False)


def test_weights_are_steps_of_each_channel_and_the_largest_stays() -> None:
    network = small_network()
    network[0].weight[1] *= 1000
    network[2].weight[2] = 0  # a channel that died in training
    rounded = round_weights(network, 1 + torch.rand(4, 3, 32, 32) / 100)
    for index in (0, 2, 4, 7):
        before, after = network[index].weight.flatten(1), rounded[index].weight.flatten(1)
        torch.testing.assert_close(after.abs().amax(1), before.abs().amax(1), rtol=1e-6, atol=0)
        steps = after * 127 / before.abs().amax(1, keepdim=True).clamp_min(1e-30)
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
        assert (after - before).abs().max() > 0


def test_means_stay_and_the_network_too() -> None:
    network = small_network()
    copies = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = 1 + torch.rand(4, 3, 32, 32) / 100
    rounded = round_weights(network, images)
    assert all(torch.equal(tensor, copies[name]) for name, tensor in network.state_dict().items())
    expected, found = network(images).mean(0), rounded(images).mean(0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    for index in (0, 2, 4, 7):
        rounded[index].bias = network[index].bias
    assert (rounded(images).mean(0) - expected).abs().max() > 1e-3  # by the rounding alone

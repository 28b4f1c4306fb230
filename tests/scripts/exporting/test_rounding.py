# SPDX-License-Identifier: Apache-2.0
"""exporting/rounding.py: weights in steps of int8, and the means of what each layer gives as they were."""

import torch
from torch import nn

from exporting.rounding import round_weights, steps_of_all, steps_of_pairs


def small_network() -> nn.Module:
    """A full, a depthwise, a pointwise and a linear layer, whose inputs hardly vary beside their means."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2), nn.ReLU6(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU6(), nn.Conv2d(8, 16, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)).requires_grad_(False)


def test_weights_are_steps_of_each_channel_and_the_largest_stays() -> None:
    network = small_network()
    network[0].weight[1] *= 1000
    network[2].weight[2] = 0  # a channel that died in training
    rounded, found = round_weights(network, 1 + torch.rand(4, 3, 32, 32) / 100)
    assert list(found) == ["0", "2", "4", "7"]
    assert found["2"][2] == found["2"].max() / 2**20
    for index in (0, 2, 4, 7):
        before, after = network[index].weight.flatten(1), rounded[index].weight.flatten(1)
        torch.testing.assert_close(after.abs().amax(1), before.abs().amax(1), rtol=1e-6, atol=0)
        steps = after * 127 / before.abs().amax(1, keepdim=True).clamp_min(1e-30)
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
        assert (after - before).abs().max() > 0
        torch.testing.assert_close(found[str(index)] * 127, before.abs().amax(1).clamp_min(1e-6), rtol=1e-5, atol=2e-6)


def test_a_layer_of_zeros_has_steps() -> None:
    network = small_network()
    network[4].weight.zero_()
    rounded, steps = round_weights(network, torch.rand(4, 3, 32, 32), steps_of_pairs)
    assert torch.equal(rounded[4].weight, network[4].weight)
    assert (steps["4"] == 1).all()


def test_neighbours_fit_into_16_bits() -> None:
    """Two products with uint8 inputs: of 127 steps each 255 x 254 = 64,770, of 64 each 32,640; the most is 32,767."""
    layer = nn.Conv2d(5, 4, 1)
    rows = [[1.0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [-1, -0.5, 0, 0, 0], [1, -1, 0.2, 0, -0.9]]
    layer.weight = nn.Parameter(torch.tensor(rows)[..., None, None])
    assert steps_of_pairs(layer).tolist() == [63, 127, 85, 127]  # 127.5 / 2; no neighbours; 127.5 / 1.5; no sum above 1
    layer.weight = nn.Parameter(torch.tensor(rows[:2]).view(2, 5, 1, 1).repeat(1, 1, 3, 3))
    assert steps_of_pairs(layer).tolist() == [63, 63]  # of nine pixels each, which some routine may put side by side
    depthwise = nn.Conv2d(8, 8, 3, groups=8)
    assert torch.equal(steps_of_pairs(depthwise), steps_of_all(depthwise))
    network = small_network()
    rounded, steps = round_weights(network, torch.rand(4, 3, 32, 32), steps_of_pairs)
    counts = (rounded[4].weight.flatten(1) / steps["4"][:, None]).round().view(16, 4, 2)
    assert max(counts.clamp(0).sum(2).max(), -counts.clamp(max=0).sum(2).min()) <= 128
    assert counts.abs().amax((1, 2)).tolist() == steps_of_pairs(network[4]).tolist()


def test_means_stay_and_the_network_too() -> None:
    network = small_network()
    copies = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = 1 + torch.rand(4, 3, 32, 32) / 100
    rounded, _ = round_weights(network, images)
    assert all(torch.equal(tensor, copies[name]) for name, tensor in network.state_dict().items())
    expected, found = network(images).mean(0), rounded(images).mean(0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    for index in (0, 2, 4, 7):
        rounded[index].bias = network[index].bias
    assert (rounded(images).mean(0) - expected).abs().max() > 1e-3  # by the rounding alone

# SPDX-License-Identifier: Apache-2.0
"""model.py against torchvision's MobileNetV2 and the published table of the paper's authors."""

import copy

import pytest
import torch
import torchvision
from random_networks import assert_equal_tensors, network_with_statistics, random_images
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from downloading.published import CHECKPOINTS
from model import (
    TENSORFLOW,
    InvertedResidual,
    MobileNetV2,
    ReLU6,
    StridedConv2d,
    mobilenet_v2,
    pad_same,
    round_channels,
)

WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)


def build_both(**options: object) -> tuple[nn.Module, nn.Module]:
    """This project's network and torchvision's, each built after the same seed."""
    networks = []
    for build in (MobileNetV2, torchvision.models.mobilenet_v2):
        torch.manual_seed(0)
        networks.append(build(**options))
    return tuple(networks)


def seeded_logits(network: nn.Module, images: Tensor) -> Tensor:
    torch.manual_seed(2)  # dropout
    return network(images)


@pytest.mark.parametrize("width", WIDTHS)
def test_initial_weights_equal_torchvision(width: float) -> None:
    """Names, their order, shapes and bits."""
    ours, theirs = build_both(num_classes=17, width_mult=width)
    assert_equal_tensors(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("width", WIDTHS)
def test_eval_logits_equal_torchvision(width: float) -> None:
    ours, theirs = (network.eval() for network in build_both(num_classes=17, width_mult=width))
    images = random_images(64, 64)
    assert torch.equal(ours(images), theirs(images))


@pytest.mark.parametrize("width", WIDTHS)
def test_train_logits_gradients_and_running_statistics_equal_torchvision(width: float) -> None:
    ours, theirs = build_both(num_classes=17, width_mult=width)
    logits = [seeded_logits(network, random_images(64, 64)) for network in (ours, theirs)]
    assert torch.equal(*logits)
    for output in logits:
        output.square().sum().backward()
    assert_equal_tensors(*({name: p.grad for name, p in net.named_parameters()} for net in (ours, theirs)))
    assert_equal_tensors(*(dict(net.named_buffers()) for net in (ours, theirs)))


@pytest.mark.parametrize("shape", [(32, 32), (97, 97), (64, 96)])
def test_other_image_shapes_equal_torchvision(shape: tuple[int, int]) -> None:
    ours, theirs = (network.eval() for network in build_both(num_classes=5, width_mult=0.35))
    logits = ours(random_images(*shape))
    assert logits.shape == (2, 5)
    assert torch.equal(logits, theirs(random_images(*shape)))


@pytest.mark.parametrize(
    ("width", "image_size", "million_macs", "million_parameters"), [row[:4] for row in CHECKPOINTS]
)
def test_cost_equals_the_authors_table(
    width: float, image_size: int, million_macs: int, million_parameters: float
) -> None:
    with torch.device("meta"):
        network = MobileNetV2(num_classes=1000, width_mult=width).eval()
        images = torch.empty(1, 3, image_size, image_size)
    with FlopCounterMode(display=False) as counter:
        network(images)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    parameters = count_parameters(network) - sum(map(count_parameters, norms))
    assert counter.get_total_flops() // 2 // 10**6 == million_macs  # one multiply-add is two operations
    assert round(parameters / 1e6, 2) == million_parameters


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_count_of_the_imagenet_network() -> None:
    """The figure torchvision publishes for MobileNet_V2_Weights."""
    published = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.meta["num_params"]
    assert count_parameters(MobileNetV2()) == published == 3_504_872


@pytest.mark.parametrize(
    ("width", "channels"), [(0.35, 1280), (0.5, 1280), (0.75, 1280), (1.0, 1280), (1.3, 1664), (1.4, 1792)]
)
def test_last_layer_shrinks_for_no_width(width: float, channels: int) -> None:
    with torch.device("meta"):
        assert MobileNetV2(7, width).classifier[1].weight.shape == (7, channels)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (1, 8),  # never below the divisor
        (5.6, 8),
        (8, 8),
        (8.4, 8),  # width 0.35 of 24: down, 8 is above 90 % of it
        (11.2, 16),  # width 0.35 of 32: 8 is nearer, but below 90 %
        (12, 16),  # half way goes up
        (17, 16),  # 16 is above 15.3
        (18, 24),  # 16 is below 16.2
        (33.6, 32),
        (44.8, 48),
        (1792, 1792),
    ],
)
def test_round_channels_by_hand(channels: float, expected: int) -> None:
    assert round_channels(channels) == expected


@pytest.mark.parametrize(("channels", "expected"), [(24, 32), (39, 48), (40, 48), (70, 64), (72, 80)])
def test_round_channels_to_multiples_of_16_by_hand(channels: float, expected: int) -> None:
    assert round_channels(channels, divisor=16) == expected


@pytest.mark.parametrize("expand_ratio", [1, 6])
@pytest.mark.parametrize(
    ("out_channels", "stride", "has_skip"), [(8, 1, True), (8, 2, False), (16, 1, False), (16, 2, False)]
)
def test_block_adds_its_input_only_when_shapes_allow(
    out_channels: int, stride: int, has_skip: bool, expand_ratio: int
) -> None:
    block = InvertedResidual(8, out_channels, stride, expand_ratio).eval()
    nn.init.zeros_(block.conv[-1].weight)  # the last batch-norm: what is left is the skip
    features = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = features if has_skip else torch.zeros(2, out_channels, 6 // stride, 6 // stride)
    assert torch.equal(block(features), expected)


@pytest.mark.parametrize("expand_ratio", [1, 6])
def test_projection_has_no_activation(expand_ratio: int) -> None:
    """A ReLU6 would keep the outputs in 0..6."""
    torch.manual_seed(0)
    block = InvertedResidual(8, 16, 1, expand_ratio).eval()
    nn.init.constant_(block.conv[-1].weight, 100)
    output = block(torch.randn(2, 8, 6, 6))
    assert output.min() < -6 and output.max() > 6


@pytest.mark.parametrize("dropout", [0.0, 0.5, 0.9])
def test_dropout_acts_as_in_torchvision(dropout: float) -> None:
    ours, theirs = build_both(num_classes=17, width_mult=0.35, dropout=dropout)
    assert torch.equal(*(seeded_logits(network, random_images(32, 32)) for network in (ours, theirs)))


@pytest.mark.parametrize(("dropout", "expected_share"), [(0.0, 0.0), (0.2, 0.2), (0.7, 0.7)])
def test_dropout_silences_its_share_of_features_while_training(dropout: float, expected_share: float) -> None:
    network = mobilenet_v2(num_classes=1, width_mult=0.35, dropout=dropout)
    network.features = nn.Identity()
    nn.init.ones_(network.classifier[1].weight)
    torch.manual_seed(0)
    kept = network(torch.ones(64, 1280, 1, 1)).sum() * (1 - dropout) / (64 * 1280)
    assert 1 - kept.item() == pytest.approx(expected_share, abs=0.01)  # 5 standard deviations: 0.008
    assert network.eval()(torch.ones(1, 1280, 1, 1)).item() == 1280


def test_builder_passes_its_options_on() -> None:
    torch.manual_seed(0)
    built = mobilenet_v2(num_classes=3, width_mult=0.5, dropout=0.4)
    assert type(built) is MobileNetV2
    _, theirs = build_both(num_classes=3, width_mult=0.5, dropout=0.4)
    assert_equal_tensors(built.state_dict(), theirs.state_dict())
    assert torch.equal(*(seeded_logits(network, random_images(32, 32)) for network in (built, theirs)))


def test_builder_without_options_is_the_imagenet_network() -> None:
    with torch.device("meta"):
        assert count_parameters(mobilenet_v2()) == 3_504_872


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relu6_clamps_in_place_and_passes_gradients_back_between_its_bounds(dtype: torch.dtype) -> None:
    start = torch.tensor([-1.0, 0.0, 0.5, 6.0, 7.0, 5.5], dtype=dtype, requires_grad=True)
    before = start * 1  # autograd forbids changing a leaf
    after = ReLU6()(before)
    assert after.data_ptr() == before.data_ptr()
    assert after.tolist() == [0.0, 0.0, 0.5, 6.0, 6.0, 5.5]
    after.backward(torch.arange(1, 7, dtype=dtype))
    assert start.grad.tolist() == [0, 0, 3, 0, 0, 6]
    with torch.no_grad():
        assert ReLU6()(start * 1).tolist() == after.tolist()


@pytest.mark.parametrize(("device", "node"), [("cpu", "ClampInPlaceBackward"), ("meta", "HardtanhBackward0")])
def test_relu6_is_written_in_python_for_the_cpu_alone(device: str, node: str) -> None:
    output = ReLU6()(torch.zeros(2, device=device, requires_grad=True) * 1)
    assert type(output.grad_fn).__name__ == node


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch maps clamp_ image by image
def test_network_can_be_traced_differentiated_and_mapped() -> None:
    """Forms of use for which torch asks more of an autograd function than training does."""
    network = mobilenet_v2(num_classes=3).eval()
    images = random_images(32, 32).to(memory_format=torch.channels_last)
    expected = network(images)
    with pytest.warns(match="deprecated"):
        traced = torch.jit.trace(network, images)
    assert torch.equal(traced(images), expected)
    expected[0, 0].backward()
    weights = dict(network.named_parameters())
    gradients = torch.func.grad(lambda each: torch.func.functional_call(network, each, images)[0, 0])(weights)
    assert_equal_tensors(gradients, {name: weight.grad for name, weight in weights.items()})
    mapped = torch.func.vmap(lambda image: torch.func.functional_call(network, weights, image[None])[0])(images)
    torch.testing.assert_close(mapped, expected)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_gradients_have_the_memory_format_of_the_network(memory_format: torch.memory_format) -> None:
    """In another one a layer takes several times as long."""
    network = mobilenet_v2(num_classes=3).to(memory_format=memory_format)
    gradients: list[Tensor] = []

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output.register_hook(lambda gradient: gradients.append(gradient))  # returns None: keeps it

    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(watch)
    network(random_images(96, 96).contiguous(memory_format=memory_format)).sum().backward()
    assert len(gradients) == 52  # the convolutions of Table 2: 1 + 2 + 16 x 3 + 1
    assert all(gradient.is_contiguous(memory_format=memory_format) for gradient in gradients)


def test_strided_depthwise_layers_ignore_autocast_on_the_cpu() -> None:
    torch.manual_seed(0)
    network = mobilenet_v2(num_classes=3)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    strided = [layer for layer in convolutions if layer.groups > 1 and layer.stride[0] > 1]
    assert [layer.in_channels for layer in strided] == [6 * 16, 6 * 24, 6 * 32, 6 * 96]  # Table 2 of the paper
    for layer in strided:
        images = torch.randn(2, layer.in_channels, 8, 8).bfloat16()
        expected = nn.functional.conv2d(images.float(), layer.weight, stride=2, padding=1, groups=layer.groups)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = layer(images)
        assert output.dtype == torch.float32
        assert torch.equal(output, expected)


# TensorFlow's definition


@pytest.mark.parametrize(
    ("side", "before", "after"),
    [(1, 1, 1), (2, 0, 1), (3, 1, 1), (4, 0, 1), (7, 1, 1), (97, 1, 1), (112, 0, 1), (225, 1, 1)],
)
def test_same_padding_by_hand(side: int, before: int, after: int) -> None:
    """max((ceil(side / 2) - 1) * 2 + 3 - side, 0) zeros, the odd one behind: tensorflow.org/api_docs/python/tf/nn."""
    padded = pad_same(torch.ones(1, 1, side, 6))
    assert padded[0, 0, :, 0].tolist() == [0] * before + [1] * side + [0] * after
    assert padded[0, 0, before].tolist() == [1] * 6 + [0]
    padded = pad_same(torch.ones(1, 1, 6, side))
    assert padded[0, 0, 0].tolist() == [0] * before + [1] * side + [0] * after
    assert padded[0, 0, :, before].tolist() == [1] * 6 + [0]


def counting_convolution(padding: str) -> StridedConv2d:
    """Its kernel tells the place: 1, 10 and 100 times 1, 2 and 3 of the rows and columns."""
    layer = StridedConv2d(1, 1, 1, padding)
    kernel = torch.tensor([[1.0], [10.0], [100.0]]) * torch.tensor([1.0, 2.0, 3.0])
    layer.weight.data = kernel[None, None]
    return layer


@torch.no_grad()
@pytest.mark.parametrize(
    ("padding", "height", "width", "expected"),
    [
        # of ones: an even side lacks the last row or column of the second place, an odd one its first and its last
        ("same", 4, 4, [[111 * 6, 111 * 3], [11 * 6, 11 * 3]]),
        ("same", 3, 3, [[110 * 5, 110 * 3], [11 * 5, 11 * 3]]),
        ("same", 4, 3, [[111 * 5, 111 * 3], [11 * 5, 11 * 3]]),
        ("same", 3, 4, [[110 * 6, 110 * 3], [11 * 6, 11 * 3]]),
        ("symmetric", 4, 4, [[110 * 5, 110 * 6], [111 * 5, 111 * 6]]),
        ("symmetric", 3, 3, [[110 * 5, 110 * 3], [11 * 5, 11 * 3]]),
    ],
)
def test_strided_convolution_by_hand(padding: str, height: int, width: int, expected: list) -> None:
    assert counting_convolution(padding)(torch.ones(1, 1, height, width))[0, 0].tolist() == expected


def test_definition_is_in_every_layer_that_it_is_of() -> None:
    network = MobileNetV2(5, 0.35, definition=TENSORFLOW)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    strided = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.stride == (2, 2)]
    assert (len(norms), {norm.eps for norm in norms}) == (52, {1e-3})
    assert [(layer.padding, layer.pads_same) for layer in strided] == [((0, 0), True)] * 5
    assert {norm.eps for norm in MobileNetV2(5, 0.35).modules() if isinstance(norm, nn.BatchNorm2d)} == {1e-5}


def test_definition_changes_neither_names_nor_initial_weights() -> None:
    both = []
    for options in ({}, {"definition": TENSORFLOW}):
        torch.manual_seed(0)
        both.append(mobilenet_v2(5, 0.35, **options).state_dict())
    assert_equal_tensors(*both)


def trained_features(**options: object) -> tuple[MobileNetV2, nn.Module]:
    """Networks with statistics, in eval mode: this project's with the options, and torchvision's features."""
    theirs = torchvision.models.mobilenet_v2()
    ours = MobileNetV2(**options)
    weights = network_with_statistics().state_dict()
    for network in (ours, theirs):
        network.load_state_dict(weights)
    return ours.eval(), theirs.eval().features


@torch.no_grad()
def test_feature_maps_equal_torchvision() -> None:
    ours, theirs = trained_features()
    images = random_images(96, 64)
    maps = ours.feature_maps(images)
    assert [(stride, *found.shape[1:]) for stride, found in maps.items()] == [
        *((2, 16, 48, 32), (4, 24, 24, 16), (8, 32, 12, 8)),
        *((16, 96, 6, 4), (32, 1280, 3, 2)),
    ]
    for found, last in zip(maps.values(), (1, 3, 6, 13, 18), strict=True):
        assert torch.equal(found, theirs[: last + 1](images))


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(96, 64), (97, 65), (70, 99)])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_network_holds_the_strided_one(output_stride: int, height: int, width: int) -> None:
    """A filter on every 2nd or 4th pixel reads what the strided one reads, so that the map has that one's values."""
    ours, theirs = trained_features(output_stride=output_stride)
    images, step = random_images(height, width), 32 // output_stride
    maps = ours.feature_maps(images)
    assert max(maps) == output_stride
    assert maps[output_stride].shape[2:] == (-(-height // output_stride), -(-width // output_stride))
    torch.testing.assert_close(maps[output_stride][..., ::step, ::step], theirs(images), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_network_with_tensorflows_padding_holds_the_strided_one(output_stride: int) -> None:
    """On sides that are a multiple of 32 a strided filter is centred on every second pixel from the second on."""
    weights = network_with_statistics(TENSORFLOW).state_dict()
    strided, dilated = (
        MobileNetV2(definition=TENSORFLOW),
        MobileNetV2(definition=TENSORFLOW, output_stride=output_stride),
    )
    for network in (strided, dilated):
        network.load_state_dict(weights)
    images, step = random_images(64, 96), 32 // output_stride
    found = dilated.eval().features(images)[..., step - 1 :: step, step - 1 :: step]
    torch.testing.assert_close(found, strided.eval().features(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output_stride", [0, 4, 64])
def test_output_stride_must_be_one_of_three(output_stride: int) -> None:
    with pytest.raises(ValueError, match=f"output_stride = {output_stride}; expected one of"):
        MobileNetV2(output_stride=output_stride)


@pytest.mark.parametrize("dilation", [2, 4])
def test_dilated_kernels_have_their_gradient_under_autocast(dilation: int) -> None:
    """On 40 x 40 pixels, in bfloat16, oneDNN's own would be wrong. Against double precision."""
    torch.manual_seed(0)
    block = InvertedResidual(16, 16, 1, 6, dilation=dilation).to(memory_format=torch.channels_last)
    exact = copy.deepcopy(block).double()
    images = torch.randn(4, 16, 40, 40).contiguous(memory_format=torch.channels_last)
    direction = torch.randn(4, 16, 40, 40)
    with torch.autocast("cpu", torch.bfloat16):
        (block(images) * direction).sum().backward()
    (exact(images.double()) * direction).sum().backward()
    found, expected = (each.get_parameter("conv.1.0.weight").grad for each in (block, exact))
    assert (found - expected).norm() < 0.1 * expected.norm()

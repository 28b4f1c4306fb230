# SPDX-License-Identifier: Apache-2.0
"""Networks that give maps have the outputs, gradients and statistics of double precision in the form that trains."""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from random_networks import randomise_statistics
from torch import Tensor, nn

from core import recomputing
from core.recomputing import RecomputingMaps
from core.small_maps import call_layers
from detection.model import SSDLite
from model import TENSORFLOW, TORCHVISION, Definition
from segmentation.model import DeepLabV3

pytestmark = pytest.mark.usefixtures("routines")
CLASSES = 5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """With more, sums are rounded otherwise, and here and there a ReLU6 on its edge falls on the other side."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def prepared(network: nn.Module) -> nn.Module:
    randomise_statistics(network)
    return network.to(memory_format=torch.channels_last).train()


def segmenter(output_stride: int, definition: Definition) -> nn.Module:
    torch.manual_seed(3)
    return prepared(DeepLabV3(CLASSES, 0.35, 0.0, definition, output_stride))


def detector(image_size: int, definition: Definition) -> nn.Module:
    torch.manual_seed(3)
    return prepared(SSDLite(CLASSES, image_size, 0.35, definition))


def images_of(height: int, width: int) -> Tensor:
    """Of different brightness, as batch-norm divides by how much the pooled ones differ."""
    images = torch.randn(4, 3, height, width, generator=torch.Generator().manual_seed(5))
    images += torch.linspace(-1, 1, 4)[:, None, None, None]
    return images.contiguous(memory_format=torch.channels_last)


def boxes_of(images: Tensor) -> list[dict[str, Tensor]]:
    """Two in each image but the last, which has none."""
    boxes = torch.tensor([[10.0, 20, 60, 80], [50, 5, 90, 40]], dtype=images.dtype)
    some = {"boxes": boxes, "labels": torch.tensor([1, CLASSES])}
    none = {"boxes": boxes[:0], "labels": torch.zeros(0, dtype=torch.int64)}
    return [some] * (len(images) - 1) + [none]


def outcome(
    form: Callable[..., Tensor | dict[str, Tensor]], weights: nn.Module, images: Tensor, dtype: torch.dtype
) -> list[Tensor]:
    """What a network gives, the gradients of its weights all in one, and its statistics, in float64."""
    targets = [boxes_of(images)] if isinstance(weights, SSDLite) else []
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        found = form(images, *targets)
    given = list(found.values()) if isinstance(found, dict) else [found]
    directions = [torch.randn(each.shape, generator=torch.Generator().manual_seed(6)) for each in given]
    total = torch.stack(
        [(each.double() * direction).sum() for each, direction in zip(given, directions, strict=True)]
    ).sum()
    gradients = torch.autograd.grad(total, list(weights.parameters()))
    statistics = [buffer for name, buffer in weights.named_buffers() if "running" in name]
    return [
        torch.cat([each.double().flatten() for each in several]).detach() for several in (given, gradients, statistics)
    ]


def assert_as_precise(network: nn.Module, images: Tensor, dtype: torch.dtype) -> None:
    """As near to double precision as the network called as it is, but for five digits, or five bits."""
    exact, plain = copy.deepcopy(network).double(), copy.deepcopy(network)
    expected = outcome(exact, exact, images.double(), torch.float64)
    found = outcome(RecomputingMaps(network), network, images, dtype)
    theirs = outcome(plain, plain, images, dtype)
    for one, other, value in zip(found, theirs, expected, strict=True):
        allowed = (1e-5 if dtype == torch.float32 else 2**-5) * value.norm()
        assert (one - value).norm() <= 2 * (other - value).norm() + allowed
    counts = [buffer.item() for name, buffer in network.named_buffers() if "num_batches" in name]
    assert set(counts) == {1}


@pytest.mark.parametrize("smallest_map", [0, recomputing.SMALLEST_MAP])
@pytest.mark.parametrize("definition", [TORCHVISION, TENSORFLOW])
@pytest.mark.parametrize(
    ("output_stride", "dtype", "height", "width"),
    [
        (16, torch.float32, 64, 96),
        (8, torch.float32, 97, 65),
        (16, torch.bfloat16, 97, 65),
        (8, torch.bfloat16, 64, 96),
    ],
)
def test_segmentation(
    monkeypatch: pytest.MonkeyPatch,
    output_stride: int,
    definition: Definition,
    smallest_map: int,
    dtype: torch.dtype,
    height: int,
    width: int,
) -> None:
    monkeypatch.setattr(recomputing, "SMALLEST_MAP", smallest_map)
    assert_as_precise(segmenter(output_stride, definition), images_of(height, width), dtype)


@pytest.mark.parametrize("smallest_map", [0, recomputing.SMALLEST_MAP])
@pytest.mark.parametrize("definition", [TORCHVISION, TENSORFLOW])
@pytest.mark.parametrize(
    ("dtype", "image_size"), [(torch.float32, 96), (torch.float32, 97), (torch.bfloat16, 96), (torch.bfloat16, 97)]
)
def test_detection(
    monkeypatch: pytest.MonkeyPatch, definition: Definition, smallest_map: int, dtype: torch.dtype, image_size: int
) -> None:
    monkeypatch.setattr(recomputing, "SMALLEST_MAP", smallest_map)
    assert_as_precise(detector(image_size, definition), images_of(image_size, image_size), dtype)


@pytest.mark.parametrize("create", [segmenter, detector])
def test_the_form_is_used_and_keeps_less(create: Callable[[int, Definition], nn.Module]) -> None:
    network, images = create(16 if create is segmenter else 96, TORCHVISION), images_of(96, 96)
    form = recomputing.recomputing(network, torch.float32)
    assert isinstance(form, RecomputingMaps)
    kept = []
    for each in (network, form):
        sizes: dict[int, int] = {}

        def note(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            each(images, *([boxes_of(images)] if create is detector else []))
        kept.append(sum(sizes.values()))
    assert kept[1] < 0.7 * kept[0]


@pytest.mark.parametrize("create", [segmenter, detector])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_lie_in_memory_as_their_weights_do(
    create: Callable[[int, Definition], nn.Module], dtype: torch.dtype
) -> None:
    """torch's fused SGD takes the two for laid out alike, and DDP copies what is not."""
    network, images = create(16 if create is segmenter else 96, TORCHVISION), images_of(96, 96)
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        found = RecomputingMaps(network)(images, *([boxes_of(images)] if create is detector else []))
    losses = list(found.values()) if isinstance(found, dict) else [found]
    torch.stack([loss.float().square().sum() for loss in losses]).sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad.stride() != weight.stride()] == []


@pytest.mark.parametrize("create", [segmenter, detector])
def test_scoring_and_compiling_call_the_network_itself(
    create: Callable[[int, Definition], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images = create(16 if create is segmenter else 96, TORCHVISION), images_of(96, 96)
    form = RecomputingMaps(network)
    monkeypatch.setattr(form, "call_sparingly", None)
    torch.testing.assert_close(form.eval()(images), network(images), rtol=0, atol=0)
    graphs = []
    form.train().compile(backend=lambda graph, inputs: graphs.append(graph) or graph)
    expected, found = (outcome(each, network, images, torch.float32) for each in (network.forward, form))
    assert len(graphs) >= 1
    torch.testing.assert_close(found[:2], expected[:2])


@pytest.mark.parametrize("side", [1, 5, 20])
def test_a_layer_that_predicts_adds_its_bias(side: int) -> None:
    layer = nn.Conv2d(8, 3, 1).double()
    x = torch.randn(2, 8, side, side, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    found, expected = (call(x.requires_grad_()) for call in (lambda x: call_layers(layer, x), layer))
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        *(torch.autograd.grad(y.square().sum(), [x, *layer.parameters()]) for y in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_what_is_kept_does_not_grow_from_step_to_step() -> None:
    """SSDLite calls slices of its layers, which torch makes anew each time."""
    network = detector(96, TORCHVISION)
    form = RecomputingMaps(network)
    images = images_of(96, 96)
    sizes = set()
    for _ in range(3):
        form(images, boxes_of(images))
        sizes.add(len(form.parts))
    assert len(sizes) == 1

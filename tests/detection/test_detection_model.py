# SPDX-License-Identifier: Apache-2.0
"""SSDLite has the paper's size, and computes what torchvision's parts compute."""

import itertools
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
import torchvision
from random_networks import assert_equal_tensors, random_images, randomise_statistics
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block
from torchvision.ops import box_iou

from core.network_weights import load_features
from detection.model import SSDLite, by_name, create_anchors
from model import TENSORFLOW, TORCHVISION, Definition, MobileNetV2, StridedConv2d

CLASSES = 5
CHANNELS = [576, 1280, 512, 256, 256, 128]  # of the six maps at width 1.0
ANCHORS = [3, 6, 6, 6, 6, 6]  # in each place of them
NO_BOXES = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def network_with_statistics(image_size: int = 96, definition: Definition = TORCHVISION) -> SSDLite:
    torch.manual_seed(3)
    network = SSDLite(CLASSES, image_size, definition=definition)
    randomise_statistics(network)
    return network.eval()


def two_targets() -> list[dict[str, Tensor]]:
    """Of images of 96 x 96: three boxes, one of them smaller than every anchor, and none."""
    boxes = torch.tensor([[10.0, 20, 60, 80], [50, 5, 90, 40], [3, 3, 8, 9]])
    return [{"boxes": boxes, "labels": torch.tensor([1, CLASSES, 2])}, NO_BOXES]


class TheirBackbone(nn.Module):
    """torchvision's MobileNetV2 and extra layers, with the maps of section 6.2 of the paper."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torchvision.models.mobilenet_v2().features
        pairs = itertools.pairwise(CHANNELS[1:])
        self.extra = nn.ModuleList(_extra_block(before, after, nn.BatchNorm2d) for before, after in pairs)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = []
        hook = self.features[14].conv[0].register_forward_hook(lambda layer, inputs, output: maps.append(output))
        maps.append(self.features(images))
        hook.remove()
        for layer in self.extra:
            maps.append(layer(maps[-1]))
        return OrderedDict(enumerate(maps))


def their_anchors() -> DefaultBoxGenerator:
    """torchvision's, made of the maps that it sees, but for those of the first: a small square, no two of its own."""
    boxes = DefaultBoxGenerator([[2], *[[2, 3]] * 5], min_ratio=0.2, max_ratio=0.95, clip=False)
    boxes._wh_pairs[0] = torch.cat([torch.tensor([[0.1, 0.1]]), boxes._wh_pairs[0][2:]])
    return boxes


def their_ssd(network: SSDLite) -> SSD:
    """torchvision's SSD from torchvision's parts, with the weights of ours, for images that are already normalised."""
    head = SSDLiteHead(CHANNELS, ANCHORS, CLASSES + 1, nn.BatchNorm2d)
    names = ("score_thresh", "nms_thresh", "detections_per_img", "topk_candidates")
    options = {name: getattr(network, name) for name in names} | {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    size = (network.image_size, network.image_size)
    theirs = SSD(TheirBackbone(), their_anchors(), size, CLASSES + 1, head=head, **options)
    weights = network.state_dict()
    theirs.load_state_dict(
        {name if name.startswith("head.") else f"backbone.{name}": weights[name] for name in weights}
    )
    return theirs.train(network.training)


# The paper's size


def cost(network: SSDLite) -> dict[str, tuple[int, int]]:
    """Parameters and multiply-adds of all, and of what is on top of the features, for an image of 320 x 320."""
    counts = []
    for call in (network.eval().outputs, network.features):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            call(torch.zeros(1, 3, 320, 320))
        counts.append(counter.get_total_flops() // 2)  # one multiply-add is two operations
    parameters = [sum(weight.numel() for weight in part.parameters()) for part in (network, network.features)]
    whole, features = zip(parameters, counts, strict=True)
    return {"whole": whole, "top": (whole[0] - features[0], whole[1] - features[1])}


def test_cost_is_that_of_the_paper() -> None:
    """Table 6: 4.3 M parameters and 0.8 B multiply-adds. Table 5, of the layers on top: 2.1 M and 0.35 B.

    Counted are convolutions with their biases, and the parameters of batch-norm; 80 classes and the background. Half of
    0.35 B comes out. Table 6 has no room for the other half: at 320 pixels the features alone are 0.61 B. Twice
    177,617,344 is 0.355 B, so that operations may have been counted in that place.
    """
    found = cost(SSDLite())
    assert found["whole"] == (4_337_013, 788_830_144)
    assert found["top"] == (2_113_141, 177_617_344)


def test_cost_with_ordinary_convolutions_is_that_of_the_paper() -> None:
    """Table 5, SSD: 14.8 M parameters, which comes out, and 1.25 B multiply-adds, where 1.259 B comes out.

    With another number of anchors or classes the parameters do not: 16.1 M with six anchors in each place of the first
    map too, as torchvision's SSDLite has them, and 14.6 M without a background.
    """
    network = SSDLite()
    for layer, (before, after) in zip(network.extra, itertools.pairwise(CHANNELS[1:]), strict=True):
        half = after // 2
        ordinary = [nn.Conv2d(half, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU6()]
        assert layer[0][0].weight.shape == (half, before, 1, 1)
        layer[1], layer[2] = nn.Sequential(*ordinary), nn.Identity()
    network.head = SSDHead(CHANNELS, ANCHORS, 81)
    assert cost(network)["top"] == (14_776_629, 1_259_068_672)
    others = [SSDHead(CHANNELS, [6] * 6, 81), SSDHead(CHANNELS, ANCHORS, 80)]
    sizes = [sum(weight.numel() for part in (head, network.extra) for weight in part.parameters()) for head in others]
    assert [round(size / 1e6, 1) for size in sizes] == [16.1, 14.6]


# Anchors


def test_anchors_by_hand() -> None:
    """Of 320 pixels: in the first place of the first and second map, and in the only one of the last."""
    anchors = create_anchors(320)[0]
    assert anchors.shape == (3 * 20**2 + 6 * (10**2 + 5**2 + 3**2 + 2**2 + 1), 4)
    assert anchors.dtype == torch.float32

    def boxes(centre: float, sides: list[tuple[float, float]]) -> Tensor:
        """Sides as shares of the image, width and height."""
        halves = [(160 * width, 160 * height) for width, height in sides]
        return torch.tensor([[centre - w, centre - h, centre + w, centre + h] for w, h in halves])

    def of_scale(scale: float, following: float) -> list[tuple[float, float]]:
        wide = [(scale * ratio**0.5, scale / ratio**0.5) for ratio in (2, 3)]
        square, between = (scale, scale), ((scale * following) ** 0.5,) * 2
        return [square, between, *(pair for w, h in wide for pair in ((w, h), (h, w)))]

    first = [(0.1, 0.1), *of_scale(0.2, 0.35)[2:4]]
    torch.testing.assert_close(anchors[:3], boxes(8, first))
    torch.testing.assert_close(anchors[1200:1206], boxes(16, of_scale(0.35, 0.5)))
    torch.testing.assert_close(anchors[-6:], boxes(160, of_scale(0.95, 1.0)))


def test_anchors_of_all_maps_but_the_first_equal_torchvisions() -> None:
    theirs = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95, clip=False)
    images = ImageList(torch.empty(1, 3, 97, 97), [(97, 97)])
    sides = [7, 4, 2, 1, 1, 1]  # 97 pixels, halved and rounded up four to nine times
    expected = theirs(images, [torch.empty(1, 1, side, side) for side in sides])[0]
    anchors, per_place = create_anchors(97)
    assert per_place == ANCHORS
    assert torch.equal(anchors[3 * 7**2 :], expected[6 * 7**2 :])
    centres = (anchors[: 3 * 7**2, :2] + anchors[: 3 * 7**2, 2:]) / 2  # of the first: row by row, three in each place
    places = [[(column + 0.5) * 97 / 7, (row + 0.5) * 97 / 7] for row in range(7) for column in range(7)]
    torch.testing.assert_close(centres, torch.tensor(places).repeat_interleave(3, 0))


def test_every_object_of_at_least_32_pixels_overlaps_an_anchor() -> None:
    """COCO calls smaller ones small."""
    corners = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * 288
    squares = torch.cat([corners, corners + 32], 1)
    assert box_iou(squares, create_anchors(320)[0]).max(1).values.min() > 1 / 3


# Outputs, losses and detections


@torch.no_grad()
@pytest.mark.parametrize("image_size", [64, 96, 97, 320])
def test_outputs_equal_torchvisions(image_size: int) -> None:
    network, images = network_with_statistics(image_size), random_images(image_size, image_size)
    theirs = their_ssd(network)
    outputs = network.outputs(images)
    expected = theirs.head(list(theirs.backbone(images).values()))
    assert outputs["cls_logits"].shape == (2, len(network.anchors), CLASSES + 1)
    for name, values in expected.items():
        assert torch.equal(outputs[name], values)
        assert torch.equal(by_name(network(images))[name], values)


@pytest.mark.parametrize("reversed_images", [False, True])
def test_losses_and_gradients_equal_torchvisions(reversed_images: bool) -> None:
    """Of an image with boxes and one without."""
    network, images, targets = network_with_statistics().train(), random_images(96, 96), two_targets()
    if reversed_images:
        targets.reverse()
    theirs = their_ssd(network)
    found, expected = network(images, targets), theirs(list(images), targets)
    assert_equal_tensors(found, expected)
    assert min(found.values()) > 0
    for losses in (found, expected):
        sum(losses.values()).backward()
    gradients = {name: weight.grad for name, weight in theirs.named_parameters()}
    for name, weight in network.named_parameters():
        assert torch.equal(weight.grad, gradients[name if name.startswith("head.") else f"backbone.{name}"]), name


@torch.no_grad()
@pytest.mark.parametrize("image_size", [96, 97])
def test_detections_equal_torchvisions(image_size: int) -> None:
    network, images = network_with_statistics(image_size), random_images(image_size, image_size)
    found, expected = network.detections(network.outputs(images)), their_ssd(network)(list(images))
    assert len(found) == 2
    for ours, theirs in zip(found, expected, strict=True):
        assert_equal_tensors(ours, theirs)
        assert len(ours["boxes"]) > 10
        assert ours["boxes"].min() >= 0 and ours["boxes"].max() <= image_size
        assert ours["labels"].min() >= 1 and ours["labels"].max() <= CLASSES


@torch.no_grad()
def test_an_image_in_which_nothing_is_likely_has_no_boxes() -> None:
    network = network_with_statistics()
    network.score_thresh = 1.0
    for found in network.detections(network.outputs(random_images(96, 96))):
        assert {name: list(values.shape) for name, values in found.items()} == {
            "boxes": [0, 4],
            "scores": [0],
            "labels": [0],
        }


def test_images_without_boxes_have_no_part_in_the_loss() -> None:
    """SSD takes three background anchors for each that is matched in the image."""
    network = network_with_statistics().train()
    losses = network(random_images(96, 96), [NO_BOXES, NO_BOXES])
    sum(losses.values()).backward()
    assert {name: loss.item() for name, loss in losses.items()} == {"bbox_regression": 0, "classification": 0}
    assert all(not weight.grad.any() for weight in network.parameters())


def test_matches_by_hand() -> None:
    network = network_with_statistics(320)
    # The anchor of 32 pixels in the second place of the first row, moved by 2; 4 x 4 pixels in the middle of the first.
    boxes = torch.tensor([[10.0, -8, 42, 24], [6, 6, 10, 10]])
    matches = network.match(boxes)
    assert torch.nonzero(matches >= 0)[:, 0].tolist() == [0, 3]
    assert matches[[0, 3]].tolist() == [1, 0]
    assert (network.match(torch.zeros(0, 4)) == -1).all()


def test_images_of_another_size_than_the_anchors_are_refused() -> None:
    with pytest.raises(ValueError, match="images of 96 x 64; the anchors are of 96 x 96"):
        network_with_statistics().outputs(random_images(96, 64))


def test_training_without_targets_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the targets"):
        network_with_statistics().train()(random_images(96, 96))


def test_losses_under_autocast_are_near_those_in_float32() -> None:
    """In channels_last too; outputs are float32, so that boxes and losses are computed in it."""
    network, images = network_with_statistics().train(), random_images(96, 96)
    expected = network(images, two_targets())
    network, images = (moved.to(memory_format=torch.channels_last) for moved in (network, images))
    with torch.autocast("cpu", torch.bfloat16):
        assert [output.dtype for output in network.outputs(images).values()] == [torch.float32] * 2
        assert network.maps(images)[0].dtype == torch.bfloat16
        losses = network(images, two_targets())
    sum(losses.values()).backward()
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name].item(), rel=0.05)


# Definition, widths and weights


@torch.no_grad()
@pytest.mark.parametrize("image_size", [96, 97])
def test_both_paddings_give_maps_of_the_same_sizes(image_size: int) -> None:
    maps = [
        network_with_statistics(image_size, each).maps(random_images(image_size, image_size))
        for each in (TORCHVISION, TENSORFLOW)
    ]
    shapes = [[list(found.shape[1:]) for found in each] for each in maps]
    sides = [6, 3, 2, 1, 1, 1] if image_size == 96 else [7, 4, 2, 1, 1, 1]
    assert shapes == [[[channels, side, side] for channels, side in zip(CHANNELS, sides, strict=True)]] * 2
    assert all(not torch.equal(*pair) for pair in zip(*maps, strict=True))


def test_definition_is_in_every_layer_that_it_is_of() -> None:
    network = SSDLite(CLASSES, definition=TENSORFLOW)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert (len(norms), {norm.eps for norm in norms}) == (52 + 4 * 3 + 6 * 2, {1e-3})
    strided = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    assert [isinstance(layer, StridedConv2d) and layer.pads_same for layer in strided] == [True] * (5 + 4)


@pytest.mark.parametrize(
    ("width", "channels"),
    [
        # 6 x 96, 1280 and the extra layers by width, each rounded as the layers of MobileNetV2
        (0.35, [192, 1280, 176, 88, 88, 48]),
        (1.0, CHANNELS),
        (1.4, [816, 1792, 720, 360, 360, 176]),
    ],
)
@torch.no_grad()
def test_other_widths(width: float, channels: list[int]) -> None:
    network = SSDLite(CLASSES, 64, width).eval()
    images = random_images(64, 64)
    assert [found.shape[1] for found in network.maps(images)] == channels
    assert network(images).shape == (2, 3 * 4**2 + 6 * (2**2 + 1 + 1 + 1 + 1), CLASSES + 5)


@pytest.mark.parametrize("width", [0.35, 1.0, 1.4])
def test_imagenet_weights_load_unchanged(width: float) -> None:
    weights = torchvision.models.mobilenet_v2(width_mult=width).state_dict()
    network = SSDLite(CLASSES, width_mult=width)
    others = {name: value.clone() for name, value in network.state_dict().items() if not name.startswith("features.")}
    load_features(network, weights, "weights.pth")
    loaded = network.state_dict()
    assert_equal_tensors(
        {name: value for name, value in loaded.items() if name.startswith("features.")},
        {name: value for name, value in weights.items() if not name.startswith("classifier.")},
    )
    assert_equal_tensors({name: loaded[name] for name in others}, others)
    assert {name.partition(".")[0] for name in loaded} == {"features", "extra", "head"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("features.3.conv.1.0.weight"), r"missing \['features.3.conv.1.0.weight'\]"),
        (lambda weights: weights.update(stem=torch.zeros(1)), r"unknown \['stem'\]"),
        (
            lambda weights: weights.update({"features.0.0.weight": torch.zeros(16, 3, 3, 3)}),
            r"features.0.0.weight is torch.float32 \[16, 3, 3, 3\], the network has torch.float32 \[32, 3, 3, 3\]",
        ),
    ],
    ids=("missing", "unknown", "misshapen"),
)
def test_other_weights_are_refused_by_name(change: Callable[[dict], object], message: str) -> None:
    weights, network = MobileNetV2().state_dict(), SSDLite(CLASSES)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    change(weights)
    with pytest.raises(ValueError, match=f"weights.pth: .*{message}"):
        load_features(network, weights, "weights.pth")
    assert_equal_tensors(network.state_dict(), before)


def test_new_layers_start_as_the_authors() -> None:
    """stddev of ssdlite_mobilenet_v2_coco.config in tensorflow/models."""
    torch.manual_seed(0)
    network = SSDLite()
    new = [layer for part in (network.extra, network.head) for layer in part.modules() if isinstance(layer, nn.Conv2d)]
    assert len(new) == 4 * 3 + 6 * 4
    assert [layer.weight.std().item() for layer in new] == pytest.approx([0.03] * len(new), rel=0.1)


@pytest.mark.parametrize("definition", [TORCHVISION, TENSORFLOW])
def test_one_image_trains_where_the_last_map_has_more_than_a_pixel(definition: Definition) -> None:
    """As the rules of its config.py have it."""
    targets = two_targets()[:1]
    losses = SSDLite(CLASSES, 513, 0.1, definition).train()(random_images(513, 513)[:1], targets)
    assert all(loss.isfinite() for loss in losses.values())
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        SSDLite(CLASSES, 512, 0.1, definition).train()(random_images(512, 512)[:1], targets)


def test_network_learns_where_the_bright_squares_are() -> None:
    torch.manual_seed(0)
    network = SSDLite(2, 64, width_mult=0.35).train()
    images, targets = 0.1 * torch.randn(4, 3, 64, 64), []
    for index, image in enumerate(images):
        left, label = 8 * index, 1 + index % 2
        image[label, 16:48, left : left + 32] += 2
        targets.append({"boxes": torch.tensor([[left, 16.0, left + 32, 48]]), "labels": torch.tensor([label])})
    optimizer = torch.optim.Adam(network.parameters(), 0.005)
    history = []
    for _ in range(25):
        optimizer.zero_grad()
        losses = network(images, targets)
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    assert all(history[-1][name] < 0.2 * history[0][name] for name in history[0]), history

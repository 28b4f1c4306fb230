# SPDX-License-Identifier: Apache-2.0
"""SSDLite (arXiv:1801.04381, section 6.2): MobileNetV2, four layers after it, and boxes predicted from six maps."""

import itertools
import math
from functools import partial
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import box_convert, box_iou

from core.folding import folded, frozen_copy
from core.fresh_weights import start_as_identities
from model import TORCHVISION, Definition, MobileNetV2, conv_bn_relu6, round_channels

EXPANDED_BLOCK = 14  # its expansion is the last layer of stride 16: what the authors call layer_15/expansion_output
EXTRA_CHANNELS = (512, 256, 256, 128)  # of each layer after the last one of MobileNetV2, at width 1.0
# Which of the found boxes stay: as in torchvision's ssdlite320_mobilenet_v3_large.
LIMITS = {"score_thresh": 0.001, "nms_thresh": 0.55, "detections_per_img": 300, "topk_candidates": 300}


def create_anchors(image_size: int) -> tuple[Tensor, list[int]]:
    """The anchors of the paper's authors, and how many there are in each place of the six maps.

    Of an image of S x S pixels: [A, 4], left, top, right, bottom in pixels, in the order of the outputs, not clipped to
    the image. With scales, the roots of the areas, as shares of S:
    first map: 0.1 with the aspect ratio 1; 0.2 with 2 and 1/2
    map k of 2 to 6: 0.2 + 0.15 (k - 1) with 1, 2, 1/2, 3 and 1/3; the root of its product with the next scale, with 1
    After the last scale, 0.95, the next is 1.
    Source: create_ssd_anchors in tensorflow/models, research/object_detection/anchor_generators. torchvision's
    ssdlite320_mobilenet_v3_large has six in each place of the first map too.
    """
    boxes = DefaultBoxGenerator([[2], *[[2, 3]] * 5], min_ratio=0.2, max_ratio=0.95, clip=False)
    sizes = boxes._wh_pairs  # those of the first map are others, for which torchvision 0.29.2 has no option
    sizes[0] = torch.cat([torch.tensor([[0.1, 0.1]]), sizes[0][2:]])
    sides = [math.ceil(image_size / 2**halvings) for halvings in range(4, 10)]  # every stride of 2 rounds up
    shares = boxes._grid_default_boxes([[side, side] for side in sides], [image_size, image_size])
    return image_size * box_convert(shares, "cxcywh", "xyxy"), [len(each) for each in sizes]


def extra_layer(in_channels: int, out_channels: int, definition: Definition) -> nn.Module:
    """[N, in, H, W] -> [N, out, H / 2, W / 2], rounded up: 1 x 1 to half of out, depthwise 3 x 3, 1 x 1.

    As the authors build them (multi_resolution_feature_maps in tensorflow/models, research/object_detection), and
    torchvision's SSDLite too.
    """
    half = out_channels // 2
    layer = nn.Sequential(
        conv_bn_relu6(in_channels, half, 1, definition),
        conv_bn_relu6(half, half, 3, definition, stride=2, groups=half),
        conv_bn_relu6(half, out_channels, 1, definition),
    )
    for convolution in layer.modules():
        if isinstance(convolution, nn.Conv2d):
            nn.init.normal_(convolution.weight, std=0.03)  # as the head's
    return layer


class SSDLite(SSD):  # type: ignore[misc]
    """Normalised images [N, 3, S, S], float -> losses while training, else outputs; see forward().

    S is `image_size`, of which the anchors are. `num_classes` counts no background, which is class 0 of the outputs.
    `features` are those of MobileNetV2 under their own names, so that its weights fit. The first of six maps is the
    expansion in block 14 (stride 16; at width 1.0 576 channels), the second what features end with (stride 32, 1280),
    the others come from `extra` (strides 64 to 512). Width scales the extra layers too, by the rule of model.py, which
    rounds to multiples of 8; the authors round them down, to 179 channels and the like.
    Head, matching, loss and choice of boxes are torchvision's: of SSD there are proposal_matcher, box_coder,
    compute_loss() and postprocess_detections(), whose `score_thresh`, `nms_thresh`, `detections_per_img` and
    `topk_candidates` may be set at any time. The loss is that of the SSD paper (arXiv:1512.02325), with softmax; the
    authors' configuration has a sigmoid for each class.
    With an `image_size` up to 512 a batch to train on needs two images: batch-norm needs two values, and the last map
    is one pixel.
    """

    def __init__(
        self,
        num_classes: int = 80,  # those of COCO
        image_size: int = 320,
        width_mult: float = 1.0,
        definition: Definition = TORCHVISION,
    ) -> None:
        features: Any = MobileNetV2(num_classes=1, width_mult=width_mult, dropout=0.0, definition=definition).features
        extra_channels = [round_channels(channels * width_mult) for channels in EXTRA_CHANNELS]
        map_channels = [features[EXPANDED_BLOCK].conv[0][0].out_channels, features[-1][0].out_channels, *extra_channels]
        anchors, per_place = create_anchors(image_size)
        norm = partial(nn.BatchNorm2d, eps=definition.batch_norm_eps)
        head = SSDLiteHead(map_channels, per_place, num_classes + 1, norm)
        # Of SSD's parts these stay: head, proposal_matcher, box_coder and the limits.
        unused = nn.Identity()
        super().__init__(unused, unused, (image_size, image_size), num_classes + 1, head=head, **LIMITS)
        del self.backbone, self.anchor_generator, self.transform
        self.image_size, self.definition = image_size, definition
        self.features: nn.Sequential = features
        pairs = itertools.pairwise(map_channels[1:])
        self.extra = nn.ModuleList(extra_layer(before, after, definition) for before, after in pairs)
        # Made once in float32. SSD makes them for every batch, their centres in the precision of the maps: in bfloat16
        # they are off by up to half a pixel of 320 (torchvision 0.29.2).
        self.register_buffer("anchors", anchors, persistent=False)

    def compile(self, *arguments: Any, **options: Any) -> None:
        """torch.compile what gives the outputs; the loss has other shapes in every step."""
        self.outputs = torch.compile(self.outputs, *arguments, **options)  # type: ignore[method-assign]

    def call(self, layers: nn.Module, x: Tensor) -> Tensor:
        """layers(x); in training core/recomputing.py puts a method here that keeps less for the gradients."""
        y: Tensor = layers(x)
        return y

    def maps(self, images: Tensor) -> list[Tensor]:
        """The six that the head reads: [N, C, side, side] of strides 16, 32, 64, 128, 256, 512."""
        block: Any = self.features[EXPANDED_BLOCK]
        x = self.call(self.features[:EXPANDED_BLOCK], images)
        maps = [self.call(block.conv[0], x)]  # the expansion
        x = self.call(block.conv[1:], maps[0])  # its stride is 2, so that it adds no input
        maps.append(self.call(self.features[EXPANDED_BLOCK + 1 :], x))
        for layer in self.extra:
            maps.append(self.call(layer, maps[-1]))
        return maps

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """For all anchors, by SSD's names for them: logits [N, A, num_classes + 1] and offsets [N, A, 4], float32.

        Offsets are SSD's: of the centre in tenths of the anchor's sides, and log ratios of the sides in fifths.
        Raises: ValueError for images of another size than the anchors.
        """
        if images.shape[2:] != (self.image_size, self.image_size):
            height, width = images.shape[2:]
            raise ValueError(f"images of {height} x {width}; the anchors are of {self.image_size} x {self.image_size}")
        maps = self.maps(images)
        return {
            "cls_logits": self.predict(self.head.classification_head, maps),
            "bbox_regression": self.predict(self.head.regression_head, maps),
        }

    def predict(self, head: Any, maps: list[Tensor]) -> Tensor:
        """head(maps) by call(), for one of the two parts of torchvision's head: float32 [N, A, columns]."""
        found = [self.call(layers, x).permute(0, 2, 3, 1) for layers, x in zip(head.module_list, maps, strict=True)]
        by_anchor = torch.cat([each.reshape(len(each), -1, head.num_columns) for each in found], 1)
        return by_anchor.to(self.anchors.dtype)  # not the bfloat16 of autocast, in which SSD would go on with the boxes

    def forward(self, images: Tensor, targets: list[dict[str, Tensor]] | None = None) -> Tensor | dict[str, Tensor]:
        """losses() in training, else outputs() in one tensor [N, A, num_classes + 5], which by_name() takes apart."""
        outputs = self.outputs(images)
        if not self.training:
            return torch.cat([outputs["cls_logits"], outputs["bbox_regression"]], dim=2)
        if targets is None:
            raise ValueError("training needs the targets of the images")
        return self.losses(outputs, targets)

    def losses(self, outputs: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The losses "bbox_regression" and "classification", each a sum over the batch divided by its matched anchors.

        targets: of each image "boxes" [K, 4], left, top, right, bottom in pixels, right > left and bottom > top, and
        "labels" [K] int64 in 1..num_classes. K may be 0.
        """
        # An image without boxes has no part in the loss: compute_loss takes three background anchors for each that is
        # matched, of the same image (torchvision 0.29.2, as in the SSD paper).
        matches = [self.match(target["boxes"]) for target in targets]
        losses: dict[str, Tensor] = self.compute_loss(targets, outputs, [self.anchors] * len(targets), matches)
        return losses

    def detections(self, outputs: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The objects of each image: "boxes" and "labels" as of losses(), "scores" [D] in 0..1, highest first."""
        count = len(outputs["cls_logits"])
        anchors, sizes = [self.anchors] * count, [(self.image_size, self.image_size)] * count
        found: list[dict[str, Tensor]] = self.postprocess_detections(outputs, anchors, sizes)
        return found

    def match(self, boxes: Tensor) -> Tensor:
        """Which of the boxes [K, 4] each anchor is to find: [A] int64, -1 for none.

        The one that overlaps it most, if by half or more (intersection over union). The anchor that a box overlaps most
        is to find that box in any case; where two boxes share it, one of them.
        """
        if len(boxes) == 0:  # which torchvision's matcher refuses
            return torch.full((len(self.anchors),), -1, device=self.anchors.device)
        return self.proposal_matcher(box_iou(boxes, self.anchors))


def by_name(outputs: Tensor) -> dict[str, Tensor]:
    """SSDLite.outputs() from the one tensor that folded() and evaluate() can take."""
    return {"cls_logits": outputs[..., :-4], "bbox_regression": outputs[..., -4:]}


def create_network(config: ModuleType, dropout: float = 0.0) -> SSDLite:
    """The network of detection/config.py with fresh weights; it has no dropout."""
    definition = Definition(config.model_padding, config.model_batch_norm_eps)
    network = SSDLite(config.model_num_classes, config.image_size, config.model_width_mult, definition)
    start_as_identities(network)
    return network


def score_form(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy to score with, as folded() makes it, unless it has TensorFlow's padding.

    Then folded() turns the image by 180 degrees, which the mean of a map does not notice, but this head would.
    """
    network = cast(SSDLite, network)
    if network.definition.padding == "same":
        return frozen_copy(network)
    return folded(network, dtype, (3, network.image_size, network.image_size))

# SPDX-License-Identifier: Apache-2.0
"""MobileNetV2 (arXiv:1801.04381): inverted residuals and linear bottlenecks."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Definition", "InvertedResidual", "MobileNetV2", "mobilenet_v2"]


class Stage(NamedTuple):
    """One row of Table 2 of the paper: a run of blocks with the same output channels."""

    expand_ratio: int  # t: hidden channels = t * input channels
    channels: int  # c: output channels at width 1.0, then round_channels()
    repeats: int  # n: blocks in the stage
    stride: int  # s: of the first block; the others use 1


OUTPUT_STRIDES = (8, 16, 32)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of `divisor`, never below it and never more than 10 % down.

    The rule of the paper's authors (make_divisible in tensorflow/models, research/slim/nets/mobilenet).
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def mean_of_map(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C], with a gradient in the memory format of x: in another one the layer before is slow."""
    if x.stride(1) == 1:  # channels_last
        return x.permute(0, 2, 3, 1).mean((1, 2))
    return x.mean((2, 3))


class ClampInPlace(torch.autograd.Function):
    """The forward and the gradient of ReLU6, in the memory of its input."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp_(0.0, 6.0)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        context.mark_dirty(inputs[0])
        context.save_for_backward(output)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return torch.ops.aten.hardtanh_backward(gradient, *context.saved_tensors, 0.0, 6.0)


class ReLU6(nn.ReLU6):
    """min(max(x, 0), 6) in place, as nn.ReLU6(inplace=True), which on the CPU clamps a copy and copies it back."""

    def __init__(self) -> None:
        super().__init__(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        # A compiler knows the operation, not the class above; a GPU does it in place, and sooner without Python's part.
        if x.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return super().forward(x)
        return ClampInPlace.apply(x) if x.requires_grad and torch.is_grad_enabled() else x.clamp_(0.0, 6.0)


class Definition(NamedTuple):
    """What weights belong to, though no state dict shows it."""

    # Of the 3 x 3 convolutions with stride 2: "symmetric", a row of zeros on every side, or "same", as TensorFlow pads.
    padding: str = "symmetric"
    batch_norm_eps: float = 1e-5


TORCHVISION = Definition()
TENSORFLOW = Definition("same", 1e-3)  # as the paper's authors published their networks, and as Keras has them


class StridedConv2d(nn.Conv2d):
    """A 3 x 3 convolution with stride 2: [N, in, H, W] -> [N, out, H / 2, W / 2], rounded up."""

    def __init__(self, in_channels: int, out_channels: int, groups: int, padding: str) -> None:
        self.pads_same = padding == "same"
        super().__init__(in_channels, out_channels, 3, 2, 0 if self.pads_same else 1, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.pads_same:
            x = pad_same(x)
        if x.device.type != "cpu" or self.groups == 1:
            return super().forward(x)
        # Depthwise in the precision of the weights: oneDNN has no fast gradient of it in bfloat16, and the four of the
        # network would take half the time of a training step.
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.to(self.weight.dtype))


class DilatedConv2d(nn.Conv2d):
    """A depthwise 3 x 3 convolution of pixels that lie apart: [N, C, H, W] -> the same."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__(channels, channels, 3, 1, dilation, dilation, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        # In bfloat16 oneDNN gives the kernel a wrong gradient: findings/torch_bfloat16_dilated_depthwise.sh
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.to(self.weight.dtype))


def pad_same(x: Tensor) -> Tensor:
    """[N, C, H, W] with the zeros that TensorFlow's padding "SAME" adds for a 3 x 3 kernel with stride 2.

    An even side gets a row below or a column to the right, an odd one gets one at both ends.
    """
    height, width = x.shape[2:]
    return nn.functional.pad(x, (width % 2, 1, height % 2, 1))


def conv_bn_relu6(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    definition: Definition,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
) -> nn.Module:
    """Convolution without bias, batch-norm, ReLU6: [N, in, H, W] -> [N, out, H / stride, W / stride].

    A `dilation` above 1 is for depthwise 3 x 3 convolutions without stride.
    """
    convolution: nn.Module
    if dilation > 1:
        convolution = DilatedConv2d(in_channels, dilation)
    elif stride == 1:
        convolution = nn.Conv2d(in_channels, out_channels, kernel_size, 1, kernel_size // 2, groups=groups, bias=False)
    else:
        convolution = StridedConv2d(in_channels, out_channels, groups, definition.padding)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels, definition.batch_norm_eps), ReLU6())


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project linearly; add the input when the shapes allow (Figure 4d of the paper).

    [N, in, H, W] -> [N, out, H / stride, W / stride]. `dilation`: how far apart the depthwise filter takes its pixels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        expand_ratio: int,
        definition: Definition = TORCHVISION,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        hidden = in_channels * expand_ratio
        self.has_skip = stride == 1 and in_channels == out_channels
        expand = [conv_bn_relu6(in_channels, hidden, 1, definition)] if expand_ratio > 1 else []
        self.conv = nn.Sequential(
            *expand,  # [N, hidden, H, W]
            conv_bn_relu6(hidden, hidden, 3, definition, stride, hidden, dilation),  # [N, hidden, H/s, W/s]
            nn.Conv2d(hidden, out_channels, kernel_size=1, bias=False),  # [N, out, H/s, W/s]
            # no activation: a ReLU here would lose information (section 3.2)
            nn.BatchNorm2d(out_channels, definition.batch_norm_eps),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.has_skip else self.conv(x)


class MobileNetV2(nn.Module):
    """The network of Table 2: normalised images [N, 3, H, W], float -> logits [N, num_classes].

    `width_mult` scales the channels of every layer; the last one keeps 1280 for widths up to 1.0 (section 4 of the
    paper). The total stride is 32: each image side should be a multiple of 32. `dropout` (probability, 0 <= p < 1)
    acts before the classifier, while training. `definition`: what the weights belong to. Names of sub-modules and the
    order of initialisation are those of torchvision.models.mobilenet_v2: the same seed gives the same weights.
    `output_stride` (8, 16 or 32): where a map is as many times smaller than the image, strides become dilations, so
    that the filters see as much of the image as before (section 6.3); the weights are the same.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        dropout: float = 0.2,
        definition: Definition = TORCHVISION,
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        if output_stride not in OUTPUT_STRIDES:
            raise ValueError(f"output_stride = {output_stride}; expected one of {OUTPUT_STRIDES}")
        channels = round_channels(STEM_CHANNELS * width_mult)
        head_channels = round_channels(HEAD_CHANNELS * max(1.0, width_mult))

        features = [conv_bn_relu6(3, channels, 3, definition, stride=2)]
        self.strides = [2]  # how many times smaller than the image the map is that each of the features gives
        dilation = 1
        for stage in STAGES:
            out_channels = round_channels(stage.channels * width_mult)
            for index in range(stage.repeats):
                stride, filter_dilation = stage.stride if index == 0 else 1, dilation
                if self.strides[-1] == output_stride:
                    # As the authors do (slim/nets/mobilenet.py): the filter whose stride goes keeps its dilation, those
                    # after it get a larger one.
                    stride, dilation = 1, dilation * stride
                block = InvertedResidual(
                    channels, out_channels, stride, stage.expand_ratio, definition, filter_dilation
                )
                features.append(block)
                self.strides.append(self.strides[-1] * stride)
                channels = out_channels
        features.append(conv_bn_relu6(channels, head_channels, 1, definition))
        self.strides.append(self.strides[-1])

        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(head_channels, num_classes))
        self._initialize_weights()

    def _initialize_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # [N, head_channels, H/32, W/32]
        return self.classifier(mean_of_map(x))  # [N, num_classes]

    def feature_maps(self, x: Tensor) -> dict[int, Tensor]:
        """The last map of each stride: normalised images [N, 3, H, W] -> {s: [N, C, H / s, W / s]}, s = 2, 4, 8, ...

        They are what features 1, 3, 6, 13 and 18 give, of 16, 24, 32, 96 and 1280 channels at width 1.0; with an
        output stride of 16 or 8 the last one is what 18 gives, and there are no larger strides.
        """
        maps = {}
        for stride, block in zip(self.strides, self.features, strict=True):
            x = block(x)
            maps[stride] = x
        return maps


def mobilenet_v2(
    num_classes: int = 1000,
    width_mult: float = 1.0,
    dropout: float = 0.2,
    definition: Definition = TORCHVISION,
    output_stride: int = 32,
) -> MobileNetV2:
    """Build a MobileNetV2; config.model_arch_name names this function."""
    return MobileNetV2(num_classes, width_mult, dropout, definition, output_stride)

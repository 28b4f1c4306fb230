# SPDX-License-Identifier: Apache-2.0
"""MobileNetV2 (arXiv:1801.04381): inverted residuals and linear bottlenecks."""

import copy
import functools
import itertools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["InvertedResidual", "MobileNetV2", "as_one_graph", "folded", "mobilenet_v2"]


class Stage(NamedTuple):
    """One row of Table 2 of the paper: a run of blocks with the same output channels."""

    expand_ratio: int  # t: hidden channels = t * input channels
    channels: int  # c: output channels at width 1.0, then round_channels()
    repeats: int  # n: blocks in the stage
    stride: int  # s: of the first block; the others use 1


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


class StridedDepthwise(nn.Conv2d):
    """A depthwise convolution with a stride, on the CPU always in the precision of its weights.

    oneDNN has no fast gradient of it in bfloat16: the four of the network would take half the time of a training step.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.to(self.weight.dtype))


def conv_bn_relu6(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Module:
    """Convolution without bias, batch-norm, ReLU6: [N, in, H, W] -> [N, out, H / stride, W / stride]."""
    layer = StridedDepthwise if groups > 1 and stride > 1 else nn.Conv2d
    return nn.Sequential(
        layer(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        ReLU6(),
    )


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project linearly; add the input when the shapes allow (Figure 4d of the paper).

    [N, in, H, W] -> [N, out, H / stride, W / stride].
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand_ratio: int) -> None:
        super().__init__()
        hidden = in_channels * expand_ratio
        self.has_skip = stride == 1 and in_channels == out_channels
        expand = [conv_bn_relu6(in_channels, hidden, kernel_size=1)] if expand_ratio > 1 else []
        self.conv = nn.Sequential(
            *expand,  # [N, hidden, H, W]
            conv_bn_relu6(hidden, hidden, kernel_size=3, stride=stride, groups=hidden),  # [N, hidden, H/s, W/s]
            nn.Conv2d(hidden, out_channels, kernel_size=1, bias=False),  # [N, out, H/s, W/s]
            nn.BatchNorm2d(out_channels),  # no activation: a ReLU here would lose information (section 3.2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.has_skip else self.conv(x)


class MobileNetV2(nn.Module):
    """The network of Table 2: normalised images [N, 3, H, W], float -> logits [N, num_classes].

    `width_mult` scales the channels of every layer; the last one keeps 1280 for widths up to 1.0 (section 4 of the
    paper). The total stride is 32: each image side should be a multiple of 32. `dropout` (probability, 0 <= p < 1)
    acts before the classifier, while training. Names of sub-modules and the order of initialisation are those of
    torchvision.models.mobilenet_v2: the same seed gives the same weights.
    """

    def __init__(self, num_classes: int = 1000, width_mult: float = 1.0, dropout: float = 0.2) -> None:
        super().__init__()
        channels = round_channels(STEM_CHANNELS * width_mult)
        head_channels = round_channels(HEAD_CHANNELS * max(1.0, width_mult))

        features = [conv_bn_relu6(3, channels, kernel_size=3, stride=2)]
        for stage in STAGES:
            out_channels = round_channels(stage.channels * width_mult)
            for index in range(stage.repeats):
                stride = stage.stride if index == 0 else 1
                features.append(InvertedResidual(channels, out_channels, stride, stage.expand_ratio))
                channels = out_channels
        features.append(conv_bn_relu6(channels, head_channels, kernel_size=1))

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


def mobilenet_v2(num_classes: int = 1000, width_mult: float = 1.0, dropout: float = 0.2) -> MobileNetV2:
    """Build a MobileNetV2; config.model_arch_name names this function."""
    return MobileNetV2(num_classes, width_mult, dropout)


def folded(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy that scores the same images faster: each batch-norm is folded into the convolution before it.

    On the CPU each ReLU6 too, and the convolutions work in `dtype`; elsewhere autocast decides, as it does where that
    gives other logits, of which a line is printed. The copy is in eval mode and cannot be trained; the network stays
    as it is.
    """
    copied = frozen_copy(network)
    if has_fused_convolution(next(copied.parameters()).device, dtype):
        probe = Probe(copied, size=32)
        fold_sequences(copied, dtype)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            is_right = probe.agrees(copied, dtype)
        for layer in copied.modules():
            if isinstance(layer, FusedConvolution):
                layer.packed = None  # for the size of the probe
        if is_right:
            return copied
        announce_other_logits("FusedConvolution", dtype)
        copied = frozen_copy(network)
    fold_sequences(copied, None)
    return copied


def frozen_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


class Probe:
    """Images, and the logits that a network gives for them: what another form of it must give too.

    They are ten times as bright and dark as photos, so that each ReLU6 has values beyond both bounds.
    """

    def __init__(self, network: nn.Module, size: int, count: int = 2) -> None:
        shape = (count, 3, size, size)
        images = 10 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        self.images = images.to(next(network.parameters()).dtype, memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            self.logits = network(self.images)

    def agrees(self, form: Callable[[Tensor], Tensor], dtype: torch.dtype) -> bool:
        """Whether a form that works in `dtype` gives the same logits but for rounding; NaN says nothing."""
        with torch.no_grad():
            difference = (form(self.images).to(self.logits.dtype) - self.logits).abs().max()
        return not difference > PROBE_TOLERANCES[dtype] * self.logits.abs().max()


# Measured, as a share of the largest logit: 2e-5 and 0.11 at most, for batch-norms with statistics of any kind; without
# one of the activations 5e-3 at least in single precision.
PROBE_TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.25}


@functools.cache  # train.py folds after every epoch
def announce_other_logits(form: str, dtype: torch.dtype) -> None:
    print(f"{form} gives other logits than the network here (in {dtype}); scoring without it, which is slower.")


def as_one_graph(network: nn.Module, image_size: int, dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
    """The same for single images on the CPU, [1, 3, S, S] -> logits in `dtype`, in half the time of folded().

    oneDNN gets the network as one graph; called for each layer, it takes as long to find its routine as to run it.
    Building the graph takes as long as a hundred images.
    Raises: RuntimeError where oneDNN cannot build it, or where it gives other logits, of which a line is printed.
    """
    copied = frozen_copy(network)
    probe = Probe(copied, image_size, count=1)
    fold_sequences(copied, None)
    copied.to(dtype)
    images = probe.images.to(dtype)
    torch.jit.enable_onednn_fusion(True)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # TorchScript is deprecated, but what is to replace it calls oneDNN for each layer.
            warnings.filterwarnings("ignore", "`torch.jit")
            graph = torch.jit.freeze(torch.jit.trace(copied, images, check_trace=False))
            for _ in range(2):  # the calls that see the shape, and build
                graph(images)
    finally:
        torch.jit.enable_onednn_fusion(False)

    def classify(images: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):  # under which the graph would be built again, by layers
            return graph(images.to(dtype))

    if not probe.agrees(classify, dtype):
        announce_other_logits("as_one_graph", dtype)
        raise RuntimeError("the graph gives other logits than the network")
    return classify


def fold_sequences(network: nn.Module, fused_dtype: torch.dtype | None) -> None:
    """fold_sequence() for each nn.Sequential of the network."""
    for sequence in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        fold_sequence(sequence, fused_dtype)


def fold_sequence(layers: nn.Sequential, fused_dtype: torch.dtype | None) -> None:
    """Fold the batch-norms of one nn.Sequential in place; its ReLU6 too if `fused_dtype` is given."""
    for index, (layer, following) in enumerate(itertools.pairwise(list(layers))):
        if not (isinstance(layer, nn.Conv2d) and isinstance(following, (nn.BatchNorm2d, nn.SyncBatchNorm))):
            continue
        layers[index], layers[index + 1] = fuse_conv_bn_eval(layer, following), nn.Identity()
        if fused_dtype is not None:
            has_relu6 = index + 2 < len(layers) and isinstance(layers[index + 2], nn.ReLU6)
            layers[index] = FusedConvolution(layers[index].to(fused_dtype), has_relu6)
            if has_relu6:
                layers[index + 2] = nn.Identity()


def has_fused_convolution(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether FusedConvolution works: it needs a torch with oneDNN, and for bfloat16 a processor that has it.

    Not the oneDNN that calls Arm's library, where torch.compile does without the operation too.
    """
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    if hasattr(torch.ops.mkldnn, "_is_mkldnn_acl_supported") and torch.ops.mkldnn._is_mkldnn_acl_supported():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class FusedConvolution(nn.Module):
    """A convolution and the ReLU6 after it as one operation of oneDNN: [N, in, H, W] -> [N, out, H / s, W / s].

    It is what torch.compile turns the two into on the CPU; calling it needs no compiler. A ReLU6 of its own reads and
    writes every activation once more: a third of the time of the network.
    """

    def __init__(self, convolution: nn.Conv2d, has_relu6: bool) -> None:
        super().__init__()
        self.convolution = convolution
        self.activation = ("hardtanh", (0.0, 6.0), "") if has_relu6 else ("none", (), "")
        self.packed: Tensor | None = None  # the weights in the order of oneDNN, which depends on the image size

    def forward(self, x: Tensor) -> Tensor:
        layer = self.convolution
        x = x.to(layer.weight.dtype)  # autocast does not know this operation
        geometry = (layer.padding, layer.stride, layer.dilation, layer.groups)
        if torch.compiler.is_compiling():
            weight = layer.weight
        else:
            if self.packed is None:  # otherwise repeated for every batch: a sixth of the time of one image
                self.packed = torch.ops.mkldnn._reorder_convolution_weight(layer.weight, *geometry, x.shape)
            weight = self.packed
        return torch.ops.mkldnn._convolution_pointwise(x, weight, layer.bias, *geometry, *self.activation)

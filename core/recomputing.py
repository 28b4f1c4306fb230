# SPDX-License-Identifier: Apache-2.0
"""The network in a form that trains on the CPU with half the memory: what costs little is computed twice, not kept.

Autograd keeps what each convolution reads, what it gives, and that after batch-norm and ReLU6. Here a block keeps its
input and what its depthwise convolution gives; the rest is computed again in the backward pass. Blocks that read small
maps keep all.

The expansion of a block reads few channels and gives six times as many. Because it is linear, mean and variance of what
it gives follow from mean and covariance of what it reads: with y = W x, mean(y) = W mean(x) and
var(y) = diag(W cov(x) W^T). So batch-norm and ReLU6 go into the convolution before it gives anything, as in scoring;
the maps with six times the channels are written once and never read for statistics. The numbers are those of the
network but for rounding.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from core.convolution_gradients import back_through_relu6, convolution_backward, convolve, gradients
from core.folding import has_fused_convolution
from core.small_maps import call_layers
from model import InvertedResidual, mean_of_map

aten = torch.ops.aten
# Pixels of the maps that a block reads, from which on computing again takes no longer than what it saves.
# Measured for blocks that read 7 x 7 to 112 x 112, 32 and 64 images at a time.
SMALLEST_MAP = 14 * 14


def recomputing(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A form of a network, or of its last blocks, that trains the same weights; where it brings nothing, the network.

    network: with `features` and `classifier`, or one with a `call`, as those of the other tasks have.
    dtype: of the convolutions. It is for the CPU, with the routines of oneDNN and batch-norms of one process; a line
    says so if these give other gradients than the network's own.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    is_plain = norms and all(type(layer) is nn.BatchNorm2d for layer in norms)
    device = next(network.parameters()).device
    if not is_plain or not has_fused_convolution(device, dtype):
        return network
    form = RecomputingMaps if hasattr(network, "call") else Recomputing
    return form(network) if gives_right_gradients(dtype) else network


class Recomputing(nn.Module):
    """Calls the layers of a network, [N, C, H, W] -> logits [N, num_classes], so that they keep little."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        # Not in a ModuleList: the layers would get a second name.
        self.parts = list_parts(list(network.get_submodule("features").children()))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or torch.compiler.is_compiling():
            logits: Tensor = self.network(x)
            return logits
        for part in self.parts:
            x = part(x) if isinstance(part, Part) else call_layers(part, x)
        logits = self.network.get_submodule("classifier")(mean_of_map(x) if x.ndim == 4 else x)
        return logits


class RecomputingMaps(nn.Module):
    """Has a network call its layers by call_sparingly(): what it takes -> what it gives.

    network: it computes self.call(layers, x) in place of layers(x).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network
        self.is_compiled = False
        # Of what was called, for listing them takes milliseconds; of a run by its layers: each slice is a new module.
        self.parts: dict[nn.Module | tuple[nn.Module, ...], list[Any]] = {}

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Compile the network instead, which may have parts that cannot be."""
        self.network.compile(*arguments, **options)
        self.is_compiled = True

    def forward(self, *inputs: Any) -> Any:
        if not self.training or self.is_compiled:
            return self.network(*inputs)
        self.network.call = self.call_sparingly
        try:
            return self.network(*inputs)
        finally:
            del self.network.call

    def call_sparingly(self, layers: nn.Module, x: Tensor) -> Tensor:
        """What a run of blocks, a block or a layer gives in training but for rounding: [N, C, H, W] -> the same."""
        key = tuple(layers) if isinstance(layers, nn.Sequential) else layers
        if key not in self.parts:
            children = list(layers.children())
            has_blocks = any(isinstance(child, InvertedResidual) for child in children)
            self.parts[key] = list_parts(children) if has_blocks else [layers]
        for part in self.parts[key]:
            x = part(x) if isinstance(part, Part) else call_layers(part, x)
        return x


class Part(NamedTuple):
    """Convolutions, each with the batch-norm that follows it; a ReLU6 lies between two of them. `blocks`: whose."""

    blocks: list[nn.Module]
    convolutions: list[nn.Conv2d]
    norms: list[nn.BatchNorm2d]
    has_skip: bool

    def __call__(self, x: Tensor) -> Tensor:
        """Autocast says how precise the maps are; the products within keep float32 where it matters."""
        if x.shape[2] * x.shape[3] < SMALLEST_MAP:
            for block in self.blocks:
                x = call_layers(block, x)
            return x
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))
        with torch.autocast("cpu", enabled=False):
            return self.compute(x)

    def compute(self, x: Tensor) -> Tensor:
        """What the last batch-norm gives, and x if there is a skip."""
        convolutions, norms = self.convolutions, self.norms
        if convolutions[0].kernel_size == (1, 1):
            expanding, filtering, *_ = convolutions
            y = Expansion.apply(x, expanding.weight, *affine(norms[0]), filtering.weight, norms[0], filtering)
            convolutions, norms = convolutions[1:], norms[1:]
        else:
            y = convolve(x, convolutions[0].weight, convolutions[0])
        for norm, convolution in zip(norms[:-1], convolutions[1:], strict=True):
            y = Activation.apply(y, *affine(norm), convolution.weight, norm, convolution)
        y = norms[-1](y)
        out: Tensor = x + y if self.has_skip else y
        return out


def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    return norm.weight, norm.bias


def list_parts(blocks: Sequence[nn.Module]) -> list[Any]:
    """What to call in turn: a Part for each block, the first convolution being in one with the block after it."""
    parts: list[Any] = []
    waiting: list[nn.Module] = []
    for block in blocks:
        if isinstance(block, InvertedResidual):
            if block.has_skip:  # in narrow networks, of the first block: what is added is what it reads itself
                parts += waiting
                waiting = []
            parts.append(create_part([*waiting, block], block.has_skip))
            waiting = []
        elif block is blocks[0] and len(blocks) > 1:
            waiting = [block]
        else:
            parts.append(block)
    return parts


def create_part(blocks: list[nn.Module], has_skip: bool) -> Part:
    layers = [layer for block in blocks for layer in block.modules()]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    return Part(blocks, convolutions, [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)], has_skip)


class Expansion(torch.autograd.Function):
    """1 x 1 convolution, batch-norm, ReLU6 and a depthwise convolution: [N, in, H, W] -> what the last one gives.

    Keeps x alone. `norm` and `filtering`: the layers of which scale, shift and kernel are; the statistics of `norm`
    move on as its own forward would move them.
    """

    @staticmethod
    def forward(
        context: Any,
        x: Tensor,
        kernel: Tensor,
        scale: Tensor,
        shift: Tensor,
        depthwise: Tensor,
        norm: nn.BatchNorm2d,
        filtering: nn.Conv2d,
    ) -> Tensor:
        rows, matrix = as_rows(x), kernel.flatten(1)
        mean_x = rows.mean(0, dtype=torch.float32)
        centred = rows - mean_x  # float32
        # Float64, as channels that go together all but cancel out; even so rounding may leave less than nothing.
        spread = matrix.double() @ (centred.t() @ centred).double().div_(len(rows))  # W cov(x)
        mean, variance = matrix @ mean_x, (spread * matrix).sum(1).clamp_(min=0.0).float()
        running_mean, running_variance, share = statistics(norm)
        running_mean.lerp_(mean, share)
        running_variance.lerp_(variance * (len(rows) / (len(rows) - 1)), share)
        inverse_deviation = (variance + norm.eps).rsqrt()
        folded_scale = scale * inverse_deviation
        folded_kernel = (folded_scale[:, None] * matrix)[:, :, None, None]
        folded_shift = shift - folded_scale * mean
        context.filtering = filtering
        context.save_for_backward(
            x, kernel, folded_scale, folded_kernel, folded_shift, inverse_deviation, mean_x, spread.float(), depthwise
        )
        return in_pieces(
            lambda piece: convolve(relu6_of_convolution(piece, folded_kernel, folded_shift), depthwise, filtering),
            x,
            len(matrix),
        )

    @staticmethod
    def backward(context: Any, *of_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """With z = (y - mean(y)) / deviation, n pixels and the gradient g of what batch-norm gives, that of y is
        scale / deviation * (g - mean(g) - z mean(g z)). As y = W x, its products with W and x need no map of y.
        """
        x, kernel, scale, folded, shift, inverse_deviation, mean_x, spread, depthwise = context.saved_tensors
        matrix, rounded, n = kernel.flatten(1), folded.to(x.dtype), x.numel() // x.shape[1]
        wants_x = context.needs_input_grad[0]

        def go_back(piece: Tensor, of_piece: Tensor) -> tuple[Any, ...]:
            active = relu6_of_convolution(piece, folded, shift)
            of_active, of_depthwise = gradients(of_piece, active, depthwise, context.filtering)
            g = back_through_relu6(of_active, active)
            del active, of_active
            of_piece, products = convolution_backward(g, piece, rounded, 1, (0, 0), (1, 1), 1, wants_x)
            return of_piece, products.float(), sums_of_rows(as_rows(g)), of_depthwise

        of_x, products, of_shift, of_depthwise = summed_pieces(go_back, x, of_outputs[0], len(matrix))
        products = products.flatten(1) - of_shift[:, None] * mean_x  # sums of g (x - mean(x))
        of_scale = (products * matrix).sum(1) * inverse_deviation  # sums of g z
        slope = of_scale * inverse_deviation
        of_kernel = scale[:, None] * (products - slope[:, None] * spread)
        if of_x is not None:
            back = rounded.float().flatten(1).t()
            mixed = back @ (slope[:, None] / n * matrix)
            of_x = of_x - convolve_plainly(x, mixed, back @ (of_shift / n) - mixed @ mean_x)
        of_kernel = laid_out(of_kernel[:, :, None, None], kernel)
        return of_x, of_kernel, of_scale, of_shift, laid_out(of_depthwise, depthwise), None, None


class Activation(torch.autograd.Function):
    """Batch-norm, ReLU6 and a convolution: [N, C, H, W] -> what that gives. Keeps what it reads alone.

    `norm` and `convolution`: the layers of which scale, shift and kernel are.
    """

    @staticmethod
    def forward(
        context: Any,
        y: Tensor,
        scale: Tensor,
        shift: Tensor,
        kernel: Tensor,
        norm: nn.BatchNorm2d,
        convolution: nn.Conv2d,
    ) -> Tensor:
        mean, variance = aten.batch_norm_update_stats(y, *statistics(norm))
        inverse_deviation = (variance + norm.eps).rsqrt()
        folded_scale = scale * inverse_deviation
        folded_shift = shift - folded_scale * mean
        context.convolution, context.eps = convolution, norm.eps
        context.save_for_backward(y, scale, folded_scale, folded_shift, mean, inverse_deviation, kernel)
        return in_pieces(
            lambda piece: convolve(relu6_of_scaled(piece, folded_scale, folded_shift), kernel, convolution),
            y,
            len(mean),
        )

    @staticmethod
    def backward(context: Any, *of_outputs: Tensor) -> tuple[Tensor | None, ...]:
        y, scale, folded_scale, folded_shift, mean, inverse_deviation, kernel = context.saved_tensors

        def go_back(piece: Tensor, of_piece: Tensor) -> tuple[Any, ...]:
            active = relu6_of_scaled(piece, folded_scale, folded_shift)
            of_active, of_kernel = gradients(of_piece, active, kernel, context.convolution)
            return back_through_relu6(of_active, active), of_kernel

        g, of_kernel = summed_pieces(go_back, y, of_outputs[0], len(mean))
        of_y, of_scale, of_shift = aten.native_batch_norm_backward(
            g, y, scale, None, None, mean, inverse_deviation, True, context.eps, (True, True, True)
        )
        return of_y, of_scale, of_shift, laid_out(of_kernel, kernel), None, None


PIECE_BYTES = 32 * 2**20  # measured from 2 MiB on: smaller ones take longer


def piece_size(x: Tensor, channels: int) -> int:
    """How many images of x give PIECE_BYTES of maps with so many channels."""
    image = channels * x.shape[2] * x.shape[3] * x.element_size()
    count = max(1, PIECE_BYTES // image)
    return len(x) if count >= len(x) else count


def in_pieces(compute: Callable[[Tensor], Tensor], x: Tensor, channels: int) -> Tensor:
    """compute(x), a few images at a time, so that what is in between needs little memory."""
    size = piece_size(x, channels)
    if size == len(x):
        return compute(x)
    return torch.cat([compute(piece) for piece in x.split(size)])


def summed_pieces(
    go_back: Callable[[Tensor, Tensor], tuple[Any, ...]], x: Tensor, of_y: Tensor, channels: int
) -> tuple[Any, ...]:
    """go_back(x, of_y) a few images at a time: its first value is of images, the others are sums over them."""
    size = piece_size(x, channels)
    if size == len(x):
        return go_back(x, of_y)
    of_images, *sums = zip(*map(go_back, x.split(size), of_y.split(size)), strict=True)
    first = None if of_images[0] is None else torch.cat(of_images)
    return first, *(torch.stack(each).sum(0) for each in sums)


def as_rows(x: Tensor) -> Tensor:
    """[N, C, H, W], channels_last -> [N * H * W, C], the same memory."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def sums_of_rows(rows: Tensor) -> Tensor:
    """[N, C] -> float32 [C]: a product takes half the time of a sum, and a fifth of that of oneDNN's own of a bias."""
    return torch.mm(rows.new_ones(1, len(rows)), rows)[0].float()


def statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, float]:
    """The running mean and variance that a batch moves, and the share it has in them; the batch is counted."""
    cast(Tensor, norm.num_batches_tracked).add_(1)
    return cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var), cast(float, norm.momentum)


def laid_out(gradient: Tensor, weight: Tensor) -> Tensor:
    """A gradient with the strides of its weight, which torch's fused optimizers and its DDP take for granted."""
    if gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight).copy_(gradient)


def relu6_of_convolution(x: Tensor, kernel: Tensor, bias: Tensor, groups: int = 1) -> Tensor:
    """min(max(a 1 x 1 convolution of x, 0), 6) in one pass of oneDNN, which takes kernel and bias in float32."""
    active: Tensor = pointwise(x, kernel, bias, *ONE_BY_ONE, groups, "hardtanh", (0.0, 6.0), "")
    return active


def relu6_of_scaled(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The same of a scale and a shift for each channel: a depthwise convolution of one pixel."""
    return relu6_of_convolution(x, scale[:, None, None, None], shift, groups=len(scale))


def convolve_plainly(x: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """A 1 x 1 convolution."""
    y: Tensor = pointwise(x, matrix[:, :, None, None], bias, *ONE_BY_ONE, 1, "none", (), "")
    return y


ONE_BY_ONE = (0, 0), (1, 1), (1, 1)  # padding, stride, dilation
pointwise = torch.ops.mkldnn._convolution_pointwise


@functools.cache
def gives_right_gradients(dtype: torch.dtype) -> bool:
    """Whether the routines do here what this module takes them for; a line says so if not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = [InvertedResidual(8, 8, 1, 6), InvertedResidual(8, 16, 2, 6)]
        images = torch.randn(4, 8, 16, 16)
    plain = probe_gradients(blocks, blocks, images, dtype)
    try:
        found = probe_gradients(list_parts(blocks), blocks, images, dtype)
        is_right = bool((found - plain).norm() < TOLERANCES[dtype] * plain.norm())
    except RuntimeError:  # a routine that this torch has not, or not so
        is_right = False
    if not is_right:
        print(
            f"Recomputing does not give the network's gradients here (in {dtype}); training takes more time and memory."
        )
    return is_right


def probe_gradients(
    parts: Sequence[Callable[[Tensor], Tensor]], blocks: list[InvertedResidual], images: Tensor, dtype: torch.dtype
) -> Tensor:
    """All gradients of the sum of the cosines of what some parts of a network give."""
    x = images.contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        y: Tensor = x
        for part in parts:
            y = part(y)
    weights = [weight for block in blocks for weight in block.parameters()]
    return torch.cat([each.flatten() for each in torch.autograd.grad(y.float().cos().sum(), [x, *weights])])


TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.2}

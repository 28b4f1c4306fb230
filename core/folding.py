# SPDX-License-Identifier: Apache-2.0
"""The same network in forms that score faster: batch-norm and ReLU6 folded into the convolutions."""

import contextlib
import copy
import functools
import itertools
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model import StridedConv2d


def folded(
    network: nn.Module, dtype: torch.dtype = torch.float32, input_shape: tuple[int, ...] = (3, 32, 32)
) -> nn.Module:
    """A copy that scores the same images faster on a CPU with oneDNN: batch-norm and ReLU6 go into the convolutions.

    They work in `dtype`. Where that gives other logits, only batch-norm is folded, and a line is printed if that gives
    the same; elsewhere nothing is, and autocast decides on the precision. The copy is in eval mode and cannot be
    trained; the network stays as it is. `input_shape`: of what it takes, to try the copy: of an image, or of the output
    of other blocks.
    """
    copied = frozen_copy(network)
    if has_fused_convolution(next(copied.parameters()).device, dtype):
        probe = Probe(copied, input_shape)
        fold_sequences(copied, dtype)
        is_right = probe.agrees(copied, dtype)
        for layer in copied.modules():
            if isinstance(layer, FusedConvolution):
                layer.packed = None  # for the size of the probe
        if is_right:
            return copied
        copied = frozen_copy(network)
        fold_sequences(copied, None)
        if probe.agrees(copied, dtype):  # else the network itself makes much of rounding, as one does that diverges
            announce_other_logits("FusedConvolution", dtype)
    return copied


def frozen_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


class Probe:
    """Images, and the logits that a network gives for them: what another form of it must give too.

    They are ten times as bright and dark as photos, so that each ReLU6 has values beyond both bounds.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...], count: int = 2) -> None:
        images = 10 * torch.randn((count, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        self.images = images.to(next(network.parameters()).dtype)
        if self.images.ndim == 4:
            self.images = self.images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            self.logits = network(self.images)

    def agrees(self, form: Callable[[Tensor], Tensor], dtype: torch.dtype) -> bool:
        """Whether a form that works in `dtype` gives the same logits but for rounding; NaN says nothing."""
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            difference = (form(self.images).to(self.logits.dtype) - self.logits).abs().max()
        return not difference > PROBE_TOLERANCES[dtype] * self.logits.abs().max()


# Measured, as a share of the largest logit: 2e-5 and 0.11 at most, for batch-norms with statistics of any kind; without
# one of the activations 5e-3 at least in single precision.
PROBE_TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.25}


@functools.cache  # train.py folds after every epoch
def announce_other_logits(form: str, dtype: torch.dtype) -> None:
    print(f"{form} gives other logits than the network here (in {dtype}); scoring without it, which is slower.")


def choose_form(
    network: nn.Module, image_size: int, dtype: torch.dtype, num_images: int, batch_size: int = 1
) -> nn.Module:
    """The form that scores `num_images` soonest, [N, 3, S, S] -> logits: that of as_one_graph() if they pay for it.

    `num_images`: of all processes, so that the form does not depend on how many these are. `batch_size`: how many come
    at once.
    """
    many = MANY_IMAGES if batch_size == 1 else MANY_PIXELS / image_size**2
    if num_images >= many and has_fused_convolution(next(network.parameters()).device, dtype):
        with contextlib.suppress(RuntimeError):
            return as_one_graph(network, image_size, dtype, choose_piece(image_size, dtype, batch_size))
    return folded(network, dtype)


def choose_piece(image_size: int, dtype: torch.dtype, batch_size: int) -> int:
    """How many images of a batch to compute at a time, so that most maps stay in the caches of the cores.

    That is as many as MAP_BYTES hold, or fewer but more than half of it, if a batch can be divided into such.
    """
    most = min(batch_size, max(1, torch.get_num_threads() * MAP_BYTES // (image_size**2 * dtype.itemsize)))
    return next((piece for piece in range(most, most // 2, -1) if batch_size % piece == 0), most)


MANY_IMAGES = 200  # one by one, from here on the graph saves more than the 0.3 to 0.5 s that it takes to build
MANY_PIXELS = 100_000_000  # the same in batches: 2,000 images of 224 pixels
MAP_BYTES = 204_800  # for each thread, of maps as large as the image: 1 of 224 pixels in float32, 2 in bfloat16


def as_one_graph(network: nn.Module, image_size: int, dtype: torch.dtype = torch.float32, piece: int = 1) -> "OneGraph":
    """The same on the CPU as one graph of oneDNN, [N, 3, S, S] -> logits in `dtype`, `piece` images at a time.

    A single image takes half the time that it takes folded(), which calls oneDNN for each layer: as long to find its
    routine as to run it.
    Raises: RuntimeError where oneDNN cannot build it, or where it gives other logits, of which a line is printed.
    """
    copied = frozen_copy(network)
    probe = Probe(copied, (3, image_size, image_size), count=piece)
    fold_sequences(copied, None)
    form = OneGraph(copied.to(dtype), probe.images.to(dtype))
    if not probe.agrees(form, dtype):
        announce_other_logits("as_one_graph", dtype)
        raise RuntimeError("the graph gives other logits than the network")
    return form


class OneGraph(nn.Module):
    """A folded network as one graph of oneDNN for images like `example`, [P, 3, S, S] in channels_last.

    The last images are filled up to P with zeros. A graph has as many threads as torch had when it was built, so there
    is one for each number of them.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.network, self.example = network, example
        self.graphs: dict[int, Callable[[Tensor], Tensor]] = {}

    def forward(self, images: Tensor) -> Tensor:
        threads, piece = torch.get_num_threads(), len(self.example)
        with torch.autocast("cpu", enabled=False):  # under which the graph would be built again, by layers
            if threads not in self.graphs:
                self.graphs[threads] = self.build()
            if missing := -len(images) % piece:
                images = torch.cat([images, images.new_zeros(missing, *images.shape[1:])])
            parts = images.contiguous(memory_format=torch.channels_last).split(piece)
            logits = torch.cat([self.graphs[threads](part.to(self.example.dtype)) for part in parts])
            return logits[: len(logits) - missing]

    def build(self) -> Callable[[Tensor], Tensor]:
        """Takes 0.3 to 0.5 s. Raises: RuntimeError where oneDNN cannot."""
        torch.jit.enable_onednn_fusion(True)
        try:
            with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
                # TorchScript is deprecated, but what is to replace it calls oneDNN for each layer.
                warnings.filterwarnings("ignore", "`torch.jit")
                traced = torch.jit.trace(self.network, self.example, check_trace=False)
                graph: Callable[[Tensor], Tensor] = torch.jit.freeze(traced)
                for _ in range(2):  # the calls that see the shape, and build
                    graph(self.example)
        finally:
            torch.jit.enable_onednn_fusion(False)
        return graph


class HalfTurn(nn.Module):
    """Images [N, C, H, W] turned upside down: by 180 degrees."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flip((2, 3))


def turn_padding(network: nn.Module) -> None:
    """Give a network with TensorFlow's padding the symmetric one, in place, which the routines of the libraries have.

    Where a side is even, a symmetric convolution with stride 2 uses the zeros above and on the left alone, TensorFlow's
    those below and on the right; where it is odd, both use all. So the network with all its kernels turned by 180
    degrees gives for the turned image what it gave before: the mean of a map does not know which way up it is. A map
    itself, of the first blocks of a network, is turned back.
    """
    strided = [layer for layer in network.modules() if isinstance(layer, StridedConv2d) and layer.pads_same]
    if not strided:
        return
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.flip((2, 3))
    for layer in strided:
        layer.pads_same, layer.padding = False, (1, 1)
    turn_back = [HalfTurn()] if getattr(network, "gives_map", False) else []
    network.features = nn.Sequential(HalfTurn(), *network.get_submodule("features").children(), *turn_back)


def fold_sequences(network: nn.Module, fused_dtype: torch.dtype | None) -> None:
    """fold_sequence() for each nn.Sequential of the network, whose padding becomes symmetric."""
    turn_padding(network)
    for sequence in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        fold_sequence(sequence, fused_dtype)


def fold_sequence(layers: nn.Sequential, fused_dtype: torch.dtype | None) -> None:
    """Fold the batch-norms of one nn.Sequential in place; its ReLU6 too if `fused_dtype` is given."""
    for index, (layer, following) in enumerate(itertools.pairwise(list(layers))):
        if not (isinstance(layer, nn.Conv2d) and isinstance(following, (nn.BatchNorm2d, nn.SyncBatchNorm))):
            continue
        convolution = fuse_conv_bn_eval(layer, following)
        layers[index], layers[index + 1] = convolution, nn.Identity()
        if fused_dtype is not None:
            has_relu6 = index + 2 < len(layers) and isinstance(layers[index + 2], nn.ReLU6)
            layers[index] = FusedConvolution(convolution.to(fused_dtype), has_relu6)
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


def has_native_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16, and does not only convert to it."""
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


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
        filtered: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, layer.bias, *geometry, *self.activation)
        return filtered

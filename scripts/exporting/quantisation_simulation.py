# SPDX-License-Identifier: Apache-2.0
"""A network that computes as in int8, with weights that can be trained (torchao's pt2e, the layers of XNNPACK)."""

import copy
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule

from model import ReLU6, StridedConv2d, pad_same

SMALLEST_SCALE = 2**-12  # as XNNPACK's own settings have it


class PaddedConv2d(nn.Conv2d):
    """TensorFlow's padding in a form that can be exported: [N, in, H, W] -> [N, out, H / 2, W / 2], rounded up."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x))


class TrainableNetwork(nn.Module):
    """The network under the names of its weights, in layers that can be exported; batch-norm stays.

    nn.ReLU stands for ReLU6 until the quantisers have their places: they take it for a part of the convolution.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        copied = copy.deepcopy(network).cpu()
        self.features, self.classifier = copied.get_submodule("features"), copied.get_submodule("classifier")
        for name, layer in list(self.named_modules()):
            if isinstance(layer, ReLU6):
                self.set_submodule(name, nn.ReLU())
            elif isinstance(layer, StridedConv2d):
                kind, padding = (PaddedConv2d, 0) if layer.pads_same else (nn.Conv2d, 1)
                channels = layer.in_channels, layer.out_channels
                self.set_submodule(name, kind(*channels, 3, 2, padding, groups=layer.groups, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        x = self.features(images).mean((2, 3), keepdim=True).flatten(1)
        logits: Tensor = self.classifier(x)
        return logits


class SimulatedInt8(nn.Module):
    """What computes with the weights of a network as in int8: images [N, 3, S, S] -> logits [N, C].

    Parameters and buffers are those of the network, batch-norm's statistics included: training changes them there.
    """

    graph: GraphModule

    def __init__(self, network: nn.Module, graph: GraphModule) -> None:
        super().__init__()
        self.network = network
        self.__dict__["graph"] = graph  # not a part: it has weights of its own, which are not used

    def train(self, mode: bool = True) -> "SimulatedInt8":
        """Choose batch-norm's mode, in the graph too."""
        self.graph.train(mode)
        super().train(mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        if len(images) == 1 and not self.training:  # the graph was made for two images or more
            return self.forward(images.repeat(2, 1, 1, 1))[:1]
        tensors = dict(self.network.named_parameters()) | dict(self.network.named_buffers())
        logits: Tensor = functional_call(self.graph, tensors, (images,))
        return logits


def simulating_graph(network: nn.Module, calibration: Iterable[Tensor], image_size: int) -> GraphModule:
    """The graph for SimulatedInt8, whose ranges are those of the network on normalised images [N, 3, S, S].

    The ranges stay: what a step computes is then a function of the weights alone, and training can be resumed exactly.
    """
    from torchao.quantization.pt2e import allow_exported_model_train_eval

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of both libraries, about what they call themselves
        graph = prepared_graph(network, image_size)
        allow_exported_model_train_eval(graph)
    simulated = SimulatedInt8(network, graph).eval()
    set_quantisers(graph, lambda _: (True, False))
    with torch.no_grad():
        for images in calibration:
            simulated(images)
    set_quantisers(graph, lambda is_of_weights: (is_of_weights, True))
    return graph


def prepared_graph(network: nn.Module, image_size: int) -> GraphModule:
    """The network with a quantiser wherever int8 rounds."""
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    images = torch.zeros(2, 3, image_size, image_size)
    shapes = ({0: torch.export.Dim("batch", min=2)},)
    exported = torch.export.export(TrainableNetwork(network).train(), (images,), dynamic_shapes=shapes)
    graph: GraphModule = prepare_qat_pt2e(exported.module(), create_quantiser())
    for node in graph.graph.nodes:
        if node.target in (torch.ops.aten.relu.default, torch.ops.aten.relu_.default):
            node.target, node.args = torch.ops.aten.hardtanh.default, (node.args[0], 0.0, 6.0)
    graph.recompile()
    return graph


def create_quantiser() -> Any:
    """As the exports quantise: weights by channel and symmetric, activations between their extremes."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import QuantizationConfig, XNNPACKQuantizer
    from torchao.quantization.pt2e import (
        FakeQuantize,
        FusedMovingAvgObsFakeQuantize,
        MinMaxObserver,
        MovingAveragePerChannelMinMaxObserver,
    )
    from torchao.quantization.pt2e.quantizer import QuantizationSpec

    activations = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=FakeQuantize.with_args(observer=MinMaxObserver, eps=SMALLEST_SCALE),
    )
    weights = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(
            observer=MovingAveragePerChannelMinMaxObserver,
            averaging_constant=1.0,  # the weights as they are now, none of before
            eps=SMALLEST_SCALE,
        ),
    )
    return XNNPACKQuantizer().set_global(QuantizationConfig(activations, activations, weights, None, is_qat=True))


def set_quantisers(graph: GraphModule, choose: Callable[[bool], tuple[bool, bool]]) -> None:
    """Let each quantiser observe and round as `choose` says for one of weights or of activations."""
    from torchao.quantization.pt2e import FakeQuantizeBase

    for quantiser in graph.modules():
        if isinstance(quantiser, FakeQuantizeBase):
            observes, rounds = choose(quantiser.ch_axis != -1)
            quantiser.enable_observer(observes)
            quantiser.enable_fake_quant(rounds)

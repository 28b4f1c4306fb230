# SPDX-License-Identifier: Apache-2.0
"""A network that computes as in int8, with weights that can be trained (torchao's pt2e, the layers of XNNPACK)."""

import copy
import warnings
from functools import partial
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
    Raises: FloatingPointError if a value between the layers is infinite or NaN.
    """

    graph: GraphModule

    def __init__(self, network: nn.Module, graph: GraphModule) -> None:
        super().__init__()
        self.network = network
        self.__dict__["graph"] = graph  # not a part: it has weights of its own, which are not used
        self.observers = [module for name, module in graph.named_modules() if name.endswith(".activation_post_process")]

    def train(self, mode: bool = True) -> "SimulatedInt8":
        """Choose batch-norm's mode, in the graph too."""
        self.graph.train(mode)
        super().train(mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        if len(images) == 1 and not self.training:  # the graph was made for two images or more
            return self.forward(images.repeat(2, 1, 1, 1))[:1]
        for observer in self.observers:  # of what came before not even a rounding error may stay
            observer.get_buffer("min_val").fill_(torch.inf)
            observer.get_buffer("max_val").fill_(-torch.inf)
        tensors = dict(self.network.named_parameters()) | dict(self.network.named_buffers())
        try:
            logits: Tensor = functional_call(self.graph, tensors, (images,))
        except RuntimeError as error:
            if "zero_point" not in str(error):
                raise
            raise FloatingPointError(
                "a value became infinite or NaN while int8 was simulated; lower model_lr in config.py"
            ) from error
        return logits


def simulating_graph(network: nn.Module, image_size: int) -> GraphModule:
    """The graph for SimulatedInt8 and images of a size.

    All ranges are those of the images of one batch, and of the weights as they are: what a step computes is then a
    function of both alone, so that training can be resumed exactly, and they are found as the exports find theirs.
    """
    from torchao.quantization.pt2e import allow_exported_model_train_eval

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of both libraries, about what they call themselves
        graph = prepared_graph(network, image_size)
        allow_exported_model_train_eval(graph)
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
    """As the exports quantise: weights by channel and symmetric, activations between their extremes.

    The largest weight of a channel has 127 steps; in ONNX and OpenVINO some have fewer (rounding.steps_of_pairs).
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import QuantizationConfig, XNNPACKQuantizer
    from torchao.quantization.pt2e import (
        FusedMovingAvgObsFakeQuantize,
        MovingAverageMinMaxObserver,
        MovingAveragePerChannelMinMaxObserver,
    )
    from torchao.quantization.pt2e.quantizer import QuantizationSpec

    # The values as they are now, none of before.
    quantiser = partial(FusedMovingAvgObsFakeQuantize.with_args, averaging_constant=1.0, eps=SMALLEST_SCALE)
    activations = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=quantiser(observer=MovingAverageMinMaxObserver),
    )
    weights = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=quantiser(observer=MovingAveragePerChannelMinMaxObserver),
    )
    return XNNPACKQuantizer().set_global(QuantizationConfig(activations, activations, weights, None, is_qat=True))

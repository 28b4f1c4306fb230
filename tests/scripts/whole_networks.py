# SPDX-License-Identifier: Apache-2.0
"""Whole networks as files of TensorFlow Lite and ONNX."""

import itertools
import warnings
from pathlib import Path

import numpy as np
import torch
from tflite_models import TfliteModel
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model import InvertedResidual, MobileNetV2

RELU6 = 3


class NetworkModel(TfliteModel):
    """MobileNetV2 with TensorFlow's padding, batch-norm folded, as TensorFlow's converter writes it."""

    def __init__(self, network: MobileNetV2, size: int, has_int8: bool = False) -> None:
        """`has_int8`: weights in int8 with a scale for each channel, values in float."""
        super().__init__([1, size, size, 3])
        self.side, self.has_int8, self.value = size, has_int8, 0
        self.stored: list[Tensor] = []  # the numbers that the weights of the convolutions stand for
        for block in network.features:
            start = self.value
            self.add_block(block)
            if isinstance(block, InvertedResidual) and block.has_skip:
                shape = self.graph.tensors[start].shape
                self.value = self.add("ADD", [start, self.value], self.add_tensor(shape), "AddOptions")
        self.add_classifier(network.classifier[1])

    def add_block(self, block: nn.Module) -> None:
        modules = [module for module in block.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.ReLU6))]
        for layer, norm, following in itertools.zip_longest(modules, modules[1:], modules[2:]):
            if isinstance(layer, nn.Conv2d):
                self.add_convolution(fuse_conv_bn_eval(layer, norm), isinstance(following, nn.ReLU6))

    def add_convolution(self, layer: nn.Conv2d, has_relu6: bool) -> None:
        is_depthwise, (stride, _) = layer.groups > 1, layer.stride
        weight = layer.weight.permute(1, 2, 3, 0) if is_depthwise else layer.weight.permute(0, 2, 3, 1)
        self.side = -(-self.side // stride)
        constants = [self.add_weight(weight.numpy(), 3 if is_depthwise else 0), self.add_constant(layer.bias.numpy())]
        kind, options = ("DEPTHWISE_CONV_2D", "Depthwise") if is_depthwise else ("CONV_2D", "")
        settings = {"strideH": stride, "strideW": stride, "fusedActivationFunction": RELU6 * has_relu6}
        settings |= {"depthMultiplier": 1} if is_depthwise else {}
        output = self.add_tensor([1, self.side, self.side, layer.out_channels])
        version = (6 if is_depthwise else 5) if self.has_int8 else 1
        self.value = self.add(kind, [self.value, *constants], output, f"{options}Conv2DOptions", version, **settings)

    def add_weight(self, weight: np.ndarray, axis: int) -> int:
        weight = np.ascontiguousarray(weight)
        if not self.has_int8:
            return self.add_constant(weight)
        others = tuple(place for place in range(4) if place != axis)
        scales = np.abs(weight).max(others) / np.float32(127)
        shape = np.where(np.arange(4) == axis, -1, 1)
        integers = np.round(weight / scales.reshape(shape)).astype(np.int8)
        numbers = torch.from_numpy(integers.astype(np.float32) * scales.reshape(shape))
        self.stored.append(numbers.permute(3, 0, 1, 2) if axis == 3 else numbers.permute(0, 3, 1, 2))
        return self.add_constant(integers, scales, axis=axis)

    def add_classifier(self, layer: nn.Linear) -> None:
        pooled, logits = self.add_tensor([1, layer.in_features]), self.add_tensor([1, layer.out_features])
        axes = self.add_constant(np.array([1, 2], np.int32))
        self.add("MEAN", [self.value, axes], pooled, "ReducerOptions", keepDims=False)
        constants = [self.add_constant(layer.weight.detach().numpy()), self.add_constant(layer.bias.detach().numpy())]
        self.add("FULLY_CONNECTED", [pooled, *constants], logits, "FullyConnectedOptions")


def export_onnx(
    network: nn.Module, path: Path, size: int, keeps_batch_norm: bool = False, opset: int = 17, is_fixed: bool = True
) -> Path:
    """As torch.onnx.export() writes it, which folds batch-norm where it is not told to keep it.

    `is_fixed`: for images of that size alone.
    """
    mode = torch.onnx.TrainingMode.PRESERVE if keeps_batch_norm else torch.onnx.TrainingMode.EVAL
    with warnings.catch_warnings(action="ignore"):  # the exporter that needs no other package is deprecated
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, 3, size, size),),
            path,
            dynamo=False,
            training=mode,
            opset_version=opset,
            input_names=["x"],
            dynamic_axes=None if is_fixed else {"x": {2: "height", 3: "width"}},
        )
    return path

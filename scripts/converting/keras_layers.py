# SPDX-License-Identifier: Apache-2.0
"""What each layer of Keras does, in the words of graphs.py."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from converting.graph_builder import NHWC, POOLED, GraphBuilder, NotOursError, Value, require, scale_of
from converting.graphs import SAME, SIGMOID, SOFTMAX
from converting.keras_models import KerasLayer
from converting.keras_weights import Weights, to_torch

# Layers that do nothing in scoring.
INACTIVE = (
    *("InputLayer", "Output", "Identity", "Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout"),
    *("AlphaDropout", "ActivityRegularization", "RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation"),
    *("RandomContrast", "RandomBrightness", "RandomHeight", "RandomWidth", "RandomShear", "RandomHue", "RandomErasing"),
    *("RandomSaturation", "RandomColorJitter", "RandomSharpness", "RandomGrayscale", "RandomColorDegeneration"),
    *("RandomPosterization", "RandomGaussianBlur", "RandomInvert", "RandomPerspective", "RandomElasticTransform"),
)
# What Keras 3 and Keras 2 call operations with a number, and ONNX does.
ARITHMETIC = {
    **{"Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "TrueDivide": "Div", "Divide": "Div"},
    **{"math.add": "Add", "math.subtract": "Sub", "math.multiply": "Mul", "math.truediv": "Div", "math.divide": "Div"},
    **{"__operators__.add": "Add", "cast": "", "identity": ""},
}


def add_layer(builder: GraphBuilder, layer: KerasLayer, weights: Weights) -> None:
    """Add what a layer does. Raises: ValueError where its weights are not there, LookupError where a setting is not."""
    quantised = layer.settings.get("dtype")
    if isinstance(quantised, dict) and "Quantized" in str(quantised.get("class_name")):
        raise ValueError(f"its layer {layer.place[-1][:80]!r} was quantised by Keras; save the model from before that")
    try:
        if layer.kind == "InputLayer" and not layer.inputs:
            builder.values[layer.output] = Value(NHWC, size_of(layer))
        elif layer.kind in INACTIVE:
            require(len(layer.inputs) == 1)
            builder.add_nothing(layer.output, layer.inputs[0], layer.output)
        elif layer.kind in LAYERS:
            require(len(layer.inputs) == 1)
            LAYERS[layer.kind](builder, layer, weights)
        else:
            add_arithmetic(builder, layer)
    except NotOursError:
        builder.add_other(layer.kind, layer.output, layer.inputs, layer.output)


def size_of(layer: KerasLayer) -> tuple[int, int] | None:
    """Height and width of the input, if they are fixed. Raises: ValueError if it is no image."""
    shape = layer.settings.get("batch_shape") or layer.settings.get("batch_input_shape")
    if not isinstance(shape, (list, tuple)) or len(shape) != 4 or shape[3] != 3:
        raise ValueError(f"its input has the shape {str(shape)[:80]}, images have [None, height, width, 3]")
    height, width = shape[1:3]
    return (height, width) if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0 else None


def require_channels_last(layer: KerasLayer) -> None:
    require(layer.settings.get("data_format") in (None, "channels_last"))


def add_convolution(builder: GraphBuilder, layer: KerasLayer, weights: Weights) -> None:
    use, is_depthwise = layer.settings, layer.kind == "DepthwiseConv2D"
    require_channels_last(layer)
    require(use["padding"] in ("same", "valid"))
    tensors = kernel_of(layer, weights, is_depthwise)
    groups = len(tensors["weight"]) // int(use.get("depth_multiplier", 1)) if is_depthwise else use.get("groups", 1)
    settings = {
        "stride": pair(use["strides"]),
        "dilation": pair(use.get("dilation_rate", 1)),
        "groups": int(groups),
        "padding": SAME if use["padding"] == "same" else (0, 0, 0, 0),
    }
    before = value_before_activation(layer)
    builder.add_convolution(layer.output, layer.inputs[0], before, tensors, settings)
    add_activation(builder, layer, before)


def add_dense(builder: GraphBuilder, layer: KerasLayer, weights: Weights) -> None:
    before = value_before_activation(layer)
    builder.add_linear(layer.output, layer.inputs[0], before, kernel_of(layer, weights, is_depthwise=False))
    add_activation(builder, layer, before)


def kernel_of(layer: KerasLayer, weights: Weights, is_depthwise: bool) -> dict[str, Tensor]:
    """Weight and bias of a layer in torch's order of axes, float32."""
    names = ["kernel", "bias"] if layer.settings.get("use_bias", True) else ["kernel"]
    found = weights.of(layer, names)
    require(found["kernel"].ndim in (2, 4) and found["kernel"].is_floating_point())
    tensors = {"weight": to_torch(found["kernel"], is_depthwise).float()}
    return tensors | ({"bias": found["bias"].float()} if "bias" in found else {})


def add_batch_norm(builder: GraphBuilder, layer: KerasLayer, weights: Weights) -> None:
    use = layer.settings
    require(use.get("axis", -1) in (-1, 3, [-1], [3]))
    names = ["gamma"] * bool(use.get("scale", True)) + ["beta"] * bool(use.get("center", True))
    found = weights.of(layer, [*names, "moving_mean", "moving_variance"])
    mean = found["moving_mean"].float()
    tensors = {
        "weight": found.get("gamma", torch.ones_like(mean)).float(),
        "bias": found.get("beta", torch.zeros_like(mean)).float(),
        "running_mean": mean,
        "running_var": found["moving_variance"].float(),
    }
    builder.add_batch_norm(layer.output, layer.inputs[0], layer.output, tensors, float(use["epsilon"]))


def value_before_activation(layer: KerasLayer) -> str:
    return layer.output if activation_of(layer) == "linear" else f"{layer.output} before its activation"


def activation_of(layer: KerasLayer) -> str:
    """The name of the function in a layer: a word, or an object of Keras in which it is."""
    named = layer.settings.get("activation", "linear")
    if isinstance(named, dict):
        inside = named.get("config")
        named = inside if isinstance(inside, str) else str(named.get("class_name"))
    return str(named or "linear").lower()


def add_activation(builder: GraphBuilder, layer: KerasLayer, source: str) -> None:
    kind = activation_of(layer)
    if source == layer.output:
        return
    if kind == "relu6":
        builder.add_clip(kind, layer.output, source, layer.output, 0, 6)
    elif kind in (SOFTMAX, SIGMOID):
        builder.add(kind, layer.output, [source], layer.output, Value(POOLED, None))
    else:
        builder.add_other(kind, layer.output, [source], layer.output)


def add_activation_layer(builder: GraphBuilder, layer: KerasLayer, _: Weights) -> None:
    if activation_of(layer) == "linear":
        builder.add_nothing(layer.output, layer.inputs[0], layer.output)
    else:
        add_activation(builder, layer, layer.inputs[0])


def add_softmax(builder: GraphBuilder, layer: KerasLayer, _: Weights) -> None:
    require(layer.settings.get("axis", -1) in (-1, 1) and builder.value(layer.inputs[0]).layout == POOLED)
    builder.add(SOFTMAX, layer.output, layer.inputs, layer.output, Value(POOLED, None))


def add_relu(builder: GraphBuilder, layer: KerasLayer, _: Weights) -> None:
    use = layer.settings
    require(not use.get("negative_slope") and not use.get("threshold"))
    highest = np.inf if use.get("max_value") is None else float(use["max_value"])
    what = "ReLU" if highest == np.inf else f"ReLU up to {highest:g}"
    builder.add_clip(what, layer.output, layer.inputs[0], layer.output, 0, highest)


def add_zero_padding(builder: GraphBuilder, layer: KerasLayer, _: Weights) -> None:
    require_channels_last(layer)
    padding = layer.settings["padding"]
    sides = [pair(side) for side in ([padding, padding] if isinstance(padding, int) else padding)]
    before, after = ([0, sides[0][end], sides[1][end], 0] for end in (0, 1))
    builder.add_padding(layer.output, layer.inputs[0], layer.output, before, after)


def add_pooling(builder: GraphBuilder, layer: KerasLayer, _: Weights) -> None:
    require_channels_last(layer)
    builder.add_mean(layer.output, layer.inputs[0], layer.output, (1, 2), bool(layer.settings.get("keepdims")))


def add_reshaping(builder: GraphBuilder, layer: KerasLayer, _: Weights) -> None:
    builder.add_reshaping(layer.output, layer.inputs[0], layer.output)


def add_rescaling(builder: GraphBuilder, layer: KerasLayer, _: Weights) -> None:
    factor, shift = (np.asarray(layer.settings.get(name, 0.0), np.float64) for name in ("scale", "offset"))
    builder.add_scale(layer.output, layer.inputs[0], layer.output, factor, shift)


def add_normalization(builder: GraphBuilder, layer: KerasLayer, weights: Weights) -> None:
    use = layer.settings
    require(not use.get("invert"))
    found: dict[str, Any] = {name: use.get(name) for name in ("mean", "variance")}
    if found["mean"] is None:
        found = weights.of(layer, ["mean", "variance"])
    mean, variance = (np.asarray(found[name], np.float64) for name in ("mean", "variance"))
    factor = 1 / np.maximum(np.sqrt(variance), 1e-7)  # the least that Keras divides by
    builder.add_scale(layer.output, layer.inputs[0], layer.output, factor, -mean * factor)


def add_arithmetic(builder: GraphBuilder, layer: KerasLayer) -> None:
    """Two values added, or one and a number."""
    kind = ARITHMETIC.get(str(layer.settings.get("function", layer.kind)))
    require(kind is not None)
    if not kind:
        builder.add_nothing(layer.output, layer.inputs[0], layer.output)
    elif len(layer.inputs) == 2 and kind == "Add":
        builder.add_sum(layer.output, layer.inputs, layer.output)
    else:
        require(len(layer.inputs) == 1 and len(layer.constants) == 1)
        factor, shift = scale_of(kind, np.asarray(layer.constants[0]), not layer.tensor_first)
        builder.add_scale(layer.output, layer.inputs[0], layer.output, factor, shift)


def pair(value: Any) -> tuple[int, int]:
    """A setting for height and width, which can be one number for both."""
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


LAYERS: dict[str, Callable[[GraphBuilder, KerasLayer, Weights], None]] = {
    **dict.fromkeys(("Conv2D", "DepthwiseConv2D"), add_convolution),
    **{"Dense": add_dense, "BatchNormalization": add_batch_norm, "ReLU": add_relu, "Softmax": add_softmax},
    **{"Activation": add_activation_layer, "ZeroPadding2D": add_zero_padding, "GlobalAveragePooling2D": add_pooling},
    **{"Rescaling": add_rescaling, "Normalization": add_normalization},
    **dict.fromkeys(("Flatten", "Reshape"), add_reshaping),
}

# SPDX-License-Identifier: Apache-2.0
"""A network as the formats that hold programs give it (Keras, TensorFlow Lite, ONNX): operations and what joins them.

The readers of the formats say in these words what a file holds; matching.py finds the MobileNetV2 in it.
"""

from typing import Any, NamedTuple

from torch import Tensor

# What an operation can be. Each has the tensors and the settings named here, in torch's shapes and order of axes,
# whatever the file has; images are [N, C, H, W] in all of them.
CONVOLUTION = "convolution"  # tensors weight [out, in / groups, height, width], bias [out] if any; settings
#                              stride (vertical, horizontal), dilation likewise, groups, padding: SAME or as PAD
BATCH_NORM = "batch-norm"  # tensors weight, bias, running_mean, running_var [C]; settings eps
RELU6 = "relu6"
ADD = "add"  # of two values
PAD = "pad"  # with zeros; settings padding (top, bottom, left, right) in pixels
MEAN = "mean"  # of a map, [N, C, H, W] -> [N, C] or [N, C, 1, 1]
LINEAR = "linear"  # tensors weight [out, in], bias [out] if any
SOFTMAX, SIGMOID = "softmax", "sigmoid"
SCALE = "scale"  # value * tensors factor + tensors shift, of 1 value or of one a channel
NOTHING = "nothing"  # what changes no value in scoring: dropout, a cast, another shape or order of axes
OTHER = "other"  # all that MobileNetV2 does not have; settings what: the name that the format has for it

SAME = "same"  # TensorFlow's padding: ceil(size / stride) results, the odd row and column below and to the right


class Operation(NamedTuple):
    """One operation of a network."""

    kind: str
    name: str  # for people: as the file has it
    inputs: tuple[str, ...]  # names of values, without those that are in `tensors`
    output: str
    tensors: dict[str, Tensor]
    settings: dict[str, Any]


class Graph(NamedTuple):
    """The operations of a file, in an order in which they can be run."""

    operations: list[Operation]
    input: str  # the value that is an image
    output: str
    image_size: tuple[int, int] | None  # height and width of the input; None if it may have any
    normalisation: tuple[list[float], list[float]] | None  # mean and std of images from 0 to 1, where the file says so
    notes: list[str]  # lines for people about what was found, as that int8 values became numbers again

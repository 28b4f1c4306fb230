# SPDX-License-Identifier: Apache-2.0
"""What a .mlpackage computes, by its own content and Apple's definitions of the operations, in torch.

Core ML runs on Apple's systems alone. This shows that weights, order and parameters in the file are those of the
network; it does not show what Core ML makes of them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from exporting.requests import LEVEL_INPUT, Request
from exporting.silence import silence

TOLERANCE = 1e-5  # of the largest logit, and of 10 where that is smaller: rounding in another order
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


def check(path: Path, request: Request, levels: np.ndarray) -> dict[str, Any]:
    """Figures of a file for images, uint8 levels [N, S, S, 3]. Raises: ValueError if it has another network.

    No accuracy is among them: nothing ran in Core ML.
    """
    operations = read_operations(path)
    given = torch.from_numpy(request.inputs(levels))
    with torch.inference_mode():
        # One by one, as the file takes them: for several at once a processor may have kernels that round otherwise.
        expected = torch.cat([request.network(image[None]) for image in given])
        if request.choices.input == LEVEL_INPUT:
            given = given.permute(0, 3, 1, 2)  # Core ML hands an image over as float32, 0 to 255
        found = torch.cat([compute(operations, image[None].float()) for image in given])
    difference, largest = (found - expected).abs().max().item(), expected.abs().max().item()
    if not difference <= TOLERANCE * max(10.0, largest):
        raise ValueError(f"{path.name}: what it holds differs from the network by {difference:.1e}; refused")
    kinds = [kind for kind, _, _ in operations]
    counts = {f"{kind}_operations": kinds.count(kind) for kind in ("conv", "linear")}
    return {"images": len(found), "largest_difference": difference, "largest_logit": largest, **counts}


def read_operations(path: Path) -> list[tuple[str, dict[str, Any], str]]:
    """The operations of a file in their order: kind, arguments by name, name of the output.

    An argument is a value, or the name of an earlier output.
    """
    with silence():
        from coremltools.libmilstoragepython import _BlobStorageReader
        from coremltools.models.utils import load_spec

        function = load_spec(str(path)).mlProgram.functions["main"]
        storage = _BlobStorageReader(str(path / WEIGHTS))
    constants: dict[str, Any] = {}
    operations = []
    for operation in function.block_specializations[function.opset].operations:
        if operation.type == "classify":  # gives the probabilities their labels
            break
        (output,) = [named.name for named in operation.outputs]
        if operation.type == "const":
            constants[output] = read_value(operation.attributes["val"], storage)
            continue
        arguments = {}
        for key, argument in operation.inputs.items():
            (bound,) = argument.arguments
            is_value = bound.WhichOneof("binding") == "value"
            name = bound.name
            arguments[key] = read_value(bound.value, storage) if is_value else constants.get(name, name)
        operations.append((operation.type, arguments, output))
    return operations


def read_value(value: Any, storage: Any) -> Any:
    """A constant: float32 as a tensor, anything else as a list, or as a string or number where it has no shape."""
    shape = [dimension.constant.size for dimension in value.type.tensorType.dimensions]
    if value.WhichOneof("value") == "blobFileValue":
        floats = np.array(storage.read_float_data(value.blobFileValue.offset), np.float32)
        return torch.from_numpy(floats).view(shape)
    tensor = value.immediateValue.tensor
    kind = tensor.WhichOneof("value")
    values = list(getattr(tensor, kind).values)
    if kind == "floats":
        return torch.tensor(values).view(shape)
    return values if shape else values[0]


def compute(operations: list[tuple[str, dict[str, Any], str]], images: Tensor) -> Tensor:
    """Logits or probabilities [1, C] for one image [1, 3, S, S]. Raises: ValueError for an operation that is new."""
    values, result = {"images": images}, images
    for kind, arguments, output in operations:
        if kind not in OPERATIONS:
            raise ValueError(f"the converter wrote the operation {kind}, which this network does not have")
        given = {key: values.get(value, value) if isinstance(value, str) else value for key, value in arguments.items()}
        values[output] = result = OPERATIONS[kind](**given)
    return result


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    strides: list[int],
    pad_type: str,
    pad: list[int],
    dilations: list[int],
    groups: int,
) -> Tensor:
    """The custom padding: rows above, below, columns left, right."""
    if pad_type == "custom":
        x = functional.pad(x, (*pad[2:], *pad[:2]))
    elif pad_type != "valid":
        raise ValueError(f"the converter wrote a convolution with padding {pad_type}, which this network does not have")
    return functional.conv2d(x, weight, bias, tuple(strides), 0, tuple(dilations), groups)


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "mul": lambda x, y: x * y,
    "sub": lambda x, y: x - y,
    "add": lambda x, y: x + y,
    "conv": convolve,
    "clip": lambda x, alpha, beta: x.clamp(alpha, beta),
    "reduce_mean": lambda x, axes, keep_dims: x.mean(axes, keepdim=keep_dims),
    "reshape": lambda x, shape: x.reshape(shape),
    "linear": functional.linear,
    "softmax": lambda x, axis: x.softmax(axis),
}

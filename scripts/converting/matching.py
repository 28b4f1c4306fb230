# SPDX-License-Identifier: Apache-2.0
"""Finding MobileNetV2 in a graph, operation by operation: its layers in order, and what no state dict shows."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from converting.facts import Facts
from converting.graphs import (
    ADD,
    BATCH_NORM,
    CONVOLUTION,
    LINEAR,
    MEAN,
    NOTHING,
    OTHER,
    PAD,
    RELU6,
    SAME,
    SCALE,
    SIGMOID,
    SOFTMAX,
    Graph,
    Operation,
)
from converting.layers import EPS, Layer, passing_batch_norm
from converting.networks import Found
from converting.normalisation import normalisation_of
from converting.ordering import infer_width
from core.plurals import counted
from model import InvertedResidual, MobileNetV2

Size = tuple[int, int]
Padding = tuple[int, ...]  # top, bottom, left, right


def match_network(graph: Graph, path: Path) -> Found:
    """The MobileNetV2 that a graph is. Raises: ValueError with the first difference if it is another network."""
    convolutions = [operation for operation in graph.operations if operation.kind == CONVOLUTION]
    width = infer_width([Layer(operation.name, CONVOLUTION, operation.tensors) for operation in convolutions])
    walk = Walk(graph, f"{path}: width {width}")
    scales = walk.take_scales()
    with torch.device("meta"):
        network = MobileNetV2(1, width)
    for block in network.features:
        walk.take_block(block)
    walk.take_classifier(network)
    mean, std = normalisation_of(scales, graph.normalisation, path)
    padding, eps, size = walk.padding(), walk.eps(), walk.image_size()
    facts = Facts(padding, eps, size, mean, std, tuple(graph.notes + walk.notes), is_folded=eps is None)
    return Found("", walk.layers, width, "", facts)


class Walk:
    """Goes through a graph from the image on, and compares each operation with the one that the network has there."""

    def __init__(self, graph: Graph, context: str) -> None:
        self.context = context
        self.origins: dict[str, str] = {}  # of the values that something which changes nothing made
        self.users: dict[str, list[Operation]] = {}
        for operation in graph.operations:
            if operation.kind == NOTHING:
                self.origins[operation.output] = self.origin(operation.inputs[0])
            else:
                for source in dict.fromkeys(map(self.origin, operation.inputs)):
                    self.users.setdefault(source, []).append(operation)
        self.value, self.output = graph.input, self.origin(graph.output)
        self.input_size = self.size = graph.image_size
        self.layers: list[Layer] = []
        self.paddings = {"symmetric", "same"}  # that the strided layers so far allow
        self.says_same = False
        self.is_open = False  # padded as TensorFlow does where sides are even, whatever they are
        self.all_eps: set[float] = set()
        self.num_folded = 0  # batch-norms that are in their convolutions
        self.notes: list[str] = []

    def origin(self, value: str) -> str:
        return self.origins.get(value, value)

    def refuse(self, found: object, wanted: object) -> ValueError:
        difference = f"the file has {found} where the network has {wanted}"
        return ValueError(f"{self.context}: {difference}; this is another network")

    def next_operation(self, beside: bool = False) -> Operation | None:
        """What takes the value; `beside`: a sum at the end of a block may take it too. None if several or none do."""
        users = self.users.get(self.value, [])
        if beside and len(users) == 2:
            users = [user for user in users if user.kind != ADD]
        return users[0] if len(users) == 1 else None

    def take(self, kind: str, wanted: object, beside: bool = False) -> Operation:
        """Go on past the next operation. Raises: ValueError if it is of another kind than the network's."""
        operation = self.next_operation(beside)
        if operation is None or operation.kind != kind:
            users = self.users.get(self.value, [])
            raise self.refuse(" and ".join(map(show, users[:3])) or "its output", wanted)
        self.value = operation.output
        return operation

    def take_scales(self) -> list[Operation]:
        """What is done with the values of the image before the first layer."""
        scales = []
        while (operation := self.next_operation()) and operation.kind == SCALE:
            scales.append(self.take(SCALE, "an image"))
        return scales

    def take_block(self, block: nn.Module) -> None:
        start, has_skip = self.value, isinstance(block, InvertedResidual) and block.has_skip
        is_first = True
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                self.take_convolution(module, beside=has_skip and is_first)
                is_first = False
            elif isinstance(module, nn.ReLU6):
                self.take(RELU6, RELU6)
        if has_skip:
            end = self.value
            operation = self.take(ADD, "the sum of a block's input and output")
            if sorted(map(self.origin, operation.inputs)) != sorted((start, end)):
                raise self.refuse(show(operation), "the sum of a block's input and output")

    def take_convolution(self, wanted: nn.Conv2d, beside: bool) -> None:
        """A convolution, with what is padded before it, and the batch-norm after it or what is left of one."""
        shape = list(wanted.weight.shape)
        padding: Padding = (0, 0, 0, 0)
        while (operation := self.next_operation(beside)) and operation.kind == PAD:
            added = self.take(PAD, "a convolution", beside).settings["padding"]
            padding, beside = tuple(map(sum, zip(padding, added, strict=True))), False
        operation = self.take(CONVOLUTION, f"a convolution {shape}", beside)
        weight, use = operation.tensors["weight"], operation.settings
        strides = f"{shape} with stride {wanted.stride[0]} and {counted(wanted.groups, 'group')}"
        if list(weight.shape) != shape or (*use["stride"], *use["dilation"]) != (*wanted.stride, 1, 1):
            raise self.refuse(show(operation), f"a convolution {strides}")
        if use["groups"] != wanted.groups:
            raise self.refuse(f"{show(operation)} in {counted(use['groups'], 'group')}", f"a convolution {strides}")
        self.check_padding(operation, padding, wanted)
        self.layers.append(Layer(operation.name, "convolution", {"weight": weight}))
        self.take_batch_norm(operation)

    def take_batch_norm(self, convolution: Operation) -> None:
        """A batch-norm, or one that stands for what was folded into the convolution before it."""
        bias, channels = convolution.tensors.get("bias"), len(convolution.tensors["weight"])
        following = self.next_operation()
        if following is None or following.kind != BATCH_NORM:
            self.add_passing_batch_norm(convolution.name, channels, bias)
            self.num_folded += 1
            return
        operation = self.take(BATCH_NORM, BATCH_NORM)
        tensors = dict(operation.tensors)
        if list(tensors["weight"].shape) != [channels]:
            raise self.refuse(show(operation), f"a batch-norm of {channels} channels")
        if bias is not None:
            tensors["running_mean"] = tensors["running_mean"] - bias
        self.layers.append(Layer(operation.name, "batch-norm", tensors))
        self.all_eps.add(float(f"{operation.settings['eps']:.6g}"))  # 0.001, which float32 does not have

    def add_passing_batch_norm(self, name: str, channels: int, bias: Tensor | None) -> None:
        """What stands for a folded batch-norm: the bias of a convolution, and what it is multiplied by afterwards."""
        factor, shift = torch.ones(channels), torch.zeros(channels) if bias is None else bias
        while (operation := self.next_operation()) and operation.kind == SCALE:
            tensors = self.take(SCALE, BATCH_NORM).tensors
            if tensors["factor"].numel() not in (1, channels):
                raise self.refuse(show(operation), f"a batch-norm of {channels} channels")
            factor, shift = factor * tensors["factor"], shift * tensors["factor"] + tensors["shift"]
        self.layers.append(Layer(f"{name} (bias)", "batch-norm", passing_batch_norm(shift, factor)))

    def check_padding(self, operation: Operation, padded: Padding, wanted: nn.Conv2d) -> None:
        """Keep which paddings a convolution allows. Raises: ValueError for one that is none of ours."""
        given = operation.settings["padding"]
        is_same = given == SAME and padded == (0, 0, 0, 0)
        around = (wanted.kernel_size[0] // 2,) * 4
        if wanted.stride[0] == 1:
            allowed = {"symmetric", "same"} if is_same or add(given, padded) == around else set()
        else:
            as_same = same_padding(self.size)
            explicit = as_same if is_same else add(given, padded)
            allowed = {"symmetric"} if explicit == (1, 1, 1, 1) else set()
            allowed |= {"same"} if is_same or explicit == as_same else set()
            self.says_same |= is_same
            self.is_open |= self.size is None and not is_same and explicit == as_same
        if not self.paddings & allowed:
            raise self.refuse(
                f"{show(operation)} with the padding {add(given, padded) or given}",
                "that of PyTorch or of TensorFlow, the same in all layers",
            )
        self.paddings &= allowed
        if self.size is not None:
            height, width = self.size
            self.size = -(-height // wanted.stride[0]), -(-width // wanted.stride[0])

    def take_classifier(self, network: MobileNetV2) -> None:
        """The mean, the classifier and what makes probabilities of its logits."""
        features = network.classifier[1].in_features
        self.check_goes_on()
        self.take(MEAN, "the mean of the maps")
        self.check_goes_on()
        operation = self.next_operation()
        is_convolution = operation is not None and operation.kind == CONVOLUTION
        operation = self.take(CONVOLUTION if is_convolution else LINEAR, f"a classifier of {features} features")
        weight = operation.tensors["weight"]
        if weight.ndim not in (2, 4) or list(weight.shape[1:]) != [features, 1, 1][: weight.ndim - 1]:
            raise self.refuse(show(operation), f"a classifier of {features} features")
        weight = weight.flatten(1)
        bias = operation.tensors.get("bias", torch.zeros(len(weight)))
        following = self.next_operation()
        if following is not None and following.kind in (SOFTMAX, SIGMOID):
            self.take(following.kind, "an answer")
            if following.kind == SIGMOID and len(weight) > 1:
                self.notes.append(
                    "Each class has a sigmoid of its own in the file, and several may hold at once; the scripts here "
                    "show softmax: the same order, other percentages."
                )
        if self.value != self.output:
            raise self.refuse(" and ".join(map(show, self.users.get(self.value, []))) or "another output", "its output")
        self.layers.append(Layer(operation.name, "classifier", {"weight": weight, "bias": bias}))

    def check_goes_on(self) -> None:
        """Raise ValueError for a backbone, which ends here."""
        if self.value == self.output:
            raise ValueError(f"{self.context}: ends before its classifier, as with include_top=False; save it with one")

    def padding(self) -> str | None:
        """That of the strided layers; None where those of PyTorch and TensorFlow are the same, as for 97 pixels."""
        if self.is_open:
            self.notes.append(
                "Its image size is open, and its padding does not depend on it: at sizes that are no multiple of 32 it "
                "computes something else than the scripts here."
            )
        if len(self.paddings) == 1 or self.says_same:
            return "same" if "same" in self.paddings else "symmetric"
        self.notes.append(
            "At its image size the paddings of PyTorch and TensorFlow are the same. If it comes from TensorFlow, say "
            "so: --padding same."
        )
        return None

    def eps(self) -> float | None:
        """That of all batch-norms, None if all are folded. Raises: ValueError if they have several."""
        values = [*sorted(self.all_eps), *[EPS][: self.num_folded]]  # what stands for a folded one has this eps
        if len(self.all_eps) > 1 or len(set(values)) > 1:
            raise ValueError(f"{self.context}: its batch-norms have several eps, {values}; ours have one")
        return next(iter(self.all_eps), None)

    def image_size(self) -> int | None:
        """The side of its images, where it is fixed."""
        if self.input_size is None:
            return None
        height, width = self.input_size
        if height != width:
            self.notes.append(f"Its images are {height} x {width}; those of config.py are squares, here of that side.")
        return max(height, width)


def same_padding(size: Size | None) -> Padding:
    """TensorFlow's padding of a map for a 3 x 3 kernel with stride 2; of an even one where the size is not known."""
    height, width = size or (2, 2)
    return (height % 2, 1, width % 2, 1)


def add(given: Any, padded: Padding) -> Padding:
    """Two paddings together; () if one of them is that of TensorFlow."""
    return () if given == SAME else tuple(map(sum, zip(given, padded, strict=True)))


def show(operation: Operation) -> str:
    """An operation in a message."""
    weight: Tensor | None = operation.tensors.get("weight")
    kind = operation.settings["what"] if operation.kind == OTHER else operation.kind
    use = ""
    if operation.kind == CONVOLUTION:
        steps = {name: tuple(operation.settings[name]) for name in ("stride", "dilation")}
        words = {name: str(step[0] if len(set(step)) == 1 else step) for name, step in steps.items()}
        use = f" with stride {words['stride']}" + f" and dilation {words['dilation']}" * (words["dilation"] != "1")
    return f"{kind} {operation.name}{'' if weight is None else f' {list(weight.shape)}'}{use}"

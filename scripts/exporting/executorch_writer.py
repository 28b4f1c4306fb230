# SPDX-License-Identifier: Apache-2.0
"""ExecuTorch: one .pte file whose network is one part for XNNPACK, its runtime for processors of phones and boards."""

import contextlib
import copy
import dataclasses
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from exporting.requests import LEVEL_INPUT, Request

LARGEST_BATCH = 32  # the memory of a dynamic batch is planned for it
CONVOLUTIONS = ("XNNConv2d", "XNNDepthwiseConv2d")
CLAMP = torch.ops.aten.hardtanh.default
SMALLEST_SCALE = 2**-12  # that the library takes
INT8 = ("xnn_datatype_qint8", "xnn_datatype_qcint8")


def write(request: Request) -> Path:
    """Write NAME.pte, in float or int8."""
    path = request.folder / f"{request.name}.pte"
    with quiet():
        path.write_bytes(lower(request))
    return path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep back what the libraries say of one another."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def lower(request: Request) -> bytes:
    """The program of a request, with as much of it as possible for XNNPACK."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    is_dynamic = request.choices.batch == "dynamic"
    network: nn.Module = DelegatedNetwork(request.network, request.choices.input == LEVEL_INPUT).eval()
    if request.choices.int8:
        network = quantise(network, request)
    exported = export(network, request.example(LARGEST_BATCH if is_dynamic else 1), is_dynamic)
    program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    content: bytes = program.buffer
    return content


class DelegatedNetwork(nn.Module):
    """networks.PlainNetwork in operations of which XNNPACK takes all but one: levels become floats before it."""

    def __init__(self, network: nn.Module, takes_levels: bool) -> None:
        super().__init__()
        normalization, self.features, self.classifier, self.activation = copy.deepcopy(list(network.children()))
        self.normalization = LevelsToMaps(normalization) if takes_levels else normalization
        self.channels = self.classifier.in_features
        for name, layer in list(self.features.named_modules()):
            if isinstance(layer, nn.ReLU6):  # which would stay an operation of its own
                self.features.set_submodule(name, nn.Hardtanh(0.0, 6.0))

    def forward(self, images: Tensor) -> Tensor:
        x = self.features(self.normalization(images))
        x = x.mean((2, 3), keepdim=True).view(-1, self.channels)  # flatten() asks for the size of a dynamic batch
        outputs: Tensor = self.activation(self.classifier(x))
        return outputs


class LevelsToMaps(nn.Module):
    """uint8 levels [N, S, S, 3] -> float32 [N, 3, S, S], normalised as networks.Normalization does."""

    def __init__(self, normalization: nn.Module) -> None:
        super().__init__()
        scale, shift = (normalization.get_buffer(name).flatten() for name in ("scale", "shift"))
        # Buffers would stay outside of what XNNPACK gets.
        self.scale, self.shift = (nn.Parameter(values, requires_grad=False) for values in (scale, shift))

    def forward(self, levels: Tensor) -> Tensor:
        return (levels.float() * self.scale - self.shift).permute(0, 3, 1, 2)


def export(network: nn.Module, example: Tensor, is_dynamic: bool) -> torch.export.ExportedProgram:
    """A graph of one network, for batches like the example or up to the largest."""
    shapes = ({0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)},) if is_dynamic else None
    return torch.export.export(network, (example,), dynamic_shapes=shapes)


def quantise(network: nn.Module, request: Request) -> nn.Module:
    """The graph of a network with the scales that its calibration images give."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    images = request.calibration
    assert images is not None
    graph = export(network, request.example(LARGEST_BATCH), is_dynamic=True).module()
    observed = prepare_pt2e(graph, create_quantiser())
    with torch.no_grad():
        for start in range(0, len(images), LARGEST_BATCH):
            observed(torch.from_numpy(request.inputs(images[start : start + LARGEST_BATCH])))
    converted: nn.Module = convert_pt2e(observed)
    return converted


def create_quantiser() -> Any:
    """XNNPACK's, with one scale a channel for weights, and for activations their minima and maxima.

    Its usual histograms cut off the largest values, and it has a scale before and one after each clamp to 0..6.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e import MinMaxObserver

    class Quantiser(XNNPACKQuantizer):  # type: ignore[misc]
        def annotate(self, graph: fx.GraphModule) -> fx.GraphModule:
            """Annotate clamps as what the library knows to be part of a convolution."""
            clamps = [node for node in graph.graph.nodes if node.target == CLAMP]
            for node in clamps:
                node.target = torch.ops.aten.relu.default
            super().annotate(graph)
            for node in clamps:
                node.target = CLAMP
            for node in graph.graph.nodes:
                if node.target == torch.ops.aten.pad.default:
                    quantise_before(node)
            return graph

    usual = get_symmetric_quantization_config(is_per_channel=True)
    activations = dataclasses.replace(
        usual.input_activation, observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=SMALLEST_SCALE)
    )
    chosen = dataclasses.replace(usual, input_activation=activations, output_activation=activations)
    return Quantiser().set_global(chosen).set_filter_function(is_quantised)


def quantise_before(pad: fx.Node) -> None:
    """Move the scale that a convolution has for a padded map to what is padded: otherwise XNNPACK pads floats."""
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation

    (convolution,) = pad.users
    scales = convolution.meta["quantization_annotation"].input_qspec_map
    pad.meta["quantization_annotation"] = QuantizationAnnotation({pad.args[0]: scales.pop(pad)}, _annotated=True)


def is_quantised(node: fx.Node) -> bool:
    """Whether an operation is one of the network, and none that prepares its input."""
    return all("normalization" not in name for name, _ in node.meta.get("nn_module_stack", {}).values())


def count_int8(path: Path) -> tuple[int, int]:
    """The convolutions and linear layers that the delegates of a file compute in int8."""
    convolutions = linear = 0
    for graph in read_delegates(path):
        types = [find_type(value["xvalue_union"]) for value in graph["xvalues"]]
        for node in graph["xnodes"]:
            kind, layer = node["xnode_union_type"], node["xnode_union"]
            if all(types[layer[name]] in INT8 for name in ("input1_id", "filter_id", "output_id") if name in layer):
                convolutions += kind in CONVOLUTIONS
                linear += kind == "XNNFullyConnected"
    return convolutions, linear


def find_type(value: dict[str, Any]) -> str:
    datatype: str = value.get("tensor_value", value)["datatype"]
    return datatype


def count_delegates(path: Path) -> int:
    """The parts of a file that XNNPACK computes: 1 if nothing is between them."""
    return len(list(read_delegates(path)))


def read_delegates(path: Path) -> Iterator[dict[str, Any]]:
    """The graph of each delegate of a file, as XNNPACK's schema names its parts."""
    from executorch.backends.xnnpack.serialization import xnnpack_graph_serialize as serialization
    from executorch.exir._serialize._flatbuffer import _flatc_decompile
    from executorch.exir._serialize._program import _extract_delegate_payload

    content = path.read_bytes()
    index = 0
    while (payload := _extract_delegate_payload(content, "XnnpackBackend", index)) is not None:
        header = serialization.XNNHeader.from_bytes(payload[: serialization.XNNHeader.EXPECTED_LENGTH])
        with tempfile.TemporaryDirectory() as folder:
            schema, graph = Path(folder, "schema.fbs"), Path(folder, "graph.bin")
            schema.write_bytes(serialization._get_schema_bytes())
            start = header.flatbuffer_offset
            graph.write_bytes(payload[start : start + header.flatbuffer_size])
            _flatc_decompile(folder, str(schema), str(graph), ["--raw-binary"])
            yield json.loads(graph.with_suffix(".json").read_text())
        index += 1

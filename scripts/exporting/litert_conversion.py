# SPDX-License-Identifier: Apache-2.0
"""LiteRT's converter and quantiser, in a process of their own: litert-torch needs an older torch than the program.

litert_writer.py runs it with the Python of .venv-litert, with folders as its arguments: in each, network.json and
weights.pt are the network, levels.npy the calibration images; it writes network.tflite.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exporting.networks import PlainNetwork, plain_network
from exporting.requests import LEVEL_INPUT, Choices
from model import Definition, MobileNetV2

BATCH = 10  # images that calibrate at once
# Of the range of the input. Exactly as wide as it, levels that lie between two steps would share one with the next.
WIDER = 1.005


class ChannelsLast(nn.Module):
    """A network whose normalisation, too, works on [N, S, S, 3]: all other layers then do without transposes."""

    def __init__(self, network: PlainNetwork, takes_levels: bool, output: str) -> None:
        super().__init__()
        self.network, self.takes_levels, self.output = network, takes_levels, output
        if takes_levels:
            normalization: Any = network.normalization
            self.scale, self.shift = nn.Buffer(normalization.scale.flatten()), nn.Buffer(normalization.shift.flatten())
            network.normalization = nn.Identity()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        if self.takes_levels:
            images = (images.float() * self.scale - self.shift).permute(0, 3, 1, 2)
        return {self.output: self.network(images)}


def main(folder: Path) -> None:
    facts = json.loads((folder / "network.json").read_text())
    weights = torch.load(folder / "weights.pt", weights_only=True)
    model = convert(build_network(facts, weights), facts["image_size"])
    levels = folder / "levels.npy"
    if levels.exists():
        model = quantize(model, np.load(levels), facts)
    (folder / "network.tflite").write_bytes(model)


def build_network(facts: dict[str, Any], weights: dict[str, Tensor]) -> ChannelsLast:
    """What a request has, in this process."""
    choices = Choices(**facts["choices"])
    trained = MobileNetV2(facts["num_classes"], facts["width_mult"], definition=Definition(facts["padding"]))
    network = plain_network(trained, choices, facts["image_size"], facts["mean"], facts["std"])
    network.load_state_dict(weights)
    output = "probabilities" if choices.softmax else "logits"
    return ChannelsLast(network, choices.input == LEVEL_INPUT, output).eval()


def convert(network: ChannelsLast, size: int) -> bytes:
    """A network as the bytes of a file, in float, for one image."""
    import litert_torch

    shape = (1, size, size, 3) if network.takes_levels else (1, 3, size, size)
    example = torch.zeros(shape, dtype=torch.uint8 if network.takes_levels else torch.float32)
    model: bytes = litert_torch.convert(network, sample_kwargs={"images": example}).model_content()
    return model


def quantize(model: bytes, levels: np.ndarray, facts: dict[str, Any]) -> bytes:
    """The same network in int8, one scale a channel, by the widest ranges that the calibration images reach."""
    from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.utils import qsv_utils

    quantization = quantizer.Quantizer(model, recipe.static_wi8_ai8())
    names = qtyping.TFLOperationName
    for name in (names.INPUT, names.OUTPUT, names.MUL, names.SUB, names.SOFTMAX):
        quantization.update_quantization_recipe(".*", name, algorithm_key=AlgorithmName.NO_QUANTIZE)
    # Quantizer.calibrate() would take moving averages for the ranges, which cost 24 answers of 1,000.
    calibration = calibrator.Calibrator(
        model,
        torch.get_num_threads(),
        calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,
        qsv_utils.min_max_update,
    )
    batches = [{"images": take(levels[start : start + BATCH], facts)} for start in range(0, len(levels), BATCH)]
    calibration.calibrate({"serving_default": batches}, None)
    ranges = calibration.get_model_qsvs()
    mean, std = np.array(facts["mean"]), np.array(facts["std"])
    low, high = WIDER * (-mean / std).min(), WIDER * ((1 - mean) / std).max()
    for name in inputs_of_stem(model):  # from black to white, whatever the calibration images have
        ranges[name] = {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}
    result: bytes = quantization.quantize(ranges, enable_progress_report=False).quantized_model
    return result


def inputs_of_stem(model: bytes) -> set[str]:
    """The tensors between the network's input and the first convolution that hold normalised images."""
    from ai_edge_litert import schema_py_generated as schema

    content = schema.ModelT.InitFromPackedBuf(model)
    (graph,) = content.subgraphs
    names = set()
    for operator in graph.operators:
        kind = content.operatorCodes[operator.opcodeIndex].builtinCode
        if kind in (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.TRANSPOSE):
            names.add(graph.tensors[operator.inputs[0]].name.decode())
        if kind == schema.BuiltinOperator.CONV_2D:
            break
    return names


def take(levels: np.ndarray, facts: dict[str, Any]) -> np.ndarray:
    """What the network takes for uint8 levels [N, S, S, 3]."""
    if facts["choices"]["input"] == LEVEL_INPUT:
        return levels
    mean, std = np.array(facts["mean"], np.float32), np.array(facts["std"], np.float32)
    return np.ascontiguousarray(((levels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        main(Path(name))

# SPDX-License-Identifier: Apache-2.0
"""Core ML: the folder for iPhones, iPads and Macs, in float32. Only these run it; here its content is checked."""

import json
import shutil
import tempfile
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exporting.requests import LEVEL_INPUT, Choices, Request
from exporting.silence import silence

CONTENT = "Data/com.apple.CoreML"  # of a .mlpackage, as Apple lays it out
MODEL, WEIGHTS = f"{CONTENT}/model.mlmodel", f"{CONTENT}/weights/weight.bin"
DATE = "com.github.apple.coremltools.conversion_date"


class ImageNetwork(nn.Module):
    """A network that takes levels as Core ML hands over an image: float32 [1, 3, S, S], 0 to 255."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.network(images.permute(0, 2, 3, 1))
        return outputs


def check(choices: Choices) -> None:
    """Raise ValueError for what Core ML does not offer."""
    if choices.int8:
        raise ValueError(
            "coreml: its int8 is calibrated by running the network in Core ML, which macOS alone has; leave out --int8"
        )
    if choices.batch == "dynamic":
        raise ValueError(
            "coreml: it takes images one by one, and many at once by prediction(from:); leave out --batch dynamic"
        )


def write(request: Request) -> Path:
    """Write the network of a request. Returns the path."""
    path = request.folder / f"{request.name}.mlpackage"
    with silence(), tempfile.TemporaryDirectory() as folder:
        model = convert(request)
        describe(model, request)
        unnamed = Path(folder, path.name)
        model.save(str(unnamed))
        spec = model.get_spec()
        spec.description.metadata.userDefined.pop(DATE, None)
        assemble(unnamed, path, spec)
    return path


def convert(request: Request) -> Any:
    """The network of a request as a coremltools.models.MLModel: an ML Program that computes in float32."""
    import coremltools

    takes_image, size = request.choices.input == LEVEL_INPUT, request.image_size
    example = torch.zeros(1, 3, size, size)
    network = ImageNetwork(request.network) if takes_image else request.network
    program = torch.export.export(network, (example,)).run_decompositions({})
    if takes_image:
        given = coremltools.ImageType(name="images", shape=example.shape, color_layout=coremltools.colorlayout.RGB)
    else:
        given = coremltools.TensorType(name="images", shape=example.shape, dtype=np.float32)
    name = request.description["output"]["name"]
    labels = unique_labels(request.description)
    return coremltools.convert(
        program,
        inputs=[given],
        outputs=[coremltools.TensorType(name=name, dtype=np.float32)],
        convert_to="mlprogram",
        compute_precision=coremltools.precision.FLOAT32,  # by itself it would compute in float16
        minimum_deployment_target=coremltools.target.iOS15,
        # With logits it would call them probabilities.
        classifier_config=coremltools.ClassifierConfig(labels) if request.choices.softmax else None,
        pass_pipeline=create_pipeline(),
        skip_model_load=True,
    )


def create_pipeline() -> Any:
    """coremltools' passes, and one that puts the padding of TensorFlow into the convolutions, as Core ML has it."""
    import coremltools
    from coremltools.converters.mil.mil import Builder
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.helper import block_context_manager
    from coremltools.converters.mil.mil.passes.pass_registry import register_pass

    @register_pass(namespace="exporting", override=True)
    class pad_in_convolutions(AbstractGraphPass):  # type: ignore[misc]
        def apply(self, prog: Any) -> None:
            for function in prog.functions.values():
                self.apply_to(function)

        @block_context_manager  # type: ignore[untyped-decorator]
        def apply_to(self, block: Any) -> None:
            for pad in [operation for operation in block.operations if operation.op_type == "pad"]:
                (convolution,) = pad.outputs[0].child_ops
                kept = ("weight", "bias", "strides", "dilations", "groups")
                padded = Builder.conv(
                    x=pad.x,
                    **{name: convolution.inputs[name] for name in kept},
                    pad_type="custom",
                    pad=pad.pad.val[-4:],
                    before_op=convolution,
                    name=convolution.name,
                )
                block.replace_uses_of_var_after_op(convolution, convolution.outputs[0], padded)
                block.remove_ops([pad, convolution])

    pipeline = coremltools.PassPipeline.DEFAULT
    # Behind the last one that makes use of padding, and before the constants are stored.
    pipeline.append_pass("exporting::pad_in_convolutions")
    pipeline.append_pass("common::dead_code_elimination")
    return pipeline


def unique_labels(description: dict[str, Any]) -> list[str]:
    """A label for each class, with its name where two share one: Core ML keeps a dictionary."""
    counts = Counter(description["labels"])
    return [
        label if counts[label] == 1 else f"{label} ({name})"
        for label, name in zip(description["labels"], description["classes"], strict=True)
    ]


def describe(model: Any, request: Request) -> None:
    """Say in the file what it takes and gives, where Xcode shows it."""
    output = request.description["output"]["name"]
    model.short_description = "MobileNetV2: classifies an image"
    is_image = request.choices.input == LEVEL_INPUT
    model.input_description["images"] = (
        "RGB image, upright" if is_image else f"RGB image, upright: {request.description['input']['range']}"
    )
    if not request.choices.softmax:  # a classifier names its outputs itself
        model.output_description[output] = "Logits"
    for key, value in request.description.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        model.user_defined_metadata[key] = text


def assemble(unnamed: Path, path: Path, spec: Any) -> None:
    """Make the folder of what Core ML needs alone, with identifiers that are the same every time."""
    (path / WEIGHTS).parent.mkdir(parents=True)
    (path / MODEL).write_bytes(spec.SerializeToString(deterministic=True))
    shutil.copyfile(unnamed / WEIGHTS, path / WEIGHTS)
    entries = {}
    for name, described in (("model.mlmodel", "Specification"), ("weights", "Weights")):
        entries[str(uuid.uuid5(uuid.NAMESPACE_URL, name))] = {
            "author": "com.apple.CoreML",
            "description": f"CoreML Model {described}",
            "name": name,
            "path": f"com.apple.CoreML/{name}",
        }
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": next(iter(entries))}
    (path / "Manifest.json").write_text(f"{json.dumps(manifest, indent=4)}\n", encoding="utf-8")

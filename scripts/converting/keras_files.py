# SPDX-License-Identifier: Apache-2.0
"""Keras' files (.h5 and .keras, of Keras 2 and 3) as graphs, or as weights where a file holds nothing else."""

import io
import json
import zipfile
from pathlib import Path

from converting.format_files import read_content
from converting.graph_builder import NHWC, GraphBuilder, reason_of
from converting.graphs import Graph
from converting.hdf5_files import read_hdf5
from converting.keras_layers import add_layer
from converting.keras_models import read_model
from converting.keras_weights import KerasWeights, LegacyWeights, SavedWeights, Weights, weights_alone

CONFIG, ARRAYS = "config.json", "model.weights.h5"  # the records of a .keras file
MOST_EXPANSION = 20  # how many times as long as the file a record may be


def read_keras(path: Path) -> Graph | KerasWeights:
    """What a Keras file holds: a model, or weights alone, which get torch's names and shapes.

    Nothing in it is executed. Raises: FileNotFoundError; ValueError naming the file.
    """
    content = read_content(path)
    try:
        config, content = read_records(content) if content.startswith(b"PK\x03\x04") else (b"", content)
    except Exception as error:  # a damaged file can raise almost anything
        raise ValueError(f"{path}: damaged or not as Keras writes ({reason_of(error)}); get it again") from error
    contents = read_hdf5(content, path)
    try:
        if config:
            return build_graph(config, SavedWeights(contents), len(content))
        texts = contents.attributes.get("", {}).get("model_config")
        return build_graph("".join(texts), LegacyWeights(contents), len(content)) if texts else weights_alone(contents)
    except Exception as error:  # as above
        raise ValueError(f"{path}: {reason_of(error)}; name a file in which Keras saved a MobileNetV2") from error


def read_records(content: bytes) -> tuple[bytes, bytes]:
    """The description and the arrays of a .keras file. Raises: ValueError and others for a damaged one."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found = {record.filename: record for record in archive.infolist()}
        for name in (CONFIG, ARRAYS):
            if name not in found:
                raise ValueError(f"it has no {name}")
            if found[name].file_size > MOST_EXPANSION * len(content):
                raise ValueError(f"its {name} claims {found[name].file_size:,} bytes")
        return archive.read(found[CONFIG]), archive.read(found[ARRAYS])


def build_graph(config: str | bytes, weights: Weights, num_bytes: int) -> Graph:
    """The graph of a model. Raises: ValueError and others for one that cannot be read."""
    model = read_model(json.loads(config))
    builder = GraphBuilder(NHWC, num_bytes)
    for layer in model.layers:
        add_layer(builder, layer, weights)
    return builder.finish(model.input, model.output, normalisation=None)

# SPDX-License-Identifier: Apache-2.0
"""What a .tflite file says of itself, as Android's and MediaPipe's libraries read it: fields, and files in a zip.

The tables are those of metadata_schema.fbs in google-ai-edge/mediapipe, with the numbers of their fields.
"""

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Field = Callable[[Any], Any]  # writes into a flatbuffers.Builder what a table refers to, and returns its place
LABELS, DESCRIPTION = "labels.txt", "description.json"
FILES_OF_DESCRIPTION, LABELS_OF_AXIS = 1, 2  # AssociatedFileType
FEATURE, IMAGE = 1, 2  # ContentProperties
NORMALIZATION = 1  # ProcessUnitOptions
RGB = 1  # ColorSpaceType
FIRST_VERSION = "1.0.0"  # of the readers that know all of these fields
EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip can say: the same content gives the same bytes


class Number(NamedTuple):
    """A number of 8 bits, which stands in its table."""

    value: int


def create_metadata(description: dict[str, Any]) -> bytes:
    """The ModelMetadata table for descriptions.describe()."""
    import flatbuffers

    output = description["output"]["name"]
    model = table(
        {
            0: text("MobileNetV2"),
            1: text("Classifies an image, " + ("in int8" if description["int8"] else "in float32")),
            3: tables([table({2: tables([describe_input(description)]), 3: tables([describe_output(output)])})]),
            6: tables([associated_file(DESCRIPTION, "What the file takes and gives", FILES_OF_DESCRIPTION)]),
            7: text(FIRST_VERSION),
        }
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(model(builder), file_identifier=b"M001")
    return bytes(builder.Output())


def describe_input(description: dict[str, Any]) -> Field:
    """The TensorMetadata of the image: its colours, and what is to be done to its levels."""
    given = description["input"]
    is_inside = given["normalised_inside"]
    mean = [0.0] * 3 if is_inside else [255 * value for value in given["mean"]]
    std = [1.0] * 3 if is_inside else [255 * value for value in given["std"]]
    lowest = [(0 - middle) / spread for middle, spread in zip(mean, std, strict=True)]
    highest = [(255 - middle) / spread for middle, spread in zip(mean, std, strict=True)]
    normalization = table({0: numbers(mean), 1: numbers(std)})
    return table(
        {
            0: text(given["name"]),
            1: text(f"RGB image, {given['layout']}, {given['type']}: {given['range']}"),
            3: table({0: Number(IMAGE), 1: table({0: Number(RGB)})}),
            4: tables([table({0: Number(NORMALIZATION), 1: normalization})]),
            5: table({0: numbers(highest), 1: numbers(lowest)}),
        }
    )


def describe_output(name: str) -> Field:
    """The TensorMetadata of the classes, with the file of their labels."""
    labels = associated_file(LABELS, "A line for each class", LABELS_OF_AXIS)
    return table({0: text(name), 3: table({0: Number(FEATURE), 1: table({})}), 6: tables([labels])})


def associated_file(name: str, description: str, kind: int) -> Field:
    return table({0: text(name), 1: text(description), 2: Number(kind)})


def table(fields: dict[int, Field | Number]) -> Field:
    """A table by the numbers of its fields."""

    def write(builder: Any) -> Any:
        # What it refers to comes before it.
        places = {key: field(builder) for key, field in fields.items() if not isinstance(field, Number)}
        builder.StartObject(max(fields, default=-1) + 1)
        for key, field in fields.items():
            if isinstance(field, Number):
                builder.PrependUint8Slot(key, field.value, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(key, places[key], 0)
        return builder.EndObject()

    return write


def text(value: str) -> Field:
    return lambda builder: builder.CreateString(value)


def numbers(values: Sequence[float]) -> Field:
    """float32"""

    def write(builder: Any) -> Any:
        builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            builder.PrependFloat32(value)
        return builder.EndVector()

    return write


def tables(fields: Sequence[Field]) -> Field:
    def write(builder: Any) -> Any:
        places = [field(builder) for field in fields]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()

    return write


def append_files(model: bytes, description: dict[str, Any]) -> bytes:
    """A file of LiteRT with its labels and description behind it, as a zip."""
    labels = "".join(" ".join(label.split()) + "\n" for label in description["labels"])
    content = {LABELS: labels, DESCRIPTION: json.dumps(description, indent=2, ensure_ascii=False)}
    buffer = io.BytesIO(model)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:  # compressed, readers would not take them
        for name, value in content.items():
            archive.writestr(zipfile.ZipInfo(name, EARLIEST), value)
    return buffer.getvalue()

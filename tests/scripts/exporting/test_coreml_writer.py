# SPDX-License-Identifier: Apache-2.0
"""exporting/coreml_writer.py: the network is in the folder, which Core ML itself, on macOS alone, would run."""

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import export_requests
import pytest
from conftest import ROOT
from export_requests import pictures, trained_network

from exporting import coreml_writer
from exporting.coreml_checking import check, read_operations
from exporting.coreml_writer import write
from exporting.requests import FLOAT_INPUT, LEVEL_INPUT, Choices, Request
from exporting.silence import silence
from model import TENSORFLOW, TORCHVISION, Definition

pytestmark = pytest.mark.filterwarnings("ignore")  # of coremltools, for a torch that it was not tested with
LEVELS = pictures(3, 48)


def request_for(choices: Choices, definition: Definition, folder: Path) -> Request:
    takes_levels = choices.input == LEVEL_INPUT
    description = {
        "format": "coreml",
        "classes": ["n1", "n2", "n3", "n4", "n5"],
        "labels": ["crane", "fox", "crane", "hen", "cow"],
        "input": {"range": "of levels", "normalised_inside": takes_levels},
        "output": {"name": "probabilities" if choices.softmax else "logits"},
    }
    request = export_requests.request_for(trained_network(definition), folder, *choices[:1], 48, *choices[1:])
    return request._replace(description=description)


class Written(NamedTuple):
    """A folder and the request for it."""

    request: Request
    path: Path


@pytest.fixture(scope="session")
def image_classifier(tmp_path_factory: pytest.TempPathFactory) -> Written:
    choices = Choices("coreml", "", LEVEL_INPUT, True, "1")
    request = request_for(choices, TENSORFLOW, tmp_path_factory.mktemp("coreml"))
    return Written(request, write(request))


@pytest.fixture(scope="session")
def float_network(tmp_path_factory: pytest.TempPathFactory) -> Written:
    choices = Choices("coreml", "", FLOAT_INPUT, False, "1")
    request = request_for(choices, TORCHVISION, tmp_path_factory.mktemp("coreml"))
    return Written(request, write(request))


@pytest.fixture(params=["image_classifier", "float_network"])
def written(request: pytest.FixtureRequest) -> Written:
    return request.getfixturevalue(request.param)


def test_folder_holds_the_network(written: Written) -> None:
    figures = check(written.path, written.request, LEVELS)
    assert figures["largest_difference"] < 1e-5 * max(1, figures["largest_logit"])
    assert figures["largest_logit"] > (0.3 if written.request.choices.softmax else 3)
    assert (figures["conv_operations"], figures["linear_operations"]) == (52, 1)


def test_another_network_is_refused(float_network: Written, tmp_path: Path) -> None:
    other = request_for(float_network.request.choices, TENSORFLOW, tmp_path)
    with pytest.raises(ValueError, match="network.mlpackage: what it holds differs from the network by"):
        check(float_network.path, other, LEVELS)


def test_padding_is_in_the_convolutions(written: Written) -> None:
    operations = read_operations(written.path)
    kinds = Counter(kind for kind, _, _ in operations)
    layers = {"conv": 52, "clip": 35, "add": 10, "reduce_mean": 1, "reshape": 1, "linear": 1}
    is_classifier = written.request.choices.softmax
    assert kinds == Counter(layers | ({"mul": 1, "sub": 1, "softmax": 1} if is_classifier else {}))
    strided = [given["pad"] for kind, given, _ in operations if kind == "conv" and given["strides"] == [2, 2]]
    # at 48 pixels the sides are 48, 24, 12, 6 and 3, where TensorFlow's padding is the symmetric one
    uneven = [0, 1, 0, 1] if is_classifier else [1, 1, 1, 1]
    assert strided == [uneven] * 4 + [[1, 1, 1, 1]]


def specification(path: Path):
    with silence():
        from coremltools.models.utils import load_spec

        return load_spec(str(path))


def test_classifier_takes_an_image_and_gives_labels(image_classifier: Written) -> None:
    """Two classes that share a label would be one in Core ML's dictionary."""
    description = specification(image_classifier.path).description
    (taken,) = description.input
    assert (taken.name, taken.type.WhichOneof("Type")) == ("images", "imageType")
    assert (taken.type.imageType.width, taken.type.imageType.height) == (48, 48)
    assert taken.type.imageType.colorSpace == taken.type.imageType.RGB
    assert [given.type.WhichOneof("Type") for given in description.output] == ["stringType", "dictionaryType"]
    assert b"crane (n1)" in (image_classifier.path / "Data/com.apple.CoreML/model.mlmodel").read_bytes()


def test_network_without_softmax_takes_and_gives_arrays(float_network: Written) -> None:
    description = specification(float_network.path).description
    (taken,), (given,) = description.input, description.output
    assert (taken.name, list(taken.type.multiArrayType.shape)) == ("images", [1, 3, 48, 48])
    assert given.name == "logits"
    types = {part.type.multiArrayType.dataType for part in (taken, given)}
    assert types == {taken.type.multiArrayType.FLOAT32}


def test_description_is_in_the_folder_and_no_machine(written: Written) -> None:
    stored = specification(written.path).description.metadata.userDefined
    for key, value in written.request.description.items():
        assert (stored[key] if isinstance(value, str) else json.loads(stored[key])) == value
    files = sorted(path.relative_to(written.path).as_posix() for path in written.path.rglob("*") if path.is_file())
    places = ["Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin", "Manifest.json"]
    assert files == places
    for place in places:
        content = (written.path / place).read_bytes()
        assert not [word for word in (str(ROOT), "site-packages", "/tmp") if word.encode() in content]


def test_same_request_gives_the_same_bytes(float_network: Written, tmp_path: Path) -> None:
    again = write(float_network.request._replace(folder=tmp_path))
    for path in (path for path in again.rglob("*") if path.is_file()):
        assert path.read_bytes() == (float_network.path / path.relative_to(again)).read_bytes()


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (Choices("coreml", "post-training", LEVEL_INPUT, False, "1"), "macOS alone has; leave out --int8$"),
        (Choices("coreml", "", LEVEL_INPUT, False, "dynamic"), "leave out --batch dynamic$"),
    ],
)
def test_what_it_does_not_offer_is_one_line(choices: Choices, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        coreml_writer.check(choices)
    assert "\n" not in str(error.value)

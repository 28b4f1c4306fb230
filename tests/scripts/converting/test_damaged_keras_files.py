# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile files of Keras: one line, whatever is in them; nothing is executed, no other file is opened."""

import contextlib
import io
import json
import random
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from keras_networks import keras, keras_network, randomize, save

from converting import hdf5_files, keras_files
from converting.hdf5_files import read_hdf5
from converting.source_networks import read_network

layers = keras.layers
Edit = Callable[[h5py.File], None]


def small_network() -> keras.Model:
    """A network of another kind with a layer of each kind that has weights."""
    pixels = keras.Input((32, 32, 3))
    value = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="first")(pixels))
    return randomize(keras.Model(pixels, layers.Dense(2, name="last")(layers.GlobalAveragePooling2D()(value))))


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of the small network by their endings."""
    folder, network = tmp_path_factory.mktemp("keras"), small_network()
    return {
        ending: save(network, folder / f"network.{ending}").read_bytes() for ending in ("h5", "keras", "weights.h5")
    }


def error_of(content: bytes, path: Path) -> str:
    """The one line that a file gets, without its name."""
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_network(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    assert len(line) < len(str(path)) + 400
    return line.removeprefix(f"{path}: ")


def edited(content: bytes, edit: Edit) -> bytes:
    """An HDF5 file with something changed in it."""
    file = io.BytesIO(content)
    with h5py.File(file, "r+") as opened:
        edit(opened)
    return file.getvalue()


def with_config(content: bytes, config: str | bytes) -> bytes:
    """A .keras or .h5 file with another description of its model."""
    if not content.startswith(b"PK"):
        return edited(content, lambda file: file.attrs.__setitem__("model_config", config))
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            target.writestr(name, config if name == "config.json" else source.read(name))
    return changed.getvalue()


def test_the_small_files_are_fine_but_for_the_network(contents: dict[str, bytes], tmp_path: Path) -> None:
    """Else all the other tests here would see the same error."""
    for ending, content in contents.items():
        assert re.search("the network has|all that MobileNetV2 has", error_of(content, tmp_path / f"network.{ending}"))


# Damage


@pytest.mark.parametrize("ending", ["h5", "keras", "weights.h5"])
def test_cut_files(contents: dict[str, bytes], ending: str, tmp_path: Path) -> None:
    content = contents[ending]
    for length in (100, len(content) // 2, len(content) - 1):
        line = error_of(content[:length], tmp_path / f"network.{ending}")
        assert re.match(r"damaged or not as Keras writes \(.+\); get (it|or save it) again$", line)


@pytest.mark.parametrize("ending", ["h5", "keras", "weights.h5"])
def test_flipped_bytes_end_in_one_line(contents: dict[str, bytes], ending: str, tmp_path: Path) -> None:
    generator, content = random.Random(ending), contents[ending]
    for _ in range(6):
        damaged = bytearray(content)
        for _ in range(8):
            damaged[generator.randrange(len(content))] = generator.randrange(256)
        error_of(bytes(damaged), tmp_path / f"network.{ending}")


def without(path: str) -> Edit:
    return lambda file: file.__delitem__(path)


def replaced(path: str, value: Any) -> Edit:
    def edit(file: h5py.File) -> None:
        del file[path]
        file[path] = value

    return edit


def start_of(content: bytes, path: str) -> str:
    """The full path of an array in a .h5 of Keras."""
    found: list[str] = []
    with h5py.File(io.BytesIO(content)) as file:
        file["model_weights"].visit(lambda name: found.append(name) if name.endswith(path) else None)
    (name,) = found
    return f"model_weights/{name}"


WRONG = {
    "no kernel": ("first/kernel", None, "its layer 'first' has 0 arrays of the name kernel, not one"),
    "no variance": ("norm/moving_variance", None, "its layer 'norm' has 0 arrays of the name moving_variance, not one"),
    "long bias": ("last/bias", np.zeros(3, np.float32), "last has 2 channels and a bias of the shape [3]"),
    "no axes": ("first/kernel", np.zeros((), np.float32), "has Conv2D first where the network has"),
    "no channels": ("first/kernel", np.zeros((3, 3, 3, 0), np.float32), "has Conv2D first where the network has"),
    "integers": ("first/kernel", np.zeros((3, 3, 3, 4), np.int8), "has Conv2D first where the network has"),
    "text": ("first/kernel", np.full((3, 3, 3, 4), b"text"), "first/kernel' holds no numbers"),
    "complex": ("first/kernel", np.zeros((3, 3, 3, 4), np.complex64), "first/kernel' holds no numbers"),
}


@pytest.mark.parametrize(("path", "value", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arrays(contents: dict[str, bytes], path: str, value: Any, message: str, tmp_path: Path) -> None:
    name = start_of(contents["h5"], path)
    content = edited(contents["h5"], without(name) if value is None else replaced(name, value))
    assert message in error_of(content, tmp_path / "network.h5")


def test_keras_files_without_an_array(contents: dict[str, bytes], tmp_path: Path) -> None:
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(contents["keras"])) as source, zipfile.ZipFile(changed, "w") as target:
        arrays = edited(source.read("model.weights.h5"), without("layers/batch_normalization/vars/3"))
        target.writestr("config.json", source.read("config.json"))
        target.writestr("model.weights.h5", arrays)
    message = "its layer 'norm' has no weights: 'layers/batch_normalization/vars/3' is not there"
    assert message in error_of(changed.getvalue(), tmp_path / "network.keras")


# The description of the model


DEEP = 100_000
NO_MODELS = {
    "no JSON": ("no JSON", "Expecting value: line 1 column 1"),
    "cut": ('{"class_name": "Functional"', "Expecting ',' delimiter"),
    "a list": ("[]", "it is a '[]', whose program is not in the file"),
    "a number": ("1e999", "it is a 'inf', whose program is not in the file"),
    "nothing in it": ('{"class_name": "Functional"}', "its parts do not fit together"),
    "no layers": ('{"class_name": "Sequential", "config": {"layers": []}}', "it has a model without layers"),
    "null": ('{"class_name": "Functional", "config": null}', "its parts do not fit together"),
}


@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_descriptions_of_no_model(contents: dict[str, bytes], ending: str, tmp_path: Path) -> None:
    for config, message in list(NO_MODELS.values())[: None if ending == "keras" else 2]:
        line = error_of(with_config(contents[ending], config), tmp_path / f"network.{ending}")
        assert line.startswith(message)
        assert line.endswith("; name a file in which Keras saved a MobileNetV2")


def test_long_names_and_many_layers_take_no_memory(contents: dict[str, bytes], tmp_path: Path) -> None:
    """A name would stand once more in the place of each layer of its model."""
    layer = {"class_name": "Dropout", "config": {"name": "a" * 1000}}
    model = {"class_name": "Sequential", "config": {"layers": [layer]}}
    line = error_of(with_config(contents["keras"], json.dumps(model)), tmp_path / "network.keras")
    assert line.startswith("the name of its layer 'aaaaaaaaaaaaaaaaaaaa'... has 1,000 letters")
    model["config"]["layers"] = [{"class_name": "Dropout", "config": {"name": f"layer {n}"}} for n in range(6000)]
    line = error_of(with_config(contents["keras"], json.dumps(model)), tmp_path / "network.keras")
    assert line.startswith("it has more than 5000 layers")


@pytest.mark.parametrize("deep", ["[" * DEEP + "]" * DEEP, '{"config":' * DEEP + "1" + "}" * DEEP])
def test_a_description_nested_100_000_deep(contents: dict[str, bytes], deep: str, tmp_path: Path) -> None:
    config = f'{{"class_name": "Functional", "config": {deep}}}'
    assert error_of(with_config(contents["keras"], config), tmp_path / "network.keras")


def nested(depth: int) -> dict[str, Any]:
    """A Sequential in a Sequential and so on."""
    model: dict[str, Any] = {"class_name": "Dropout", "config": {"name": "last", "batch_input_shape": [None, 9, 9, 3]}}
    for number in range(depth):
        model = {"class_name": "Sequential", "config": {"name": f"model {number}", "layers": [model]}}
    return model


def test_models_nested_too_deep(contents: dict[str, bytes], tmp_path: Path) -> None:
    line = error_of(with_config(contents["h5"], json.dumps(nested(30))), tmp_path / "network.h5")
    assert line.startswith("its models are nested too deep")


def test_a_layer_that_takes_its_own_value(contents: dict[str, bytes], tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(contents["keras"])) as archive:
        config = json.loads(archive.read("config.json"))
    by_name = {entry["config"]["name"]: entry for entry in config["config"]["layers"]}
    by_name["first"]["inbound_nodes"] = by_name["last"]["inbound_nodes"]
    line = error_of(with_config(contents["keras"], json.dumps(config)), tmp_path / "network.keras")
    assert re.match(r"its layer '\w+' takes a value that depends on its own; name a file", line)


OTHER_VALUES = (None, True, 0, -1, 2**70, 1.5, float("nan"), "", "x", "Functional", [], [[]], {}, ["x", 0, 0], {"a": 1})


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """Every place of a value in a dictionary or a list, at any depth."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(value, key), *places_in(value[key])]]


@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_values_of_other_types_anywhere(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is read, or refused in one line; the arrays are read once."""
    path = save(keras_network(32), tmp_path / f"network.{ending}")
    original = path.read_bytes()
    with zipfile.ZipFile(path) if ending == "keras" else contextlib.nullcontext() as archive:
        contents = read_hdf5(archive.read("model.weights.h5") if archive else original, path)
        text = archive.read("config.json") if archive else "".join(contents.attributes[""]["model_config"])
    monkeypatch.setattr(keras_files, "read_hdf5", lambda *_: contents)
    generator, outcomes = random.Random(ending), []
    for _ in range(8):
        config = json.loads(text)
        for parent, key in generator.sample(places_in(config), generator.choice((1, 2, 5))):
            parent[key] = generator.choice(OTHER_VALUES)
        if ending == "keras":
            path.write_bytes(with_config(original, json.dumps(config)))
        else:
            contents.attributes[""]["model_config"] = [json.dumps(config)]
        try:
            read_network(path)
            outcomes.append("read")
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")
            assert str(error).isprintable()
            outcomes.append("refused")
    assert set(outcomes) == {"read", "refused"}


# Code


def with_layer(layer: keras.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((32, 32, 3)), layer, layers.Conv2D(4, 3)])


@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_a_lambda_is_not_run(ending: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = save(with_layer(layers.Lambda(lambda x: print("it ran") or x, name="code")), tmp_path / f"network.{ending}")
    assert "it ran" in capfd.readouterr().out  # when Keras built it
    line = "its layer 'code' is a Lambda, which is code; code in a file is never run; name a file in which Keras saved"
    assert error_of(path.read_bytes(), path).startswith(line)
    assert capfd.readouterr() == ("", "")


@keras.saving.register_keras_serializable("mine")
class Custom(keras.Layer):
    """Its author's program has it, the file does not."""

    def call(self, value: Any) -> Any:
        return value


def test_functions_of_other_programs_are_named(contents: dict[str, bytes], tmp_path: Path) -> None:
    """Keras writes its own by their names, and others as objects of a module."""
    function = {"module": "builtins", "class_name": "function", "config": "softmax", "registered_name": "function"}
    config = with_layer(layers.Dense(2, name="mine")).to_json()
    assert '"activation": "linear"' in config
    config = config.replace('"activation": "linear"', f'"activation": {json.dumps(function)}')
    line = error_of(with_config(contents["keras"], config), tmp_path / "network.keras")
    assert line.startswith("its layer 'mine' has a function of its author's own program")


@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_layers_of_other_programs_are_named(ending: str, tmp_path: Path) -> None:
    path = save(with_layer(Custom(name="own")), tmp_path / f"network.{ending}")
    line = "its layer 'own' is of its author's own program, 'mine>Custom', not of Keras; name a file in which Keras"
    assert error_of(path.read_bytes(), path).startswith(line)


# HDF5 that leads elsewhere or claims too much


def external_array(file: h5py.File) -> None:
    file.create_dataset("model_weights/x", (4,), "f4", external=[("/etc/hostname", 0, 16)])


def virtual_array(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    file.create_virtual_dataset("model_weights/x", layout)


def circle(file: h5py.File) -> None:
    file["model_weights/again"] = file["model_weights"]


def linked_twice(file: h5py.File) -> None:
    file["x"] = np.zeros(4, np.float32)
    file["y"] = file["x"]


def many_groups(file: h5py.File) -> None:
    group = file
    for _ in range(60):
        group = group.create_group("g")


def huge_claim(file: h5py.File) -> None:
    file.create_dataset("model_weights/x", (2**40,), "f4")


def huge_chunks(file: h5py.File) -> None:
    file.create_dataset("model_weights/x", (2**31,), "f4", chunks=(2**20,), compression="gzip")


def zeros(file: h5py.File) -> None:
    file.create_dataset("model_weights/x", data=np.zeros(2**20, np.float32), compression="gzip")


HOSTILE: dict[str, tuple[Edit, str]] = {
    "external link": (
        lambda file: file.__setitem__("model_weights/x", h5py.ExternalLink("other.h5", "/x")),
        "'model_weights/x' is a link to another place, which is not followed",
    ),
    "soft link": (
        lambda file: file.__setitem__("model_weights/x", h5py.SoftLink("/model_weights")),
        "'model_weights/x' is a link to another place, which is not followed",
    ),
    "external storage": (external_array, "'model_weights/x' has its values in another file, which is not opened"),
    "virtual": (virtual_array, "'model_weights/x' has its values in another file, which is not opened"),
    "an array of two names": (linked_twice, "'y' is there twice, nested too deep or one of too many"),
    "a circle": (circle, "is there twice, nested too deep or one of too many"),
    "nested groups": (many_groups, "is there twice, nested too deep or one of too many"),
    "huge": (huge_claim, "'model_weights/x' claims 4,398,046,511,104 bytes, more than such a file can hold"),
    "huge chunks": (huge_chunks, "'model_weights/x' claims 8,589,934,592 bytes, more than such a file can hold"),
    "zeros": (zeros, "'model_weights/x' claims 4,194,304 bytes, more than such a file can hold"),
}


@pytest.mark.parametrize(("edit", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_hdf5(contents: dict[str, bytes], edit: Edit, message: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.ones(4, np.float32)
    line = error_of(edited(contents["h5"], edit), tmp_path / "network.h5")
    assert message in line
    assert line.startswith("damaged or not as Keras writes (")


@pytest.mark.parametrize("record", ["config.json", "model.weights.h5"])
def test_records_that_expand_are_not_unpacked(contents: dict[str, bytes], record: str, tmp_path: Path) -> None:
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(contents["keras"])) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            content = bytes(10**7) if name == record else source.read(name)
            target.writestr(name, content, zipfile.ZIP_DEFLATED)
    line = error_of(changed.getvalue(), tmp_path / "network.keras")
    assert f"its {record} claims 10,000,000 bytes" in line


# The process that reads HDF5


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "the library that reads HDF5 crashed"),
        ("import sys; sys.exit(1)", "the library that reads HDF5 crashed"),
        ("import sys; sys.exit('two\\nlines')", "the library that reads HDF5 crashed"),
        ("import sys; print('one\\x1b', file=sys.stderr); sys.exit(2)", "(one?)"),
        ("import sys; sys.exit(2)", "the library that reads HDF5 crashed"),
        ("while True: pass", "damaged: its HDF5 cannot be read to an end; get it again"),
    ],
)
def test_a_reader_that_ends_otherwise(
    contents: dict[str, bytes], program: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = tmp_path / "reader.py"
    reader.write_text(program)
    monkeypatch.setattr(hdf5_files, "READER", reader)
    if "while" in program:
        monkeypatch.setattr(hdf5_files, "TIMEOUT_SECONDS", 0.3)
    assert message in error_of(contents["h5"], tmp_path / "network.h5")


# Packages


@pytest.mark.parametrize("package", ["h5py", "onnx", "tflite"])
def test_a_missing_package_is_named_with_the_command(
    contents: dict[str, bytes], package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    starts = {"h5py": contents["h5"], "onnx": b"\x08\x08\x12\x00", "tflite": b"\x1c\0\0\0TFL3" + bytes(100)}
    line = error_of(starts[package], tmp_path / "network.of_any_name")
    assert f"needs the package {package}; `python3 -m pip install -r requirements-convert.txt` installs it" in line

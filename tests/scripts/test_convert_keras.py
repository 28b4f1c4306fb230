# SPDX-License-Identifier: Apache-2.0
"""scripts/convert_weights.py on files of Keras: what it says and writes, and what the other scripts make of that."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from command_runs import run_command
from conftest import ROOT, Project
from conversion_runs import Runner
from foreign_networks import torchvision_network
from keras_networks import error_between, keras, keras_network, outputs_of, random_pixels, randomize, save

from model import TENSORFLOW, MobileNetV2

layers = keras.layers
SIZE = 64


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path) -> Runner:
    return Runner(monkeypatch, capsys, tmp_path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network in each kind of file: read them, do not change them."""
    folder = tmp_path_factory.mktemp("keras")
    network = keras_network(SIZE)
    for name in ("whole.h5", "whole.keras", "alone.weights.h5", "alone.legacy.h5"):
        save(network, folder / name)
    return folder


def stored(path: Path) -> dict[str, Any]:
    """What a written file says, but for its weights."""
    record = torch.load(path, weights_only=True)
    del record["state_dict"]
    return record


# What it says and writes


@pytest.mark.parametrize("name", ["whole.h5", "whole.keras"])
def test_what_a_model_says_and_what_is_taken_for_granted(runner: Runner, files: Path, name: str) -> None:
    printed = runner.run(source=files / name)
    assert f"{files / name}: MobileNetV2 of width 0.35, 3 classes; 262 tensors of 105 layers.\n" in printed
    assert 'The file says: image_size = 64, model_padding = "same", model_batch_norm_eps = 0.001.\n' in printed
    mean = "model_mean_parameters = [0.5, 0.5, 0.5], model_std_parameters = [0.5, 0.5, 0.5]"
    assert f"Taken for granted: {mean}.\n" in printed
    assert "Width 0.35 was published for [96, 128, 160, 192, 224] pixels, not for 64.\n" in printed
    assert stored(runner.target) == {
        **{"model_arch_name": "mobilenet_v2", "model_width_mult": 0.35, "image_size": 64, "source": name},
        **{"model_padding": "same", "model_batch_norm_eps": 0.001},
        **{"model_mean_parameters": [0.5] * 3, "model_std_parameters": [0.5] * 3},
    }


def test_what_is_done_with_pixels_becomes_mean_and_deviation(runner: Runner) -> None:
    pixels = keras.Input((96, 96, 3))
    scaled = layers.Normalization(mean=[100.0, 110.0, 120.0], variance=[51.0**2] * 3)(pixels)
    options = {"alpha": 0.35, "weights": None, "include_top": False, "pooling": "avg"}
    backbone = keras.applications.MobileNetV2((96, 96, 3), **options)(scaled)
    source = save(randomize(keras.Model(pixels, layers.Dense(3)(backbone))), runner.folder / "tuned.keras")
    printed = runner.run(source=source)
    assert "published for" not in printed
    assert "Taken for granted" not in printed
    described = stored(runner.target)
    assert described["model_mean_parameters"] == pytest.approx([100 / 255, 110 / 255, 120 / 255], rel=1e-5)
    assert described["model_std_parameters"] == [0.2] * 3


@pytest.mark.parametrize("name", ["alone.weights.h5", "alone.legacy.h5"])
def test_weights_alone_say_nothing_of_their_use(runner: Runner, files: Path, name: str) -> None:
    printed = runner.run(source=files / name)
    assert "The file holds weights alone; padding and eps are taken to be those of Keras' own MobileNetV2.\n" in printed
    assert "The file says" not in printed
    assert "Taken for granted: image_size = 224, model_mean_parameters = [0.5, 0.5, 0.5], " in printed
    described = stored(runner.target)
    assert (described["model_padding"], described["model_batch_norm_eps"]) == TENSORFLOW
    runner.target.unlink()
    printed = runner.run("--padding", "symmetric", "--batch-norm-eps", 1e-5, source=files / name)
    assert 'The options say: model_padding = "symmetric", model_batch_norm_eps = 1e-05.\n' in printed
    described = stored(runner.target)
    assert (described["model_padding"], described["model_batch_norm_eps"]) == ("symmetric", 1e-5)
    assert described["model_mean_parameters"] == [0.485, 0.456, 0.406]


def test_the_background_of_tensorflow(runner: Runner) -> None:
    network = keras_network(SIZE, classes=1001)
    source, images = save(network, runner.folder / "imagenet.h5"), random_pixels(SIZE)
    line = "1001 classes: TensorFlow counts a background in front of ImageNet's; --drop-first-class leaves it out.\n"
    assert line in runner.run(source=source)
    runner.target.unlink()
    printed = runner.run("--drop-first-class", source=source)
    assert "MobileNetV2 of width 0.35, 1000 classes" in printed
    assert "The first of 1001 classes is left out.\n" in printed
    assert "1001 classes: " not in printed
    ours = MobileNetV2(1000, 0.35, definition=TENSORFLOW).eval()
    ours.load_state_dict(torch.load(runner.target, weights_only=True)["state_dict"])
    assert error_between(ours(images).detach(), outputs_of(network, images)[:, 1:]) < 1e-5


def test_class_names_are_stored_in_their_order(runner: Runner, files: Path) -> None:
    names = runner.folder / "names.txt"
    names.write_text("pug\n  beagle \n\nÉpagneul\n", encoding="utf-8")
    assert runner.run("--class-names", names, source=files / "whole.h5").count("without class names") == 0
    stored = torch.load(runner.target, weights_only=True)
    assert stored["class_names"] == ["pug", "beagle", "Épagneul"]
    runner.target.unlink()
    for content, message in {
        "pug\nbeagle": "has 2 names, 2 of them different, for 3 classes; put one on each line",
        "pug\npug\nbeagle": "has 3 names, 2 of them different, for 3 classes",
        "\xe9\n": "no text in UTF-8; save it as that",
    }.items():
        names.write_bytes(content.encode("latin-1"))
        assert runner.refusal("--class-names", names, source=files / "whole.h5").startswith(f"{names}: {message}")
    names.unlink()
    assert "no such file; name a text file" in runner.refusal("--class-names", names, source=files / "whole.h5")


@pytest.mark.parametrize("num_classes", [1, 2])
def test_the_only_class_is_not_dropped(runner: Runner, num_classes: int) -> None:
    torch.save(torchvision_network(num_classes).state_dict(), runner.source)
    assert "has too few classes to drop one; leave out --drop-first-class" in runner.refusal("--drop-first-class")


def test_options_do_not_overrule_the_file(runner: Runner, files: Path) -> None:
    source = files / "whole.h5"
    line = f'{source}: has model_padding = "same"; leave out --padding\n'
    assert runner.refusal("--padding", "symmetric", source=source) == line
    line = f"{source}: has model_batch_norm_eps = 0.001; leave out --batch-norm-eps\n"
    assert runner.refusal("--batch-norm-eps", 1e-5, source=source) == line
    runner.run("--padding", "same", "--batch-norm-eps", 0.001, source=source)


def test_options_say_what_a_state_dict_does_not(runner: Runner) -> None:
    printed = runner.convert(torchvision_network().state_dict(), "--padding", "same", "--batch-norm-eps", 0.001)
    assert 'The options say: model_padding = "same", model_batch_norm_eps = 0.001.\n' in printed
    described = stored(runner.target)
    assert (described["model_padding"], described["model_batch_norm_eps"]) == ("same", 0.001)
    runner.target.unlink()
    printed = runner.convert(torchvision_network().state_dict())
    assert 'model_padding = "symmetric", model_batch_norm_eps = 1e-05.\n' in printed.partition("Taken for granted")[2]
    runner.target.unlink()
    assert "invalid choice: 'valid'" in runner.refusal("--padding", "valid")
    for eps in (0, "nan", 2):
        assert "expected a number from 1e-12 to 1" in runner.refusal("--batch-norm-eps", eps)


# Other networks: one line with the first difference, and nothing is written


def application(name: str, **options: Any) -> keras.Model:
    return getattr(keras.applications, name)(input_shape=(SIZE, SIZE, 3), weights=None, **options)


def backbone(**options: Any) -> keras.Model:
    return application("MobileNetV2", alpha=0.35, include_top=False, **options)


def with_head(head: Any) -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    return keras.Model(pixels, head(backbone(pooling="avg")(pixels)))


def two_outputs() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    return keras.Model(pixels, [layers.Conv2D(2, 3)(pixels), layers.Conv2D(3, 3)(pixels)])


class Subclassed(keras.Model):
    """A model whose call() is a program."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.dense(pixels)


def subclassed() -> keras.Model:
    network = Subclassed()
    network(torch.zeros(1, SIZE, SIZE, 3))
    return network


OTHERS = {
    "MobileNet": (
        lambda: application("MobileNet", alpha=0.25, classes=2),
        r"convolution conv_pw_1 \[16, 8, 1, 1\] with stride 1 where the network has a convolution \[8, 8, 1, 1\]",
    ),
    "MobileNetV3": (
        lambda: application("MobileNetV3Small", classes=2),
        r"the file has convolution conv \[16, 3, 3, 3\] with stride 2 where the network has a convolution \[48, 3",
    ),
    "EfficientNet": (
        lambda: application("EfficientNetB0", classes=2),
        r"the file has convolution stem_conv \[32, 3, 3, 3\] with stride 2 where the network has a convolution \[40, 3",
    ),
    "no classifier": (backbone, "ends before its classifier, as with include_top=False; save it with one"),
    "two classifiers": (
        lambda: with_head(lambda x: layers.Dense(2, name="last")(layers.Dense(8, name="hidden")(x))),
        r"the file has linear last \[2, 8\] where the network has its output",
    ),
    "two outputs": (
        two_outputs,
        "it has 2 outputs, and MobileNetV2 one; name a file in which Keras saved a MobileNetV2",
    ),
    "a program": (
        subclassed,
        "it is a 'Subclassed', whose program is not in the file; MobileNetV2 as Functional is read",
    ),
}


@pytest.mark.parametrize(("build", "message"), OTHERS.values(), ids=OTHERS.keys())
def test_other_networks_are_refused_with_the_first_difference(runner: Runner, build: Any, message: str) -> None:
    source = save(build(), runner.folder / "other.keras")
    assert re.fullmatch(rf"{source}: .*{message}.*\n", runner.refusal(source=source))


Config = dict[str, Any]


def edited(file: h5py.File, edit: Any) -> None:
    """Change the description of the layers in a whole model, by their names, or the last one of a class by that."""
    config = json.loads(file.attrs["model_config"])
    entries = {entry[key]: entry["config"] for entry in config["config"]["layers"] for key in ("name", "class_name")}
    edit(entries)
    file.attrs["model_config"] = json.dumps(config)


def use(layer: str, **settings: Any) -> Any:
    return lambda file: edited(file, lambda entries: entries[layer].update(settings))


def reshaped(name: str, *shape: int) -> Any:
    """An array of a layer has another shape."""

    def change(file: h5py.File) -> None:
        (path,) = [path for path in all_arrays(file) if path.endswith(f"/{name}")]
        del file[path]
        file[path] = torch.zeros(shape).numpy()

    return change


def all_arrays(file: h5py.File) -> list[str]:
    paths: list[str] = []
    file.visititems(lambda path, item: paths.append(path) if isinstance(item, h5py.Dataset) else None)
    return paths


def without_a_block(file: h5py.File) -> None:
    config = json.loads(file.attrs["model_config"])
    entries = config["config"]["layers"]
    config["config"]["layers"] = [entry for entry in entries if not entry["config"]["name"].startswith("block_5_")]
    file.attrs["model_config"] = json.dumps(config).replace('"block_5_add"', '"block_4_add"')


EDITS = {
    "a classifier with ReLU": (
        use("predictions", activation="relu"),
        "the file has relu predictions where",
    ),
    "channels of a batch-norm": (
        reshaped("bn_Conv1/gamma", 8),
        "the file has BatchNormalization bn_Conv1 where the network has relu6",
    ),
    "ReLU": (
        use("block_3_expand_relu", max_value=None),
        "the file has ReLU block_3_expand_relu where the network has relu6",
    ),
    "ReLU up to 1": (
        use("Conv1_relu", max_value=1),
        "the file has ReLU up to 1 Conv1_relu where",
    ),
    "leaky": (
        use("Conv1_relu", negative_slope=0.1),
        "the file has ReLU Conv1_relu where the network has relu6",
    ),
    "dilation": (
        use("block_2_depthwise", dilation_rate=[2, 2]),
        "with stride 1 and dilation 2 where the network",
    ),
    "strides": (
        use("block_2_depthwise", strides=[1, 2]),
        r"with stride \(1, 2\) where the network has .+ stride 1 and",
    ),
    "stride": (
        use("block_4_depthwise", strides=[2, 2]),
        r"stride 2 where the network has .+ with stride 1 and 96 groups",
    ),
    "no padding": (
        use("block_2_depthwise", padding="valid"),
        r"with the padding \(0, 0, 0, 0\) where the network has that of",
    ),
    "both paddings": (
        use("block_3_pad", padding=[[1, 1], [1, 1]]),
        r"with the padding \(1, 1, 1, 1\) where .+ same in all",
    ),
    "several eps": (
        use("bn_Conv1", epsilon=1e-5),
        r"its batch-norms have several eps, \[1e-05, 0.001\]; ours have one",
    ),
    "axis": (
        use("bn_Conv1", axis=1),
        "the file has BatchNormalization bn_Conv1 where the network has relu6",
    ),
    "channels first": (
        use("Conv1", data_format="channels_first"),
        "the file has Conv2D Conv1 where the network has a conv",
    ),
    "another mean": (
        use("GlobalAveragePooling2D", data_format="channels_first"),
        "the file has GlobalAveragePooling2D .+ where the network has the mean of the maps",
    ),
    "kernel of 5": (
        reshaped("block_2_depthwise/kernel", 5, 5, 48, 1),
        r"depthwise \[48, 1, 5, 5\] .+ has a convolution \[48, 1, 3",
    ),
    "expansion of 4": (
        reshaped("block_2_expand/kernel", 1, 1, 8, 32),
        r"expand \[32, 8, 1, 1\] .+ has a convolution \[48, 8, 1, 1\]",
    ),
    "block less": (
        without_a_block,
        r"block_6_depthwise \[96, 1, 3, 3\] with stride 2 where .+ with stride 1 and 96 groups",
    ),
}


@pytest.mark.parametrize(("change", "message"), EDITS.values(), ids=EDITS.keys())
def test_a_single_difference_is_found(runner: Runner, files: Path, change: Any, message: str) -> None:
    source = runner.folder / "edited.h5"
    shutil.copy(files / "whole.h5", source)
    with h5py.File(source, "r+") as file:
        change(file)
    assert re.fullmatch(rf"{source}: .*{message}.*\n", runner.refusal(source=source))


# As a user runs it


def lines_of(printed: str, purpose: str) -> dict[str, Any]:
    """The values that a script says to set in config.py."""
    _, _, rest = printed.partition(f"config.py, {purpose}:\n")
    found = re.findall(r"(?m)^  line \d+: (\w+) = (.+)$", rest.partition("\n\n")[0])
    return {name: json.loads(value) for name, value in found if name != "mode"}


def refuses(project: Project, name: str, other: Any, script: str, *arguments: str, **options: Any) -> None:
    """With the value of another network, a script ends in a line that names the line of config.py."""
    right = {"model_padding": "same", "model_batch_norm_eps": 1e-3}[name]
    (number,) = [number for number, line in enumerate(CONFIG, start=1) if line.startswith(f"{name} = ")]
    project.set(**{name: other})
    line = f": trained with {name} = {json.dumps(right)}; set config.py line {number} to it"
    assert project.refusal(script, *arguments, **options).endswith(line)
    project.set(**{name: right})


CONFIG = (ROOT / "config.py").read_text(encoding="utf-8").splitlines()


def test_from_keras_to_test_inference_and_training(project: Project) -> None:
    save(keras_network(32), project.root / "network.keras")
    target = "results/pretrained_models/mine.pth.tar"
    (project.root / target).parent.mkdir(parents=True)
    done = run_command(ROOT / "scripts/convert_weights.py", "network.keras", target, folder=project.root)
    assert (done.returncode, done.stderr) == (0, "")
    to_test, to_train = (lines_of(done.stdout, purpose) for purpose in ("to test or classify", "to fine-tune"))
    assert to_test["model_padding"] == to_train["model_padding"] == "same"

    project.set(**to_test)
    (project.root / "labels.json").write_text(json.dumps({str(index): name for index, name in enumerate("abc")}))
    project.set(class_label_file="labels.json")
    picture = "data/Colours/valid/red/000.png"
    assert "(15 images)" in project.run_well("test.py", mode="test")
    assert len(project.run_well("inference.py", picture).splitlines()) == 2 + 3
    refuses(project, "model_padding", "symmetric", "test.py", mode="test")
    refuses(project, "model_batch_norm_eps", 1e-5, "inference.py", picture)

    project.set(**to_train, epochs=1)
    refuses(project, "model_padding", "symmetric", "train.py")
    assert f"Load pretrained weights `{target}`" in project.run_well("train.py")
    for name in ("best", "last"):
        described = stored(project.root / f"results/MobileNetV2-Colours/{name}.pth.tar")
        assert (described["model_padding"], described["model_batch_norm_eps"]) == TENSORFLOW
    project.set(resume="auto", epochs=2, pretrained_model_weights_path="")
    refuses(project, "model_padding", "symmetric", "train.py")

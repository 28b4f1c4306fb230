# SPDX-License-Identifier: Apache-2.0
"""segmentation/export.py as users run it, and its file beside torch."""

import contextlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT, ready_interpreter
from random_networks import random_images, randomise_statistics
from torch import nn

from core.digit_scenes import DIGITS, SCENE_CLASSES, DigitScenes
from core.trained_networks import load_task_network
from exporting import formats, task_files
from model import TENSORFLOW, TORCHVISION, Definition
from segmentation import export
from segmentation.model import DeepLabV3, create_network
from shared.small_training import copy_program, edit_config

CLASSES = ["background", *SCENE_CLASSES]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NAME, FOLDER = "deeplab_v3-onnx", "results/Masks/export"
SETTINGS = {"exp_name": "Masks", "device": "cpu", "image_size": 64, "model_width_mult": 0.35}


def scenes(count: int, side: int) -> np.ndarray:
    return np.stack([scene.image for scene in DigitScenes(DIGITS, "valid", seed=5, num_scenes=count, side=side)])


def normalised(levels: np.ndarray) -> torch.Tensor:
    """The formula itself: (level / 255 - mean) / std, float32 [N, 3, H, W]."""
    return torch.from_numpy((levels / 255 - MEAN) / STD).permute(0, 3, 1, 2).float()


@torch.no_grad()
def network_of_many_classes(definition: Definition = TORCHVISION, output_stride: int = 8) -> DeepLabV3:
    """Random weights, and the statistics of scenes, which so have most classes somewhere and logits up to about 10."""
    torch.manual_seed(3)
    network = DeepLabV3(len(CLASSES), 0.35, 0.0, definition, output_stride)
    randomise_statistics(network)
    images = normalised(scenes(8, 64))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    network.train()(images)
    network.eval()
    last = network.classifier[1]
    nn.init.normal_(last.weight)
    last.weight *= 2 / network(images).std()
    last.bias -= network(images).mean((0, 2, 3))
    return network


class Project:
    """The program with the weights of a network, and what its export has printed."""

    def __init__(self, root: Path) -> None:
        self.root, self.network = root, network_of_many_classes()
        copy_program(root)
        for folder in ("segmentation", "scripts"):
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "data").mkdir()
        shutil.copy(ROOT / "data/digits.csv.gz", root / "data")
        edit_config(root / "segmentation/config.py", SETTINGS)
        (root / "results/Masks").mkdir(parents=True)
        weights = {"state_dict": self.network.state_dict(), "class_names": CLASSES}
        torch.save(weights, root / "results/Masks/best.pth.tar")
        unset = ("PYTHONWARNINGS", "EXP_NAME", "MODE")
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        done = ready_interpreter().run([f"{root}/segmentation/export.py"], root, environment | {"OMP_NUM_THREADS": "1"})
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        self.printed, self.path = done.stdout, root / FOLDER / f"{NAME}.onnx"

    def config(self, **values: object) -> SimpleNamespace:
        names = ("image_size", "model_output_stride", "model_arch_name", "model_padding", "model_batch_norm_eps")
        from segmentation import config

        shipped = {name: getattr(config, name) for name in (*names, "seed")}
        shares = {"model_mean_parameters": MEAN, "model_std_parameters": STD}
        weights = {"model_weights_path": str(self.root / "results/Masks/best.pth.tar")}
        return SimpleNamespace(**(shipped | shares | weights | SETTINGS | values))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """To read and not to change."""
    return Project(tmp_path_factory.mktemp("exported") / "project")


@torch.no_grad()
@pytest.mark.parametrize(("count", "height", "width"), [(1, 64, 64), (3, 64, 64), (1, 97, 130), (2, 130, 71)])
def test_file_gives_the_classes_of_torch_for_any_size(exported: Project, count: int, height: int, width: int) -> None:
    levels = np.ascontiguousarray(scenes(count, 130)[:, :height, :width])
    expected = exported.network(normalised(levels))
    classes, logits = onnxruntime.InferenceSession(exported.path).run(None, {"images": levels})
    assert classes.dtype == np.uint8
    assert classes.shape == (count, height, width)
    assert len(np.unique(classes)) > 4
    assert (torch.from_numpy(classes) == expected.argmax(1)).double().mean() > 0.999
    assert logits.shape == (count, len(CLASSES), -(-height // 8), -(-width // 8))
    full = nn.functional.interpolate(torch.from_numpy(logits), (height, width), mode="bilinear", align_corners=False)
    torch.testing.assert_close(full, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_description_says_what_was_printed(exported: Project) -> None:
    first, size, scores, difference = exported.printed.splitlines()
    assert first.startswith("Load `deeplab_v3` model weights `")
    assert size.startswith(f"{FOLDER}/{NAME}.onnx: ")
    described = json.loads(exported.path.with_suffix(".json").read_text())
    verified = described["verified"]
    assert f"mIoU {verified['miou']:.3f} (torch {verified['torch_miou']:.3f}) equal pixels" in scores
    assert "(102 images)" in scores
    assert float(difference.rpartition(" ")[2]) < 1e-4 * max(10, verified["largest_logit"])
    assert described["classes"] == ["background", *"0123456789"]
    assert (described["input"]["layout"], described["input"]["type"]) == ("NHWC", "uint8")
    assert (described["input"]["mean"], described["input"]["normalised_inside"]) == (MEAN, True)
    assert list(described["outputs"]) == ["classes", "logits"]
    assert described["network"]["model_output_stride"] == described["outputs"]["logits"]["stride"] == 8
    said = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
    assert json.loads(said["classes"]) == described["classes"]
    assert {path.name for path in (exported.root / FOLDER).iterdir()} == {f"{NAME}.onnx", f"{NAME}.json"}
    for path in (exported.root / FOLDER).iterdir():
        for place in (ROOT, exported.root, Path(torch.__file__).parents[1]):
            assert os.fsencode(place) not in path.read_bytes(), path


@torch.no_grad()
@pytest.mark.parametrize("definition", [TORCHVISION, TENSORFLOW])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(("height", "width"), [(64, 97), (75, 80)])
def test_plain_layers_are_the_network(definition: Definition, output_stride: int, height: int, width: int) -> None:
    network = network_of_many_classes(definition, output_stride)
    levels = random_images(height, width).mul(60).add(128).clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()
    expected = network(normalised(levels.numpy()))
    classes, _ = export.LevelSegmenter(network, MEAN, STD).eval()(levels)
    assert (classes == expected.argmax(1)).double().mean() > 0.999


def resize_to_nearest(model: onnx.ModelProto) -> None:
    """The last one: the logits stay, the classes do not."""
    resize = [node for node in model.graph.node if node.op_type == "Resize"][-1]
    next(item for item in resize.attribute if item.name == "mode").s = b"nearest"


def scale_a_weight(model: onnx.ModelProto) -> None:
    last = [node for node in model.graph.node if node.op_type == "Conv"][-1]
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == last.input[1])
    kernel.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(kernel) * np.float32(1.01), kernel.name))


def swap_outputs(model: onnx.ModelProto) -> None:
    outputs = list(model.graph.output)[::-1]
    del model.graph.output[:]
    model.graph.output.extend(outputs)


def call_it_float(model: onnx.ModelProto) -> None:
    """Which ONNX finds to be wrong."""
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def lose_the_network(model: onnx.ModelProto) -> None:
    """What ONNX finds to be right in itself, and no runtime knows."""
    model.graph.node[0].domain = "nobody.knows"
    model.opset_import.add(domain="nobody.knows", version=1)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (scale_a_weight, r"a logit of the file differs by \S+ from torch's, above \S+; refused"),
        (resize_to_nearest, r"the file gives the class of torch for [\d.]+ % of the pixels, below 99.9; refused"),
        (lose_the_network, rf"{NAME}.onnx: ONNX Runtime cannot read it: "),
        (swap_outputs, r"the file gives \[8, 11, 8, 8\] and \[8, 64, 64\] for pictures of \[8, 64, 64\]; refused"),
        (call_it_float, rf"^{NAME}: the converter failed: .*; nothing was written"),
    ],
)
def test_file_that_lies_gets_no_name(
    exported: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: object, words: str
) -> None:
    def trace(*_: object) -> onnx.ModelProto:
        model = onnx.load(exported.path)
        spoil(model)
        return model

    monkeypatch.setattr(task_files, "trace", trace)
    monkeypatch.setattr(export, "SCENES", 9)
    monkeypatch.setattr(task_files, "check_config", lambda config, rules: None)
    with contextlib.chdir(tmp_path), pytest.raises(ValueError, match=words):
        export.main(exported.config(model_num_classes=len(CLASSES)))
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_what_cannot_be_exported_is_refused_in_one_line(exported: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_files, "check_config", lambda config, rules: None)
    config = exported.config(model_weights_path="a.onnx", __file__=str(ROOT / "segmentation/config.py"))
    for use in (export.main, lambda config: load_task_network(create_network, config, torch.device("cpu"))):
        with pytest.raises(ValueError, match="a.onnx was exported already; set model_weights_path to the weights"):
            use(config)
    monkeypatch.setattr(formats, "has_module", lambda name: name != "onnxruntime")
    with pytest.raises(ValueError, match="needs the package onnxruntime; `python3 -m pip install -r requirements-exp"):
        export.main(exported.config())


def test_classes_are_those_of_the_weights(
    exported: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Others than those of the scenes have no mean IoU there."""
    monkeypatch.setattr(export, "SCENES", 2)
    monkeypatch.setattr(task_files, "check_config", lambda config, rules: None)
    names = ["background", "sky", "sea"]
    torch.manual_seed(0)
    weights = {"state_dict": DeepLabV3(3, 0.35, output_stride=8).state_dict(), "class_names": names}
    torch.save(weights, tmp_path / "weights.pth.tar")
    with contextlib.chdir(tmp_path):
        export.main(exported.config(model_num_classes=3, model_weights_path="weights.pth.tar"))
    described = json.loads((tmp_path / FOLDER / f"{NAME}.json").read_text())
    assert described["classes"] == names
    assert described["outputs"]["logits"]["shape"][1] == 3
    assert "miou" not in described["verified"]
    assert " * equal pixels 100.000 %" in capsys.readouterr().out

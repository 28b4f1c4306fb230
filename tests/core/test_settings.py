# SPDX-License-Identifier: Apache-2.0
"""The rules for config.py."""

import contextlib
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import ROOT, config_with

from core import settings
from detection.settings import RULES as BOXES
from model import MobileNetV2
from segmentation.settings import RULES as MASKS


def load_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, *edits: tuple[str, str]) -> ModuleType:
    """Import an edited copy of config.py: each (old, new) replaces text that must be there."""
    text = (ROOT / "config.py").read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "config.py").write_text(text)
    monkeypatch.setenv("MODE", mode)
    monkeypatch.delenv("EXP_NAME", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "config", raising=False)
    import config

    monkeypatch.delitem(sys.modules, "config")
    assert Path(config.__file__).parent == tmp_path
    return config


@pytest.mark.parametrize("mode", ["train", "test"])
def test_shipped_config_is_valid_and_every_name_has_a_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    config = load_config(tmp_path, monkeypatch, mode)
    settings.check_config(config, needed_mode=mode)
    assert set(settings.config_lines(config)) == set(settings.CLASSIFIER_RULES.of_mode(mode))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 60", "epochs = -3", r"config.py line \d+: epochs = -3; expected an int >= 1"),
        ("epochs = 60", "epochs = True", r"config.py line \d+: epochs = True; expected an int"),
        ("epochs = 60", "epochs = '60'", r"config.py line \d+: epochs = '60'; expected an int"),
        ("epochs = 60", "epoch = 40", r"config.py: epochs is missing; line \d+ sets epoch: rename it"),
        ("epochs = 60", "pass", r"config.py: epochs is missing; set it to an int >= 1"),
        ("epochs = 60", "epochs = 60; epoch = 3", r"config.py line \d+: unknown name epoch \(did you mean epochs\?\)"),
        ("model_lr = 0.05", "model_lr = float('nan')", r"config.py line \d+: model_lr = nan; expected a number"),
        ('precision = "auto"', 'precision = "fp16"', r"config.py line \d+: precision = 'fp16'; expected one of"),
        ("seed = 0", "seed = -1", r"config.py line \d+: seed = -1; expected an int >= 0"),
        ("(0.7, 1.0)", "(1.0, 0.5)", r"config.py line \d+: random_crop_scale = \(1.0, 0.5\); expected None or two"),
        ("[0.485, 0.456, 0.406]", "[0.485]", r"config.py line 31: model_mean_parameters = \[0.485\]; expected three"),
        (
            "[0.229, 0.224, 0.225]",
            "[0, 0, 0]",
            r"config.py line 32: model_std_parameters = \[0, 0, 0\]; expected three",
        ),
        (
            "model_num_classes = 10",
            "model_num_classes = 0",
            r"config.py line 34: model_num_classes = 0; expected an int",
        ),
        ('"mobilenet_v2"  #', '"mobilenet_v3"  #', r"config.py line 29: model_arch_name = 'mobilenet_v3'; expected"),
        ('resume = ""', "resume = None", r"config.py line 53: resume = None; expected a string"),
        ("model_lr = 0.05", "learning_rate = 0.05", r"config.py: model_lr is missing; line 58 sets learning_rate: re"),
        ("model_lr = 0.05", "model_lr = lr = 0.05", r"config.py line 58: unknown name lr \(did you mean model_lr\?\)"),
        ("epochs = 60", "epochs = 3", r"config.py line 59: lr_warmup_epochs = 3 is not below epochs = 3 \(line 55\)"),
        (
            "batch_size = 64  #",
            "batch_size = 1  #",
            r"config.py line 56: batch_size = 1 with image_size = 32 \(line 26\) leaves batch-norm one value",
        ),
        (
            'precision = "auto"',
            'precision = "tf32"; device = "cpu"',
            r'config.py line 22: precision = "tf32" needs a GPU, and device = "cpu" \(line 22\); set it to',
        ),
        (
            '"cuda" if torch.cuda.is_available() else "cpu"',
            '"gpu"',
            r"config.py line 18: device = 'gpu'; expected",
        ),
    ],
)
def test_a_bad_value_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    config = load_config(tmp_path, monkeypatch, "train", (old, new))
    with pytest.raises(ValueError, match=message):
        settings.check_config(config, needed_mode="train")


@pytest.mark.parametrize(("image_size", "works"), [(32, False), (33, True), (224, True)])
def test_one_image_a_batch_is_refused_just_where_torch_would_stop(image_size: int, works: bool) -> None:
    """At 32 pixels the last feature map has one place; batch-norm needs two values of each channel."""
    network, config = MobileNetV2(3, 0.35), config_with(batch_size=1, image_size=image_size)
    for batch_norm in (
        lambda: network(torch.zeros(1, 3, image_size, image_size)),
        lambda: settings.check_together(config, {}),
    ):
        with contextlib.nullcontext() if works else pytest.raises(ValueError, match=r"value(s)? (per|of each) channel"):
            batch_norm()


def test_one_image_in_each_of_several_processes_is_enough_for_their_common_batch_norm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    settings.check_together(config_with(batch_size=1, sync_batch_norm=True), {})
    with pytest.raises(ValueError, match="batch_size = 1"):
        settings.check_together(config_with(batch_size=1, sync_batch_norm=False), {})


@pytest.mark.parametrize(("rules", "one_pixel"), [(BOXES, "the last map"), (MASKS, "the pooled image")])
def test_one_image_in_each_of_several_processes_is_enough_for_other_tasks(
    monkeypatch: pytest.MonkeyPatch, rules: settings.Rules, one_pixel: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    rules.check_together(config_with(batch_size=1, sync_batch_norm=True), {})
    for values in ({"sync_batch_norm": False}, {"sync_batch_norm": True}):
        with pytest.raises(ValueError, match=f"batch_size = 1 leaves the batch-norm of {one_pixel} one value"):
            rules.check_together(config_with(batch_size=1, **values), {})
        monkeypatch.setenv("WORLD_SIZE", "1")


def test_one_image_is_enough_where_the_smallest_map_has_several_pixels() -> None:
    """Of SSDLite that has a 512th of the side, rounded up; what DeepLabv3 pools is one pixel of any image."""
    BOXES.check_together(config_with(batch_size=1, image_size=513), {})
    for rules, image_size in ((BOXES, 512), (MASKS, 513)):
        with pytest.raises(ValueError, match="batch_size = 1 leaves"):
            rules.check_together(config_with(batch_size=1, image_size=image_size), {})


@pytest.mark.parametrize(
    ("word", "name"),
    [
        *(("learning_rate", "model_lr"), ("LR", "model_lr"), ("weight_decay", "model_weight_decay")),
        *(("momentum", "model_momentum"), ("batchsize", "batch_size"), ("num_epochs", "epochs"), ("EPOCHS", "epochs")),
        *(("num_classes", "model_num_classes"), ("img_size", "image_size"), ("weights", "model_weights_path")),
        *(("pretrained", "pretrained_model_weights_path"), ("label_smoothing", "loss_label_smoothing")),
        *(("dropout", "model_dropout"), ("warmup_epochs", "lr_warmup_epochs"), ("random_seed", "seed")),
        *(("mean", "model_mean_parameters"), ("workers", "num_workers"), ("val_image_dir", "valid_image_dir")),
        *(("mixup", "mixup_alpha"), ("arch", "model_arch_name"), ("amp", "precision"), ("width", "model_width_mult")),
        ("banana", None),
    ],
)
def test_names_of_other_programs_are_understood(word: str, name: str | None) -> None:
    assert settings.likely_name(word, settings.SHARED_RULES | settings.TRAIN_RULES) == name


def test_every_name_of_the_table_is_one_of_config() -> None:
    assert set(settings.OTHER_NAMES.values()) <= set(settings.SHARED_RULES | settings.TRAIN_RULES)


def test_home_is_expanded_in_paths_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    edits = [('f"./data/{dataset_name}/train"', '"~/photos/train"'), ('resume = ""', 'resume = "auto"')]
    config = load_config(tmp_path, monkeypatch, "train", *edits, ('"Digits"', '"~"'))
    settings.check_config(config, needed_mode="train")
    assert config.train_image_dir == "/home/me/photos/train"
    assert config.valid_image_dir == "./data/~/valid"
    assert (config.resume, config.dataset_name, config.class_label_file) == ("auto", "~", "")


def test_a_bad_mode_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(tmp_path, monkeypatch, "trian")
    with pytest.raises(ValueError, match=r'config.py line 36: mode = \'trian\'; expected "train" or "test"'):
        settings.check_config(config)


def test_a_mode_that_is_no_string_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(tmp_path, monkeypatch, "train")
    config.mode = ["train"]
    with pytest.raises(ValueError, match=r"mode = \['train'\]; expected"):
        settings.check_config(config, needed_mode="train")


def test_a_comprehension_sets_no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edits = ("[0.229, 0.224, 0.225]", "[v / 255 for v in (58, 57, 57)]")
    settings.check_config(load_config(tmp_path, monkeypatch, "train", edits))


def test_the_line_is_that_of_the_active_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (ROOT / "config.py").read_text().splitlines()
    for mode in ("train", "test"):
        number = settings.config_lines(load_config(tmp_path, monkeypatch, mode))["batch_size"]
        blocks = [line for line in lines[:number] if line.startswith("if mode")]
        assert "batch_size" in lines[number - 1]
        assert blocks[-1] == f'if mode == "{mode}":'


def test_names_starting_with_an_underscore_are_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.check_config(load_config(tmp_path, monkeypatch, "train", ("seed = 0", "seed = 0\n_root = '/data'")))


def test_importing_config_has_no_side_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    load_config(tmp_path, monkeypatch, "train")
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.backends.cudnn.benchmark
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["config.py"]


@pytest.mark.parametrize("value", [np.float64(0.5), np.sqrt(0.25), 0.5])
def test_numbers_of_numpy_are_recorded_as_plain_ones(value: float) -> None:
    assert type(settings.to_plain({"model_lr": value})["model_lr"]) is float


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, True, "1", None])
def test_what_is_no_number(value: object) -> None:
    assert not settings.is_number(value)


@pytest.mark.parametrize("name", ["cuda:00", "cuda:999", "gpu", "cuda:", "", None, 0])
def test_what_is_no_device(name: object) -> None:
    assert not settings.is_device(name)


def test_precision_is_recorded_by_the_name_that_says_it() -> None:
    assert settings.precision_name("tf32", torch.float32) == "tf32"
    assert settings.precision_name("auto", torch.bfloat16) == "bfloat16"

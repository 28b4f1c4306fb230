# SPDX-License-Identifier: Apache-2.0
"""From what a file holds to the weights of a network."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from conftest import config_with
from small_networks import small_network
from torch import nn

from core import network_weights, weights_files
from detection.model import SSDLite
from model import MobileNetV2
from segmentation.model import DeepLabV3


def test_same_weights_with_and_without_prefix_are_refused() -> None:
    with pytest.raises(ValueError, match="holds the same weights twice"):
        network_weights.extract_weights({"a": torch.zeros(1), "module.a": torch.ones(1)}, "w.pth")


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
def test_torchvision_files_load(tmp_path: Path, prefix: str, wrap) -> None:
    torch.manual_seed(1)
    theirs = torchvision.models.mobilenet_v2(num_classes=3, width_mult=0.35).eval()
    torch.save(wrap({prefix + name: value for name, value in theirs.state_dict().items()}), tmp_path / "w.pth")
    ours = small_network().eval()
    network_weights.load_weights(
        ours, network_weights.extract_weights(weights_files.read_checkpoint(tmp_path / "w.pth"), "w.pth"), "w.pth"
    )
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(images), theirs(images))


def test_averaged_weights_are_preferred() -> None:
    raw, averaged = small_network().state_dict(), small_network().state_dict()
    assert (
        network_weights.extract_weights({"state_dict": raw, "ema_state_dict": averaged}, "x").keys() == averaged.keys()
    )
    found = network_weights.extract_weights({"state_dict": raw, "ema_state_dict": averaged}, "x")
    assert found["features.0.0.weight"] is averaged["features.0.0.weight"]


def rename_first(weights: dict) -> dict:
    return {("stem" if name == "features.0.0.weight" else name): value for name, value in weights.items()}


def drop_last(weights: dict) -> dict:
    return dict(list(weights.items())[:-1])


def make_integer(weights: dict) -> dict:
    return weights | {"classifier.1.bias": torch.zeros(3, dtype=torch.int64)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_first, r"missing \['features.0.0.weight'\], unknown \['stem'\]"),
        (drop_last, r"missing \['classifier.1.bias'\], unknown \[\]"),
        (lambda w: w | {"extra": torch.zeros(1)}, r"missing \[\], unknown \['extra'\]"),
        (lambda w: w | {"classifier.1.bias": torch.full((3,), math.nan)}, r"classifier.1.bias has values that are not"),
        (make_integer, r"classifier.1.bias is torch.int64 \[3\], the network has torch.float32 \[3\]"),
        (lambda w: MobileNetV2(3, width_mult=0.5).state_dict(), r"is torch.float32 \[.*check model_width_mult"),
        (
            lambda w: small_network(4).state_dict(),
            r"classifier.1.weight .* check model_width_mult and model_num_classes",
        ),
    ],
)
def test_loading_is_strict_and_changes_nothing(change, message: str) -> None:
    network = small_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=f"w.pth: .*{message}"):
        network_weights.load_weights(network, change(small_network().state_dict()), "w.pth")
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_fine_tuning_keeps_a_fresh_classifier_for_other_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained, network = small_network(7), small_network(3)
    own = {name: value.clone() for name, value in network.state_dict().items()}
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    config = config_with(pretrained_model_weights_path=tmp_path / "w.pth")
    line = network_weights.load_pretrained_weights(network, config, list("abc"))
    assert line.endswith("the classifier starts fresh: 3 classes, not 7.")
    for name, value in network.state_dict().items():
        expected = own if name.startswith("classifier") else trained.state_dict()
        assert torch.equal(value, expected[name])


def test_fine_tuning_on_as_many_classes_takes_the_classifier(tmp_path: Path) -> None:
    trained, network = small_network(), small_network()
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "w.pth")
    config = config_with(pretrained_model_weights_path=tmp_path / "w.pth")
    said = "classifier included.\nThey have no class names: their 3 classes are taken to be a, b, c, in this order."
    assert network_weights.load_pretrained_weights(network, config, list("abc")).endswith(said)
    assert torch.equal(network.classifier[1].weight, trained.classifier[1].weight)


def test_fine_tuning_from_another_width_is_refused(tmp_path: Path) -> None:
    torch.save(MobileNetV2(7, width_mult=0.5).state_dict(), tmp_path / "w.pth")
    config = config_with(pretrained_model_weights_path=tmp_path / "w.pth")
    with pytest.raises(ValueError, match="check model_width_mult"):
        network_weights.load_pretrained_weights(small_network(), config, list("abc"))


def test_classifier_rows_follow_the_names_of_the_classes(tmp_path: Path) -> None:
    """Numbered folders once sorted as text: the row of each class is the one that was trained for it."""
    trained, network, images = small_network().eval(), small_network().eval(), torch.randn(2, 3, 32, 32)
    torch.save({"state_dict": trained.state_dict(), "class_names": ["1", "10", "2"]}, tmp_path / "w.pth")
    config = config_with(pretrained_model_weights_path=tmp_path / "w.pth")
    line = network_weights.load_pretrained_weights(network, config, ["1", "2", "10"]).splitlines()[1]
    assert line == "They were trained with these classes in another order; the classifier's rows were matched by name."
    assert torch.equal(network(images), trained(images)[:, [0, 2, 1]])


def test_classes_of_other_names_are_told(tmp_path: Path) -> None:
    trained, network = small_network(), small_network()
    torch.save({"state_dict": trained.state_dict(), "class_names": ["ant", "bee", "cat"]}, tmp_path / "w.pth")
    config = config_with(pretrained_model_weights_path=tmp_path / "w.pth")
    line = network_weights.load_pretrained_weights(network, config, ["ant", "cow", "dog"]).splitlines()[1]
    assert line == (
        "They were trained with other classes: the classifier's row of 'cow' was that of 'bee', 2 of 3 differ."
    )
    assert torch.equal(network.classifier[1].weight, trained.classifier[1].weight)
    assert "\n" not in network_weights.load_pretrained_weights(small_network(), config, ["ant", "bee", "cat"])
    fresh = network_weights.load_pretrained_weights(small_network(2), config, ["cow", "dog"])
    assert fresh.endswith("the classifier starts fresh: 2 classes, not 3.")


@pytest.mark.parametrize("size", [64, 224])
def test_another_image_size_than_in_training_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    path = tmp_path / "w.pth"
    config = config_with(model_weights_path=path, model_num_classes=3, model_width_mult=0.35, image_size=224)
    record = {"state_dict": small_network().state_dict(), "image_size": size}
    for content in (record, {"state_dict": record["state_dict"], "config": {"image_size": size}}):
        torch.save(content, path)
        network_weights.load_trained_network(small_network(), config)
        line = (
            f"`{path}` was trained with image_size = 64; config.py line 26 has 224: the answers differ from those at "
        )
        printed = capsys.readouterr().out
        assert printed.startswith(line) if size == 64 else printed == ""
    torch.save(record | {"image_size": (224, 224)}, path)  # of another project
    network_weights.load_trained_network(small_network(), config)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("load", [network_weights.load_pretrained_weights, network_weights.load_pretrained_features])
def test_a_missing_file_to_start_from_is_to_be_fetched(load: Callable[..., str]) -> None:
    """Of all tasks: "train first" would be advice about weights of one's own."""
    config = config_with(pretrained_model_weights_path="nowhere.pth")
    with pytest.raises(
        FileNotFoundError, match=r"^nowhere.pth: no such file; correct .* line 50\); `python3 scripts/down"
    ):
        load(small_network(), config, ["ant", "bee", "cat"])


# Batch-norm that was folded into the convolutions


def batch_norm(mean: float, var: float, weight: float, bias: float) -> dict[str, torch.Tensor]:
    values = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var}
    return {f"n.{name}": torch.tensor([value, value]) for name, value in values.items()}


@pytest.mark.parametrize(
    ("weights", "is_folded"),
    [
        (batch_norm(0, 1, (1 + 1e-5) ** 0.5, 0.3), True),  # as in mobilenet_v2-imagenet_1k-tflite.pth
        (batch_norm(0, 1 - 1e-5, 1, 0.3), True),
        (batch_norm(0, 1 - 1e-3, 1, 0.3), True),  # the eps of TensorFlow
        (batch_norm(-0.3, 1, 1, 0), True),  # the shift in the mean
        (batch_norm(0, 1, 1, 0), False),  # torch's initialisation
        (batch_norm(0.1, 0.95, 1, 0.1), False),
        (batch_norm(0, 1, 1, 0.3) | {"n.running_var": torch.tensor([1.0, 0.98])}, False),
    ],
)
def test_folded_layers_by_hand(weights: dict, is_folded: bool) -> None:
    assert network_weights.folded_layers(weights) == ["n"] * is_folded


def test_a_network_that_was_never_trained_is_not_folded(tmp_path: Path) -> None:
    torch.save(torchvision.models.mobilenet_v2(num_classes=3, width_mult=0.35).state_dict(), tmp_path / "w.pth")
    config = config_with(pretrained_model_weights_path=tmp_path / "w.pth")
    assert "classifier included" in network_weights.load_pretrained_weights(small_network(), config, list("abc"))


@pytest.mark.parametrize(
    "checkpoint",
    [
        lambda w: {"model": w, "epoch": 3},
        lambda w: {"model_state_dict": w, "optimizer_state_dict": {}},
        lambda w: {"state_dict": {f"model.{name}": value for name, value in w.items()}},  # Lightning
        lambda w: {"model": {"state_dict": w}},
        lambda w: w | {"epoch": 3},
        lambda w: w | {"n_averaged": torch.tensor(7)},
        lambda w: timm.create_model("mobilenetv2_035", pretrained=False, num_classes=3).state_dict(),
        lambda w: w | {"features.0.0.bias": torch.zeros(16)},  # batch-norm folded
    ],
)
def test_weights_as_other_projects_save_them_name_the_script_that_reads_them(tmp_path: Path, checkpoint) -> None:
    path, target = tmp_path / "w.pth", "results/pretrained_models/w.pth.tar"
    torch.save(checkpoint(small_network().state_dict()), path)
    score = config_with(model_weights_path=path, model_width_mult=0.35)
    start = config_with(pretrained_model_weights_path=path, model_width_mult=0.35)
    for load in (
        lambda: network_weights.load_trained_network(small_network(), score),
        lambda: network_weights.load_pretrained_weights(small_network(), start, list("abc")),
    ):
        with pytest.raises(ValueError, match=f"`python3 scripts/convert_weights.py {path} {target}` reads it$"):
            load()


def test_dictionary_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="w.pth: no state_dict of tensors in it"):
        network_weights.extract_weights({"epoch": 3}, "w.pth")


@pytest.mark.parametrize("wrap", [dict, lambda record: {"config": record}, lambda record: {"config": None, **record}])
def test_files_of_earlier_versions_have_symmetric_padding(tmp_path: Path, wrap) -> None:
    """They say which network it is, and nothing of the padding and the eps that nobody could choose."""
    path = tmp_path / "w.pth.tar"
    said = {"model_arch_name": "mobilenet_v2", "model_width_mult": 0.35}
    torch.save({"state_dict": small_network().state_dict()} | wrap(said), path)
    use = {"model_weights_path": str(path), "model_width_mult": 0.35, "model_num_classes": 3}
    network_weights.load_trained_network(small_network(), config_with(**use))
    for name, other, trained in (("model_padding", "same", '"symmetric"'), ("model_batch_norm_eps", 1e-3, "1e-05")):
        line = rf"w.pth.tar: trained with {name} = {trained}; set config.py line \d+ to it"
        with pytest.raises(ValueError, match=line):
            network_weights.load_trained_network(small_network(), config_with(**use | {name: other}))


def test_bare_weights_say_nothing_of_padding(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(small_network().state_dict(), path)
    use = {"model_weights_path": str(path), "model_width_mult": 0.35, "model_num_classes": 3}
    network_weights.load_trained_network(small_network(), config_with(**use, model_padding="same"))


def load_features(tmp_path: Path, trained: nn.Module, network: nn.Module, names: list[str], **record: object) -> str:
    """What load_pretrained_features() says of a file with `record` for a training with these classes."""
    torch.save(record | {"state_dict": trained.state_dict()}, tmp_path / "w.pth")
    config = config_with(pretrained_model_weights_path=tmp_path / "w.pth", model_width_mult=0.35)
    return network_weights.load_pretrained_features(network, config, names).partition("w.pth`")[2]


@pytest.mark.parametrize("names", [["ant", "bee", "cow"], ["bee", "ant", "dog"], ["ant", "bee"]])
def test_head_of_other_classes_starts_fresh(names: list[str], tmp_path: Path) -> None:
    """Its rows are those of the classes in their order: with others, a class would have the row of another."""
    torch.manual_seed(0)
    trained, network = DeepLabV3(4, 0.35), DeepLabV3(1 + len(names), 0.35)
    before = network.state_dict()["classifier.1.weight"].clone()
    known = ["background", "ant", "bee", "cow"]
    line = load_features(tmp_path, trained, network, ["background", *names], class_names=known)
    is_same = names == known[1:]
    assert line == ("." if is_same else ", those of the features; the rest starts fresh: its classes are others.")
    expected = trained.state_dict()["classifier.1.weight"] if is_same else before
    assert torch.equal(network.state_dict()["classifier.1.weight"], expected)
    for name in ("features.0.0.weight", "features.17.conv.2.weight"):
        assert torch.equal(network.state_dict()[name], trained.state_dict()[name])


MATCHED = ".\nThey were trained with these classes in another order; the head's rows were matched by name."


def test_rows_of_pixels_follow_the_names_of_the_classes(tmp_path: Path) -> None:
    trained, network, images = DeepLabV3(4, 0.35).eval(), DeepLabV3(4, 0.35).eval(), torch.randn(1, 3, 64, 64)
    names, known = ["background", "ant", "bee", "cow"], ["background", "cow", "ant", "bee"]
    assert load_features(tmp_path, trained, network, names, class_names=known) == MATCHED
    assert torch.equal(network(images), trained(images)[:, [0, 2, 3, 1]])


def test_rows_of_anchors_follow_the_names_of_the_classes(tmp_path: Path) -> None:
    """The background, which is in front of the classes of each anchor, stays there."""
    trained, network, images = SSDLite(3, 64, 0.35).eval(), SSDLite(3, 64, 0.35).eval(), torch.randn(1, 3, 64, 64)
    assert load_features(tmp_path, trained, network, ["a", "b", "c"], class_names=["c", "a", "b"]) == MATCHED
    assert torch.equal(network(images), trained(images)[..., [0, 2, 3, 1, 4, 5, 6, 7]])


def test_weights_of_a_task_are_told_apart_as_those_of_a_classifier(tmp_path: Path) -> None:
    """Without class names, or trained with another normalisation."""
    trained, network = DeepLabV3(3, 0.35), DeepLabV3(3, 0.35)
    names = ["background", "ant", "bee"]
    line = load_features(tmp_path, trained, network, names, model_mean_parameters=[0.5, 0.5, 0.5])
    assert line.splitlines() == [
        ".",
        "They have no class names: their 3 classes are taken to be background, ant, bee, in this order.",
        "They were trained with model_mean_parameters = [0.5, 0.5, 0.5]; config.py line 31 has [0.485, 0.456, 0.406].",
    ]
    line = load_features(tmp_path, small_network(), network, names, model_std_parameters=[1, 1, 1])
    assert [part.partition(" = ")[0] for part in line.splitlines()] == [
        ", those of the features.",
        "They were trained with model_std_parameters",
    ]

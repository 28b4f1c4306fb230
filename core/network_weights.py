# SPDX-License-Identifier: Apache-2.0
"""From what a weights file holds to the weights of a network, for training and for scoring."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import model
from core.folders import shorten
from core.plurals import counted
from core.settings import SHARED_RULES, config_lines, config_place, is_int, to_plain
from core.weights_files import beside_pretrained, conversion, read_checkpoint
from model import TORCHVISION, Definition

CLASSIFIER = ("classifier.1.weight", "classifier.1.bias")


def extract_weights(checkpoint: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The weights of one of our files (the averaged ones), of a {"state_dict": ...} file or of a bare state dict.

    Prefixes of wrappers ("module.", "_orig_mod.") are stripped. Raises: ValueError if there are none.
    """
    weights = checkpoint.get("ema_state_dict", checkpoint.get("state_dict", checkpoint))
    is_named = isinstance(weights, dict) and all(isinstance(name, str) for name in weights)
    if not is_named or not all(isinstance(value, Tensor) for value in weights.values()):
        inside = [str(name) for name, value in checkpoint.items() if holds_weights(value)]
        if inside or holds_weights(weights):
            place = f"in {inside[0][:80]!r}" if inside else "among other values"
            raise ValueError(f"{path}: has its weights {place}, as others save them; {conversion(path)}")
        raise ValueError(f"{path}: no state_dict of tensors in it; name a file of weights")
    bare = {re.sub(r"^((module|_orig_mod)\.)+", "", name): value for name, value in weights.items()}
    if len(bare) < len(weights):
        raise ValueError(f"{path}: holds the same weights twice, with and without a prefix; keep one of the two")
    return bare


def holds_weights(value: Any) -> bool:
    """Whether a value of a checkpoint is a dictionary with tensors of layers in it, or in one of its dictionaries."""
    if not isinstance(value, dict):
        return False
    inner = [item for item in value.values() if isinstance(item, dict)]
    tensors = [name for part in (value, *inner) for name, item in part.items() if isinstance(item, Tensor)]
    return any(isinstance(name, str) and name.endswith(".weight") for name in tensors)


# What the networks of these scripts are called in files, and what they do.
CLASSIFIER_TASK = "a classifier"
TASKS = {"mobilenet_v2": CLASSIFIER_TASK, "deeplab_v3": "segmentation", "ssdlite": "detection"}


def refuse_other_task(checkpoint: dict[str, Any], config: ModuleType, path: str | Path, *allowed: str) -> None:
    """Raise ValueError if a file says that it is of another network than that of config.py or an allowed one."""
    found = record_of(checkpoint).get("model_arch_name")
    if isinstance(found, str) and found in TASKS and found not in (config.model_arch_name, *allowed):
        raise ValueError(
            f"{path}: weights of {TASKS[found]} ({found}), and this is {TASKS[config.model_arch_name]}; name others"
        )


def load_weights(network: nn.Module, weights: dict[str, Tensor], path: str | Path) -> None:
    """Copy the weights into the network. Raises: as check_weights(), before anything changes."""
    check_weights(network, weights, path)
    network.load_state_dict(weights)


def check_weights(network: nn.Module, weights: dict[str, Tensor], path: str | Path) -> None:
    """Raise ValueError naming what is missing, unknown, misshapen or impossible in weights for this network."""
    expected = network.state_dict()
    missing = [name for name in expected if name not in weights]
    unknown = [name[:80] if isinstance(name, str) else type(name) for name in weights if name not in expected]
    if missing or unknown:
        remedy = f"if it is a MobileNetV2 under other names, {conversion(path)}" if unknown else "name another file"
        raise ValueError(
            f"{path}: its weights are not those of this network: missing {missing[:3]}, unknown {unknown[:3]} "
            f"({len(missing)} and {len(unknown)} in all); {remedy}"
        )
    for name, tensor in expected.items():
        found = weights[name]
        if not isinstance(found, Tensor):
            raise ValueError(f"{path}: {name} is a {type(found).__name__}, not a tensor; get or save the file again")
        kinds = FLOAT_TYPES if tensor.is_floating_point() else INT_TYPES
        if found.shape != tensor.shape or found.dtype not in kinds:
            raise ValueError(
                f"{path}: {name} is {found.dtype} {list(found.shape)}, the network has {tensor.dtype} "
                f"{list(tensor.shape)}; check model_width_mult and model_num_classes in config.py"
            )
        if not found.to(tensor.dtype).isfinite().all():
            raise ValueError(
                f"{path}: {name} has values that are not finite; the training run that made it diverged, take another"
            )
        if name.endswith(".running_var") and (found < 0).any():
            raise ValueError(f"{path}: {name} has values below 0, which no variance has; get or save the file again")


FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INT_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def read_pretrained(config: ModuleType) -> dict[str, Any]:
    """The file that config.pretrained_model_weights_path names. Raises: as read_checkpoint()."""
    path = config.pretrained_model_weights_path
    try:
        return read_checkpoint(path)
    except FileNotFoundError as error:  # whose advice is about what this program trains
        line = config_lines(config).get("pretrained_model_weights_path", "?")
        raise FileNotFoundError(
            f"{path}: no such file; correct pretrained_model_weights_path (config.py line {line}); "
            "`python3 scripts/download_weights.py` fetches published weights"
        ) from error


def load_pretrained_weights(network: nn.Module, config: ModuleType, class_names: list[str]) -> str:
    """Start from config.pretrained_model_weights_path; a classifier for another number of classes is left as it is.

    Its rows are put into the order of `class_names`, those of the data, where the file names the same classes. Returns
    the lines that tell what was done, and with which other classes or normalisation the weights were trained: they can
    learn new ones. Raises: ValueError if anything else does not fit, or if batch-norm was folded.
    """
    path = config.pretrained_model_weights_path
    checkpoint = read_pretrained(config)
    refuse_other_task(checkpoint, config, path)
    weights = extract_weights(checkpoint, path)
    own = network.state_dict()
    wanted, features = own[CLASSIFIER[0]].shape
    shapes = [list(weights[name].shape) for name in CLASSIFIER if name in weights]
    found = shapes[-1][0] if shapes and shapes[-1] else wanted
    is_new_task = found != wanted and shapes == [[found, features], [found]]
    if is_new_task:
        weights |= {name: own[name] for name in CLASSIFIER}
    load_weights(network, weights, path)
    refuse_folded(network.state_dict(), config, checkpoint)
    fate = f"; the classifier starts fresh: {wanted} classes, not {found}" if is_new_task else ", classifier included"
    refuse_other_values(checkpoint, config, DEFINITION, path)
    lines = [f"Load pretrained weights `{path}`{fate}."]
    trained_names = stored_class_names(checkpoint, wanted)
    if trained_names and not is_new_task and trained_names != class_names:
        lines.append(match_classes(network, trained_names, class_names))
    if not trained_names and not is_new_task:
        lines.append(describe_unnamed(class_names))
    return "\n".join(lines + describe_other_values(checkpoint, config, (*NORMALISATION, "apply_orientation"), path))


def describe_unnamed(class_names: list[str]) -> str:
    """The line about weights of which nobody knows the classes; these are those of the data."""
    are = counted(len(class_names), "class is", "classes are")
    order = ", in this order" if len(class_names) > 1 else ""
    return f"They have no class names: their {are} taken to be {shorten(class_names)}{order}."


def describe_other_values(
    checkpoint: dict[str, Any], config: ModuleType, names: Iterable[str], path: str | Path
) -> list[str]:
    """A line for each of these values with which the weights were trained, where config.py has another."""
    return [
        f"They were trained with {name} = {trained}; {config_place(config, name)} has {getattr(config, name)}."
        for name, trained, _ in other_values(checkpoint, config, names, path)
    ]


def load_pretrained_features(network: nn.Module, config: ModuleType, class_names: list[str]) -> str:
    """Start with the features of config.pretrained_model_weights_path, a classifier's, or with all weights of the task.

    Of the task they are taken as load_pretrained_weights() takes those of a classifier, but without what is not of the
    features if the classes are others. Returns lines like those. Raises: ValueError if they do not fit, or if
    batch-norm was folded.
    """
    path = config.pretrained_model_weights_path
    checkpoint = read_pretrained(config)
    refuse_other_task(checkpoint, config, path, "mobilenet_v2")
    weights = extract_weights(checkpoint, path)
    is_same_task = weights.keys() == network.state_dict().keys()
    trained_names = stored_class_names(checkpoint, len(class_names))
    is_unnamed = checkpoint.get("class_names") is None
    has_these_classes = is_unnamed or sorted(trained_names or []) == sorted(class_names)
    if is_same_task and has_these_classes:
        load_weights(network, weights, path)
    else:
        features = {name: value for name, value in weights.items() if name.startswith("features.")}
        load_features(network, features if is_same_task else weights, path)
    refuse_folded(network.state_dict(), config, checkpoint)
    refuse_other_values(checkpoint, config, DEFINITION, path)
    fate = "" if is_same_task and has_these_classes else ", those of the features"
    fate += "; the rest starts fresh: its classes are others" if is_same_task and not has_these_classes else ""
    lines = [f"Load pretrained weights `{path}`{fate}."]
    if is_same_task and is_unnamed:
        lines.append(describe_unnamed(class_names))
    elif is_same_task and trained_names and has_these_classes and trained_names != class_names:
        match_rows(network, trained_names, class_names)
        lines.append("They were trained with these classes in another order; the head's rows were matched by name.")
    return "\n".join(lines + describe_other_values(checkpoint, config, NORMALISATION, path))


def load_features(network: nn.Module, weights: dict[str, Tensor], path: str | Path) -> None:
    """Copy the features of a MobileNetV2 that classifies, as ImageNet weights are; a network may have but the first.

    Raises: as check_weights(), before anything changes.
    """
    features = network.get_submodule("features")
    number = len(list(features.children()))
    beyond = [name for name in weights if (place := FEATURE.match(name)) and int(place[1]) >= number]
    found = {name: value for name, value in weights.items() if name not in (*CLASSIFIER, *beyond)}
    load_weights(nn.ModuleDict({"features": features}), found, path)


FEATURE = re.compile(r"features\.(\d+)\.")


def match_classes(network: nn.Module, trained_names: list[str], class_names: list[str]) -> str:
    """Give each class the row of the classifier that has its name. Returns a line, also if the names are others."""
    if sorted(trained_names) == sorted(class_names):
        match_rows(network, trained_names, class_names)
        return "They were trained with these classes in another order; the classifier's rows were matched by name."
    pairs = [pair for pair in zip(trained_names, class_names, strict=True) if pair[0] != pair[1]]
    trained, now = pairs[0]
    share = f"of {len(class_names)}"
    return (
        f"They were trained with other classes: the classifier's row of {now!r} was that of {trained[:80]!r}, "
        f"{counted(len(pairs), f'{share} differs', f'{share} differ')}."
    )


def match_rows(network: nn.Module, trained_names: list[str], class_names: list[str]) -> None:
    """Give each class the rows of the last layers that were trained for its name."""
    places = [trained_names.index(name) for name in class_names]
    for name, weights in network.state_dict().items():
        if name in CLASSIFIER:
            weights.copy_(weights[places])
        elif ROWS_OF_ANCHORS.fullmatch(name):
            rows = weights.unflatten(0, (-1, 1 + len(places)))  # [anchors, background and classes, ...]
            rows[:, 1:] = rows[:, 1:][:, places]


ROWS_OF_ANCHORS = re.compile(r"head\.classification_head\.module_list\.\d+\.1\.(weight|bias)")  # of SSDLite


def stored_class_names(checkpoint: dict[str, Any], num_classes: int) -> list[str] | None:
    """The class names in a file of weights, if it has as many."""
    names = checkpoint.get("class_names")
    if not isinstance(names, list) or len(names) != num_classes:
        return None
    return names if all(isinstance(name, str) for name in names) else None


def refuse_folded(weights: dict[str, Tensor], config: ModuleType, checkpoint: dict[str, Any]) -> None:
    """Raise ValueError, with the command that helps, if batch-norm of the pretrained weights was folded."""
    folded, path = folded_layers(weights), config.pretrained_model_weights_path
    if folded:
        record = record_of(checkpoint)
        names = [name for name in (*NORMALISATION, *DEFINITION) if name in record]
        said = {name: record[name] for name in names if SHARED_RULES[name][0](record[name])}
        command = unfolding(path, getattr(config, "train_image_dir", "IMAGES"), vars(config) | said)
        if record.get("apply_orientation") and getattr(config, "apply_orientation", None) is False:
            command += " --no-apply-orientation"
        raise ValueError(
            f"{path}: its batch-norm is folded into convolutions ({counted(len(folded), 'layer has', 'layers have')} "
            f"variance 1 throughout); training would not survive that; `{command}` makes a file to start from"
        )


def folded_layers(weights: dict[str, Tensor]) -> list[str]:
    """The batch-norm layers whose statistics nobody measured, though they do something.

    Tools that fold batch-norm into convolutions leave variance 1, or 1 - eps, in every channel, which no measurement
    gives. Layers of a network that was never trained have it too, with mean and shift 0.
    """
    names = [name.removesuffix(".running_var") for name in weights if name.endswith(".running_var")]
    return [
        name
        for name in names
        if ((weights[f"{name}.running_var"].double() - 1).abs() < LARGEST_EPS).all()
        and (weights[f"{name}.running_mean"].any() or weights[f"{name}.bias"].any())
    ]


LARGEST_EPS = 2e-3  # TensorFlow's is 1e-3


def unfolding(path: str | Path, image_dir: str, use: dict[str, Any]) -> str:
    """The command that makes folded weights fit for training; `use`: how, by the names of config.py."""
    target = beside_pretrained(path, "-unfolded")
    words = ["--images", image_dir, "--image-size", use["image_size"], "--width-mult", use["model_width_mult"]]
    words += ["--mean", *use["model_mean_parameters"], "--std", *use["model_std_parameters"]]
    words += ["--padding", use["model_padding"], "--batch-norm-eps", use["model_batch_norm_eps"]]
    words += ["--apply-orientation"] if use.get("apply_orientation") else []
    return f"python3 scripts/unfold_batch_norm.py {shlex.join(map(str, (path, target, *words)))}"


def other_values(
    checkpoint: dict[str, Any], config: ModuleType, names: Iterable[str], path: str | Path
) -> Iterator[tuple[str, Any, int | str]]:
    """What a file says it was trained with and config.py has otherwise: name, value of the file, line of config.py.

    Raises: ValueError if the value of the file cannot be.
    """
    record = record_of(checkpoint)
    unsaid = EARLIER_DEFINITION if "model_arch_name" in record else {}
    for name in names:
        wanted = to_plain(getattr(config, name))
        trained = record.get(name, unsaid.get(name, wanted))
        is_valid, expected = SHARED_RULES[name]
        if not is_valid(trained):
            raise ValueError(f"{path}: its {name} cannot be: expected {expected}; get or save the file again")
        if to_plain(trained) != wanted:
            yield name, trained, config_lines(config).get(name, "?")


def record_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """How a network was trained, by the names of config.py, in a checkpoint of train.py or a file of weights."""
    record = checkpoint.get("config")
    return record if isinstance(record, dict) else checkpoint


NORMALISATION = ("model_mean_parameters", "model_std_parameters")
DEFINITION = ("model_padding", "model_batch_norm_eps")
EARLIER_DEFINITION = dict(zip(DEFINITION, TORCHVISION, strict=True))  # of the files that this program wrote before


def refuse_other_values(checkpoint: dict[str, Any], config: ModuleType, names: Iterable[str], path: str | Path) -> None:
    """Raise ValueError, with the line of config.py, if a file says it was trained with another of these values."""
    for name, trained, line in other_values(checkpoint, config, names, path):
        shown = json.dumps(trained) if isinstance(trained, str) else trained
        raise ValueError(f"{path}: trained with {name} = {shown}; set config.py line {line} to it")


def create_network(config: ModuleType, dropout: float = 0.0) -> nn.Module:
    """The network of config.py with fresh weights."""
    definition = Definition(config.model_padding, config.model_batch_norm_eps)
    build = getattr(model, config.model_arch_name)
    network: nn.Module = build(config.model_num_classes, config.model_width_mult, dropout, definition)
    return network


def load_trained_network(network: nn.Module, config: ModuleType) -> list[str] | None:
    """Load config.model_weights_path for scoring; returns the class names if the file has them.

    A line tells of another image size. Raises: ValueError if the file says it was trained with other values than
    config.py has.
    """
    path = config.model_weights_path
    checkpoint = read_checkpoint(path)
    refuse_other_task(checkpoint, config, path)
    names = ("model_width_mult", *DEFINITION, *NORMALISATION, "apply_orientation")
    refuse_other_values(checkpoint, config, [name for name in names if hasattr(config, name)], path)
    load_weights(network, extract_weights(checkpoint, path), path)
    print_other_size(checkpoint, config, path)
    return stored_class_names(checkpoint, config.model_num_classes)


def print_other_size(checkpoint: dict[str, Any], config: ModuleType, path: str | Path) -> None:
    """Say so if a file was trained with another image_size or output stride: allowed, but seldom meant."""
    record = record_of(checkpoint)
    for name, what in (("image_size", "at the size"), ("model_output_stride", "with the stride")):
        trained, now = record.get(name), getattr(config, name, None)
        if is_int(trained, 1) and now is not None and trained != now:
            print(
                f"`{path}` was trained with {name} = {trained}; {config_place(config, name)} has {now}: the answers "
                f"differ from those {what} of the training, often for the worse."
            )

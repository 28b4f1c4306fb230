# SPDX-License-Identifier: Apache-2.0
"""Write the network of config.py for phones, boards and browsers, in float or int8, and score it in its own runtime.

    python3 scripts/export.py onnx|openvino|executorch|litert|coreml|all [--int8 [qat]]

Reads config.model_weights_path and writes results/<exp_name>/export/<name>.onnx (.xml, .pte, .tflite, .mlpackage) and
<name>.json, which says what the file takes and gives and what was measured. A file gets its name only after it has
shown in its runtime, on the validation images, that it computes the network: in float the logits of torch, in int8 the
accuracy but for --most-lost points. docs/deploy.md has formats, devices and figures.
"""

from shared.command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from core.class_names import name_classes
from core.exported_files import refuse_exported
from core.folders import list_classes
from core.network_weights import (
    create_network,
    extract_weights,
    load_trained_network,
    load_weights,
    match_classes,
    stored_class_names,
)
from core.plurals import counted
from core.runtimes import stop_telemetry
from core.settings import check_config
from core.weights_files import read_checkpoint
from exporting.descriptions import describe, describe_calibration
from exporting.formats import FORMATS, find_writer, one_line_errors, require
from exporting.images import USUAL_COUNT, Images, calibration_images, scored_folder, scored_images
from exporting.networks import plain_network
from exporting.preparation import prepare_for_int8
from exporting.publication import hash_files, publish, unnamed_folder
from exporting.quantisation_training import check_training, run_in_own_process, train_quantised, trained_weights
from exporting.requests import FLOAT_INPUT, LEVEL_INPUT, POST_TRAINING, TRAINED, Choices, Request
from exporting.verification import score_network, verify
from shared.command_line import OneLineParser
from utils import setup_runtime, user_errors

USUAL_LOSS = 0.5  # points of accuracy that int8 may lose
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # the status of a process that a signal ended


def main(config: ModuleType, options: argparse.Namespace) -> None:
    if options.format == "all":
        export_each(options)
        return
    stop_telemetry()
    check_config(config)
    check_use(config, options)
    if options.only_train:
        train_quantised(config, options.calibration, options.images)
        return
    require(options.format)
    choices, writer = choose(options), find_writer(options.format)
    if hasattr(writer, "check"):
        writer.check(choices)
    setup_runtime(config.seed, "cpu")
    export(config, options, choices, writer)


def export(config: ModuleType, options: argparse.Namespace, choices: Choices, writer: ModuleType) -> None:
    """Write one file, verify it, give it its name."""
    network = create_network(config)
    class_names = load_trained_network(network, config)
    print(f"Load `{config.model_arch_name}` model weights `{Path(config.model_weights_path).resolve()}` successfully.")
    folder = scored_folder(config)
    classes = name_classes(config, class_names, folder) or list_classes(folder)
    calibration = calibration_images(config, classes, options.calibration, options.images) if choices.int8 else None
    images = scored_images(config, classes, options.check)
    expected = score_network(network, images, config.model_mean_parameters, config.model_std_parameters)
    weights = (
        train_for_int8(config, options, network, classes)
        if choices.int8 == TRAINED
        else Path(config.model_weights_path)
    )
    description = describe(config, choices, classes, weights)
    if calibration:
        description["calibration"] = describe_calibration(calibration, images, config.seed)
        print_calibration(calibration, description["calibration"]["scored_too"], config.seed)
    target = Path("results", config.exp_name, "export")
    name = name_export(config, choices)
    with unnamed_folder(target, name) as partial:
        request = create_request(config, choices, network, calibration, description, partial / name)
        path = write(writer, request)
        files = hash_files(partial)
        most_lost = USUAL_LOSS if options.most_lost is None else options.most_lost
        figures = verify(request, path, writer, images, expected, most_lost)
        publish(partial, target, name, description | {"files": files, "verified": figures})
    print_figures(target / path.name, [target / file for file in files], figures)
    if choices.int8 and figures["float_top1"] - figures["top1"] > most_lost:
        are = counted(figures["images"], "image is", "images are")
        print(f"{are} too few to say whether it loses more than --most-lost.")


def train_for_int8(config: ModuleType, options: argparse.Namespace, network: nn.Module, classes: Sequence[str]) -> Path:
    """Fine-tune with simulated int8, and load the weights into the network. Returns their file."""
    words = [__file__, options.format, "--int8", TRAINED, "--only-train"]
    words += ["--calibration", str(options.calibration)] if options.calibration else []
    words += ["--images", str(options.images)] if options.images else []
    if status := run_in_own_process(words):
        if status in STOPPED:  # with a checkpoint, of which train.py alone would say how to go on
            print("The same command goes on with it.")
        sys.exit(status)  # it has said why
    path = trained_weights(config, options.calibration, options.images)
    checkpoint = read_checkpoint(path)
    load_weights(network, extract_weights(checkpoint, path), path)
    trained_classes = stored_class_names(checkpoint, len(classes))
    if trained_classes and trained_classes != list(classes):  # training has them in the order of the folders
        match_classes(network, trained_classes, list(classes))
    return path


def create_request(
    config: ModuleType,
    choices: Choices,
    network: nn.Module,
    calibration: Images | None,
    description: dict[str, Any],
    path: Path,
) -> Request:
    """What a writer gets; `path`: of the file, without what follows the dot."""
    mean, std, size = config.model_mean_parameters, config.model_std_parameters, config.image_size
    plain = plain_network(network, choices, size, mean, std)
    request = Request(choices, plain, size, mean, std, None, description, path.parent, path.name)
    if calibration is None:
        return request
    return prepare_for_int8(request._replace(calibration=calibration.levels), calibration.levels)


def write(writer: ModuleType, request: Request) -> Path:
    """Let a writer write. Raises: ValueError in one line for whatever goes wrong in the libraries below it."""
    with one_line_errors(request.name):
        path: Path = writer.write(request)
    return path


def export_each(options: argparse.Namespace) -> None:
    """Every format in a process of its own: their libraries disagree in one. Raises: SystemExit if one failed."""
    arguments = sys.argv[1:]
    failed = []
    for name in FORMATS:
        print(f"\n{name}", flush=True)
        if name == "coreml" and options.int8:
            print("Left out: its int8 is calibrated on macOS alone; without --int8 it is written here, too.")
            continue
        words = [name if word == "all" else word for word in arguments]
        status = run_in_own_process([__file__, *words])
        if status in STOPPED:
            sys.exit(status)
        failed += [name] if status else []
    if failed:
        raise ValueError(f"not exported: {', '.join(failed)}; the lines above say why")


def check_use(config: ModuleType, options: argparse.Namespace) -> None:
    """Raise ValueError for options that say nothing without --int8, and for weights that are none."""
    if options.int8 is None and (options.calibration or options.images or options.most_lost is not None):
        raise ValueError("--calibration, --images and --most-lost are for int8; add --int8, or leave them out")
    if options.int8 == TRAINED:
        check_training(config)
    refuse_exported(config)


def choose(options: argparse.Namespace) -> Choices:
    """The choices of the user; where there are none, what the users of the format expect."""
    usual = FORMATS[options.format]
    return Choices(
        options.format, options.int8 or "", options.input or usual.input, options.softmax, options.batch or usual.batch
    )


def name_export(config: ModuleType, choices: Choices) -> str:
    """The name of the files, which must not be those of another format: each has a description of its own."""
    kind = {"": "", POST_TRAINING: "-int8", TRAINED: "-int8-qat"}[choices.int8]
    return f"{config.model_arch_name}-{choices.format}{kind}"


def print_calibration(calibration: Images, scored_too: int, seed: int) -> None:
    print(f"Calibrated on {counted(len(calibration.levels), 'image')} of {calibration.folder}, drawn by seed {seed}.")
    if scored_too:
        print(
            f"{counted(scored_too, 'of them is', 'of them are')} scored below as well, which flatters int8; "
            "--calibration names another folder."
        )


def print_figures(path: Path, files: list[Path], figures: dict[str, Any]) -> None:
    """What was written, and what it has shown."""
    size = sum(file.stat().st_size for file in files) / 1e6
    print(f"{path}: {size:.2f} MB")
    if "top1" not in figures:
        print("Not run: Core ML runs on macOS alone. " + ", ".join(f"{name} {figures[name]:.3g}" for name in figures))
        return
    print(
        f" * Acc@1 {figures['top1']:.3f} (torch {figures['float_top1']:.3f}) Acc@5 {figures['top5']:.3f} "
        f"({figures['float_top5']:.3f}) macro {figures['macro']:.3f} ({figures['float_macro']:.3f}) equal answers "
        f"{figures['equal_answers']:.2f} % ({counted(figures['images'], 'image')})"
    )
    if "int8_convolutions" in figures:
        print(
            f"   {figures['int8_convolutions']} convolutions and {figures['int8_linear_layers']} linear layer in int8"
        )
    else:
        print(f"   largest difference of a logit {figures['largest_difference']:.1e}")


def parse_arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=[*FORMATS, "all"], metavar="FORMAT", help=", ".join([*FORMATS, "all"]))
    parser.add_argument(
        "--int8",
        nargs="?",
        const=POST_TRAINING,
        choices=[POST_TRAINING, TRAINED],
        help=f"8-bit integers, found after training (the default), or by fine-tuning for them: {TRAINED}",
    )
    inputs = f"{FLOAT_INPUT}: normalised images; {LEVEL_INPUT}: pixels as they are, normalised inside"
    parser.add_argument(
        "--input", choices=[FLOAT_INPUT, LEVEL_INPUT], help=f"{inputs} (default: as the format's users)"
    )
    parser.add_argument("--softmax", action="store_true", help="give probabilities instead of logits")
    parser.add_argument("--batch", choices=["1", "dynamic"], help="images at a time (default: as the format's users)")
    parser.add_argument(
        "--calibration", type=Path, metavar="FOLDER", help="of <class>/<image>, for int8 (default: training images)"
    )
    parser.add_argument(
        "--images", type=at_least_1, metavar="N", help=f"of them, drawn by the seed (default {USUAL_COUNT})"
    )
    parser.add_argument("--check", type=at_least_1, metavar="N", help="validation images to score (default: all)")
    parser.add_argument(
        "--most-lost",
        type=points,
        metavar="POINTS",
        help=f"of accuracy that int8 may lose (default {USUAL_LOSS})",
    )
    parser.add_argument("--only-train", action="store_true", help=argparse.SUPPRESS)  # in a process of its own
    return parser.parse_args()


def points(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 100:  # also NaN, which would accept any file
        raise argparse.ArgumentTypeError(f"{text}: points of 100 are needed")
    return number


def at_least_1(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: at least 1 is needed")
    return number


if __name__ == "__main__":
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # past what removes files and processes
    with user_errors("Interrupted; no file was left half written."):
        import config

        main(config, options)

# SPDX-License-Identifier: Apache-2.0
"""What an exported file must show in its own runtime before it gets its name."""

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from core.folding import folded
from core.metrics import likeliest
from core.runtimes import ExportedNetwork
from exporting.coreml_checking import check
from exporting.images import BATCH, Images
from exporting.requests import Request
from imgproc import normalize

CONVOLUTIONS, LINEAR_LAYERS = 52, 1  # Table 2 of the paper
FLOAT_TOLERANCE = 1e-5  # of the largest logit, and of 10 where that is smaller: rounding in another order
INT8_TOLERANCE = 0.05  # of the largest logit: between two sizes of a batch
CHANCE = 2  # answers, of however few images, that say nothing
CLIPPED = 0.1  # an output is saturated if it should be above the largest one by this share of their range
MOST_SATURATED = 0.05  # share of the images


class Scores(NamedTuple):
    """Logits of all scored images, and what they are worth, in percent."""

    logits: Tensor  # float32 [N, C]
    top1: float
    top5: float
    macro: float  # mean over the classes of the share of right answers


def score_network(network: nn.Module, images: Images, mean: list[float], std: list[float]) -> Scores:
    """A network of torch in float32, on the CPU: what the exported file is compared with."""
    network = folded(network.to(memory_format=torch.channels_last))
    means, stds = torch.tensor(mean), torch.tensor(std)

    def run(levels: np.ndarray) -> Tensor:
        logits: Tensor = network(normalize(torch.from_numpy(levels).permute(0, 3, 1, 2), means, stds))
        return logits

    return score(run, images)


@torch.inference_mode()
def score(run: Callable[[np.ndarray], Tensor], images: Images) -> Scores:
    """Logits and accuracies of what maps levels [N, S, S, 3] to logits [N, C]."""
    starts = range(0, len(images.levels), BATCH)
    logits = torch.cat([run(images.levels[start : start + BATCH]) for start in starts])
    targets = torch.from_numpy(images.targets)
    hits = likeliest(logits) == targets[:, None]
    is_right = hits[:, 0].double()
    macro = torch.stack([is_right[targets == place].mean() for place in targets.unique()]).mean()
    percent = [100 * share.item() for share in (is_right.mean(), hits.any(1).double().mean(), macro)]
    return Scores(logits, *percent)


def verify(
    request: Request, path: Path, writer: ModuleType, images: Images, expected: Scores, most_lost: float
) -> dict[str, Any]:
    """The figures of a file in its runtime. Raises: ValueError if it does not compute the network within the limits.

    `expected`: of the network in torch. `most_lost`: points of top-1 and macro accuracy that int8 may lose.
    """
    if request.choices.format == "coreml":  # which runs on Apple's systems alone
        return check(path, request, images.levels[:BATCH])
    network = ExportedNetwork(path, request.description, torch.get_num_threads())

    def run(levels: np.ndarray) -> Tensor:
        logits: Tensor = network(torch.from_numpy(request.inputs(levels)))
        return logits

    found = score(run, images)
    figures = compare(request, found, expected) | compare_batches(run, images.levels[:BATCH], found.logits)
    if request.choices.int8:
        figures |= count_layers(writer, path)
    if hasattr(writer, "count_delegates"):
        figures["delegates"] = writer.count_delegates(path)
    refuse(request, figures, most_lost)
    return figures


def compare(request: Request, found: Scores, expected: Scores) -> dict[str, Any]:
    """Accuracies beside those of the network in torch, in percent, and how far the logits are apart."""
    reference = expected.logits.log_softmax(dim=1) if request.choices.softmax else expected.logits
    equal = likeliest(found.logits)[:, 0] == likeliest(expected.logits)[:, 0]
    largest, smallest = found.logits.max(), found.logits.min()
    beyond = reference.amax(dim=1) > largest + CLIPPED * (largest - smallest)
    return {
        "images": len(found.logits),
        **{name: round(getattr(found, name), 3) for name in ("top1", "top5", "macro")},
        **{f"float_{name}": round(getattr(expected, name), 3) for name in ("top1", "top5", "macro")},
        "equal_answers": round(100 * equal.double().mean().item(), 3),
        "largest_logit": reference.abs().max().item(),
        "largest_difference": (found.logits - reference).abs().max().item(),
        "saturated_outputs": int(beyond.sum()),
    }


def compare_batches(run: Callable[[np.ndarray], Tensor], levels: np.ndarray, logits: Tensor) -> dict[str, float]:
    """How far the logits of single images, and of a batch of another size, are from those of whole batches."""
    with torch.inference_mode():
        single = torch.cat([run(image[None]) for image in levels])
        few = run(levels[:3])
    differences = [(part - logits[: len(part)]).abs().max().item() for part in (single, few)]
    return {"largest_difference_of_batches": max(differences)}


def count_layers(writer: ModuleType, path: Path) -> dict[str, int]:
    """The layers that a file holds in int8. Raises: ValueError if one is not."""
    convolutions, linear = writer.count_int8(path)
    if (convolutions, linear) != (CONVOLUTIONS, LINEAR_LAYERS):
        raise ValueError(
            f"{path.name}: {convolutions} of {CONVOLUTIONS} convolutions and {linear} of {LINEAR_LAYERS} linear layers "
            "are in int8, so it is refused; install the versions of requirements-export.txt"
        )
    return {"int8_convolutions": convolutions, "int8_linear_layers": linear}


def refuse(request: Request, figures: dict[str, Any], most_lost: float) -> None:
    """Raise ValueError for a file whose figures are beyond the limits."""
    name, int8 = request.name, bool(request.choices.int8)
    scale = max(10.0, figures["largest_logit"])
    tolerance = INT8_TOLERANCE * scale if int8 else FLOAT_TOLERANCE * scale
    batches = figures["largest_difference_of_batches"]
    if not batches <= tolerance:
        raise ValueError(f"{name}: its logits depend on the size of the batch, by {batches:.1e}, so it is refused")
    if not int8:
        difference = figures["largest_difference"]
        if not difference <= tolerance:
            raise ValueError(
                f"{name}: a logit differs by {difference:.1e} from torch's, above {tolerance:.1e}; refused"
            )
        return
    for score_name in ("top1", "macro"):
        lost = figures[f"float_{score_name}"] - figures[score_name]
        if lost > most_lost and round(lost * figures["images"] / 100) > CHANCE:
            raise ValueError(
                f"{name}: int8 loses {lost:.2f} points of {score_name} accuracy ({figures[f'float_{score_name}']:.2f} "
                f"in float), above --most-lost {most_lost:g}; refused. Calibrate on more images (--images), train for "
                "it (--int8 qat), or allow more"
            )
    most = math.ceil(MOST_SATURATED * figures["images"])
    if figures["saturated_outputs"] > most:
        raise ValueError(
            f"{name}: {figures['saturated_outputs']} of {figures['images']} images have logits above what int8 "
            "can hold; refused. Calibrate on images like those it is for (--calibration)"
        )

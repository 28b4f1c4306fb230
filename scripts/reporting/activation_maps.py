# SPDX-License-Identifier: Apache-2.0
"""Which places of an image speak for the answer: class activation maps (Zhou et al., arXiv:1512.04150).

The network ends in a mean over the places of its last feature map and one linear layer. The two can change places:
applied to each place, the linear layer gives a map whose mean is the logit itself.
"""

from pathlib import Path
from types import ModuleType
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from core.exported_files import hash_file, is_exported
from core.network_weights import create_network, load_trained_network
from core.pixels import Image
from imgproc import normalize
from model import MobileNetV2
from reporting.measurements import Measurement


class Answer(NamedTuple):
    """What the network says of one image."""

    label: str | None  # None: the weights have no class names
    probability: float
    map: np.ndarray  # float32 [h, w]: the logit of the answer, place by place


class Viewer:
    """The network that test.py has scored, to be asked image by image."""

    def __init__(self, network: MobileNetV2, names: list[str] | None, config: ModuleType) -> None:
        self.network, self.names = network.eval().to(memory_format=torch.channels_last), names
        self.mean = torch.tensor(config.model_mean_parameters)
        self.std = torch.tensor(config.model_std_parameters)

    @torch.inference_mode()
    def ask(self, image: Image) -> Answer:
        """image: RGB uint8 [S, S, 3], as the network takes it."""
        levels = torch.from_numpy(image).permute(2, 0, 1)[None]
        logits, maps = class_maps(self.network, normalize(levels, self.mean, self.std))
        probabilities = logits[0].softmax(dim=0)
        best = int(probabilities.argmax())
        label = self.names[best] if self.names else None
        return Answer(label, float(probabilities[best]), maps[0].numpy())


def class_maps(network: MobileNetV2, images: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised images [N, 3, S, S] -> logits [N, C], and the map [N, h, w] of the likeliest class of each."""
    features = network.features(images)  # [N, channels, h, w]
    linear = cast(nn.Linear, network.classifier[1])
    logits = linear(features.mean((2, 3)))
    best = logits.argmax(dim=1)
    maps = torch.einsum("nc,nchw->nhw", linear.weight[best], features) + linear.bias[best][:, None, None]
    return logits, maps


def open_viewer(config: ModuleType, measured: Measurement) -> tuple[Viewer | None, str]:
    """The network, or None and the sentence that says why there are no maps."""
    path = Path(measured.weights)
    if is_exported(path):
        return None, "An exported file gives no feature map, so there are no activation maps."
    try:
        if hash_file(path) != measured.weights_sha256:
            return None, f"{path} has changed since test.py scored it, so there are no activation maps."
        used = ModuleType("config")
        vars(used).update(vars(config))
        used.model_weights_path, used.image_size = measured.weights, measured.image_size  # type: ignore[attr-defined]
        used.apply_orientation = measured.apply_orientation  # type: ignore[attr-defined]
        network = create_network(used)
        names = load_trained_network(network, used)
    except (OSError, ValueError) as error:
        reason = str(error.strerror if isinstance(error, OSError) and error.strerror else error)
        place = "" if reason.startswith(measured.weights) else f"{path}: "
        return None, f"There are no activation maps, for the weights cannot be used: {place}{reason}."
    if not isinstance(network, MobileNetV2):
        return None, f"There are no activation maps: {config.model_arch_name} is another network."
    return Viewer(network, names, used), ""

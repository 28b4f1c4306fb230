# SPDX-License-Identifier: Apache-2.0
"""Networks of other packages with weights of their own, and the names that other projects give their layers."""

from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn

Weights = dict[str, Tensor]
TIMM_WIDTHS = {"035": 0.35, "050": 0.5, "075": 0.75, "100": 1.0, "140": 1.4}


def randomize(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight and every statistic a value of its own, such that the signal stays of order 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                fan_in = module.weight[0].numel()
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * (2 / fan_in) ** 0.5)
            elif isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.bias.shape, generator=generator) * 0.2)
                module.running_var.copy_(torch.rand(module.bias.shape, generator=generator) + 0.5)
                module.weight.copy_(torch.rand(module.bias.shape, generator=generator) + 0.5)
                module.num_batches_tracked.fill_(7)
            if getattr(module, "bias", None) is not None:
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.2)
    return network.eval()


@torch.no_grad()
def calm(network: nn.Module) -> nn.Module:
    """Let each block add less to its input than it is, as after training: else rounding becomes 20 times larger."""
    for block in network.features[1:-1]:
        block.conv[-1].weight *= 0.5
    return network.requires_grad_(False)


def torchvision_network(num_classes: int = 5, width_mult: float = 0.35) -> nn.Module:
    return randomize(torchvision.models.mobilenet_v2(num_classes=num_classes, width_mult=width_mult))


@torch.inference_mode()
def logits_of(network: nn.Module) -> Tensor:
    return network(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)))


# (block, step, is batch-norm) of every layer; block 0 is the stem, 18 the head, 19 the classifier
ROLES = [
    *((0, "stem", norm) for norm in (0, 1)),
    *((1, step, norm) for step in ("depthwise", "project") for norm in (0, 1)),
    *((block, s, norm) for block in range(2, 18) for s in ("expand", "depthwise", "project") for norm in (0, 1)),
    *((18, "head", norm) for norm in (0, 1)),
    (19, "classifier", 0),
]
Naming = Callable[[int, str, int], str]


def old_torchvision(block: int, step: str, norm: int) -> str:
    """One flat Sequential in every block, in which each ReLU6 takes a number."""
    if step == "classifier":
        return "classifier.1"
    if step in ("stem", "head"):
        return f"features.{block}.{norm}"
    steps = ("depthwise", "project") if block == 1 else ("expand", "depthwise", "project")
    return f"features.{block}.conv.{3 * steps.index(step) + norm}"


def tonylins(block: int, step: str, norm: int) -> str:
    return "classifier" if step == "classifier" else old_torchvision(block, step, norm)


def d_li14(block: int, step: str, norm: int) -> str:
    return f"conv.{norm}" if step == "head" else tonylins(block, step, norm)


def hugging_face(block: int, step: str, norm: int) -> str:
    """Of the package transformers, for PyTorch."""
    kernels = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1", "stem": "first_conv"}
    group = "conv_1x1" if step == "head" else "conv_stem" if block < 2 else f"layer.{block - 2}"
    kernel = f".{kernels[step]}" if step in kernels else ""
    part = "normalization" if norm else "convolution"
    return "classifier" if step == "classifier" else f"mobilenet_v2.{group}{kernel}.{part}"


def keras(block: int, step: str, norm: int) -> str:
    """Flat names, which do not tell the batch-norms of a block apart unless one knows what expand means."""
    if step in ("stem", "head", "classifier"):
        return {"stem": ("Conv1", "bn_Conv1"), "head": ("Conv_1", "Conv_1_bn"), "classifier": ("Logits",)}[step][norm]
    return f"{'expanded_conv' if block == 1 else f'block_{block - 1}'}_{step}{'_BN' * norm}"


def rename(weights: Weights, naming: Naming) -> Weights:
    """The weights of torchvision, whose state_dict() has the layers in their order, under other names."""
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in weights))
    names = {layer: naming(*role) for layer, role in zip(layers, ROLES, strict=True)}
    return {f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": weights[name] for name in weights}


NAMINGS = [old_torchvision, tonylins, d_li14, hugging_face]

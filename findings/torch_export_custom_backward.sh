#!/usr/bin/env bash
# torch.export drops the backward of a custom autograd.Function: the exported network trains with other gradients.
#
# Expected: an exported module gives the gradients of the module, as torch.compile does, or the export is refused.
# Seen with torch 2.15.0: the graph holds the operations of forward() alone, and the gradients are theirs. A rounding
# with a straight-through gradient (1) has a gradient of 0 after the export, without a warning.
# Why it matters: torchao's prepare_qat_pt2e() trains exported networks, and straight-through estimators are what people
# write such functions for; layers before one learn nothing more.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch==2.15.0 numpy==2.4.6
PYTHONPATH="$folder" python3 -W error::UserWarning - <<'PYTHON'
import torch


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Round.apply(self.linear(x))


def gradient(network: torch.nn.Module) -> list[float]:
    """The gradient of the weight for an input of 1 and 2."""
    [weight] = network.parameters()
    weight.grad = None
    network(torch.tensor([[1.0, 2.0]])).sum().backward()
    return weight.grad.ravel().tolist()


network = Network()
exported = torch.export.export(network, (torch.ones(1, 2),)).module()
seen = {
    "module": gradient(network),
    "compiled": gradient(torch.compile(network, backend="eager")),
    "exported": gradient(exported),
}
print(f"torch {torch.__version__}, gradients: {seen}")
assert seen == {"module": [1, 2], "compiled": [1, 2], "exported": [0, 0]}, "the behaviour has changed"
PYTHON

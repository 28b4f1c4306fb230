#!/usr/bin/env bash
# ExecuTorch takes images of another size for a batch of smaller ones if the exported program has a dynamic batch.
#
# Expected: an error. Only the batch was declared dynamic; the program that torch.export made refuses another height
# ("Guard failed"), and so does ExecuTorch if the batch is static.
# Seen with ExecuTorch 1.5.1: it is enough that the values fit into the memory planned for the largest batch. For up to
# 4 images of 32x32 one image of 64x64 fits, and a network that flattens with view(-1, 3 * 32 * 32) gives four answers.
# Why it matters: a forgotten resize gives answers, and even the wrong number of them, instead of an error.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    executorch==1.5.1 torch==2.15.0 torchao==0.18.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder" python3 - <<'PYTHON'
from collections.abc import Callable
from importlib.metadata import version

import torch
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime


class Flat(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = torch.nn.Linear(3 * 32 * 32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(images.view(-1, 3 * 32 * 32))


def answers(forward: Callable[[torch.Tensor], torch.Tensor], *shape: int) -> int | None:
    """The number of answers to images of the given shape, None if they are refused."""
    try:
        return len(forward(torch.zeros(shape)))
    except (RuntimeError, AssertionError):
        return None


seen = {}
for batch in (torch.export.Dim("batch", max=4), None):
    exported = torch.export.export(Flat().eval(), (torch.zeros(4, 3, 32, 32),), dynamic_shapes=({0: batch},))
    program = Runtime.get().load_program(to_edge_transform_and_lower(exported).to_executorch().buffer)
    method = program.load_method("forward")
    for name, forward in (("torch", exported.module()), ("pte", lambda images: method.execute([images])[0])):
        cases = [(4, 3, 32, 32), (5, 3, 32, 32), (1, 3, 64, 64)]
        seen["dynamic" if batch else "static", name] = [answers(forward, *shape) for shape in cases]
print(f"ExecuTorch {version('executorch')}, torch {torch.__version__}, number of answers (None: refused)")
print(f"to four images of 32x32, five of 32x32, one of 64x64: {seen}")
wrong = {case for case, counts in seen.items() if counts != [4, None, None]}
assert wrong == {("dynamic", "pte")} and seen["dynamic", "pte"] == [4, None, 4], "the behaviour has changed"
PYTHON

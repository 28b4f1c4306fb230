#!/usr/bin/env bash
# torch's fused SGD on the CPU ignores strides: momentum in another memory format than its weight updates wrong weights.
#
# Expected: element by element by index, as with fused=False; or an error.
# Seen with torch 2.15.0: a channels_last weight with contiguous momentum, as a checkpoint has it that went through
# safetensors or numpy. load_state_dict() keeps the strides of the file.
# Why it matters: such a checkpoint resumes without a word, and trains wrong.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch==2.15.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import torch


def stepped(fused: bool, memory_format: torch.memory_format) -> torch.Tensor:
    """A channels_last weight after one step with momentum in the given format."""
    generator = torch.Generator().manual_seed(0)
    weight, momentum, gradient = (torch.randn(8, 4, 3, 3, generator=generator) for _ in range(3))
    weight = torch.nn.Parameter(weight.to(memory_format=torch.channels_last))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, fused=fused)
    state = {0: {"momentum_buffer": momentum.to(memory_format=memory_format)}}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    weight.grad = gradient.to(memory_format=torch.channels_last)
    optimizer.step()
    return weight.detach()


right = stepped(False, torch.channels_last)
seen = {
    (fused, str(memory_format)): (stepped(fused, memory_format) - right).abs().max().item()
    for fused in (False, True)
    for memory_format in (torch.channels_last, torch.contiguous_format)
}
print(f"torch {torch.__version__}, largest error by (fused, format of the momentum): {seen}")
wrong = {case for case, error in seen.items() if error > 1e-6}
assert wrong == {(True, "torch.contiguous_format")}, "the behaviour has changed"
PYTHON

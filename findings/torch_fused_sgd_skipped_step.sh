#!/usr/bin/env bash
# torch's fused SGD leaves its momentum unwritten when GradScaler skips the first step, and uses it in the next one.
#
# Expected: no momentum after a step that was not taken, as with fused=False.
# Seen with torch 2.15.0 on the CPU. Memory that torch leaves unwritten is filled with NaN here (a setting of torch for
# finding such faults); after a skipped first step the momentum is NaN, and after the second the weight. In use it holds
# whatever lay in memory before: the loss grows within some batches, or, by luck, nothing happens.
# Why it matters: the scale starts at 65,536, so the first step of float16 training is usually skipped.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch==2.15.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import torch

torch.use_deterministic_algorithms(True)
torch.utils.deterministic.fill_uninitialized_memory = True  # with NaN


def after_a_skipped_step(fused: bool) -> tuple[bool, bool]:
    """Whether there is momentum after the skipped step, and whether the weight is finite after the next."""
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for gradient in (float("inf"), 1.0):
        weight.grad = torch.full((4,), gradient)
        scaler.scale(torch.zeros(()))  # the scaler makes its scale at the first loss
        scaler.step(optimizer)
        scaler.update()
        if gradient != 1.0:
            has_momentum = optimizer.state[weight].get("momentum_buffer") is not None
    return has_momentum, bool(weight.isfinite().all())


seen = {f"fused={fused}": after_a_skipped_step(fused) for fused in (False, True)}
print(f"torch {torch.__version__}, (momentum after a skipped step, weight finite after the next): {seen}")
assert seen == {"fused=False": (False, True), "fused=True": (True, False)}, "the behaviour has changed"
PYTHON

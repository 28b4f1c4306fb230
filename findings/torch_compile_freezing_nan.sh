#!/usr/bin/env bash
# With freezing, torch.compile on the CPU turns NaN into 0 where a ReLU, ReLU6 or Hardtanh follows a convolution.
#
# Expected: NaN where the network itself gives NaN, as torch.compile gives without freezing; the documentation of
# freezing says that it makes constants of the weights.
# Seen with torch 2.15.0 on x86: freezing also joins the two layers to one operation of oneDNN, whose ReLU, ReLU6 and
# Hardtanh answer NaN with their lower bound, with the routines for SSE 4.1 as for AVX2; Hardswish passes NaN on.
# Why it matters: a network that diverged, or an input with NaN in it, is found by looking for NaN in what it gives.
# Frozen, it gives finite scores, and they look like an answer.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch==2.15.0 numpy==2.4.6
export PYTHONPATH="$folder" TORCHINDUCTOR_CACHE_DIR="$folder/cache" OMP_NUM_THREADS=1
cat > "$folder/count_nan.py" <<'PYTHON'
import torch
from torch import nn


@torch.no_grad()
def count_nan(activation: nn.Module) -> tuple[int, int]:
    """How many values of a convolution and an activation are NaN, for an image with NaN in a corner; compiled, too."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), activation).eval()
    image = torch.randn(1, 3, 8, 8)
    image[0, 0, 0, 0] = float("nan")
    torch._dynamo.reset()
    return int(network(image).isnan().sum()), int(torch.compile(network)(image).isnan().sum())


print({type(each).__name__: count_nan(each) for each in (nn.ReLU(), nn.ReLU6(), nn.Hardtanh(0, 1), nn.Hardswish())})
PYTHON
changed() {
    echo "the behaviour has changed" >&2
    exit 1
}
plain=$(python3 "$folder/count_nan.py" 2>/dev/null)
echo "torch 2.15.0, values that are NaN (called, compiled): $plain"
test "$plain" = "{'ReLU': (32, 32), 'ReLU6': (32, 32), 'Hardtanh': (32, 32), 'Hardswish': (32, 32)}" || changed
for routines in SSE41 AVX2; do
    frozen=$(ONEDNN_MAX_CPU_ISA=$routines TORCHINDUCTOR_FREEZING=1 python3 "$folder/count_nan.py" 2>/dev/null)
    echo "with TORCHINDUCTOR_FREEZING=1, oneDNN's routines for $routines: $frozen"
    test "$frozen" = "{'ReLU': (32, 0), 'ReLU6': (32, 0), 'Hardtanh': (32, 0), 'Hardswish': (32, 32)}" || changed
done

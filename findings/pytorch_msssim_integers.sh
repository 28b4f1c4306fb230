#!/bin/bash
# pytorch-msssim says of any two pictures of whole numbers that they are the same: SSIM 1.
#
# Expected: the SSIM of their levels from 0 to 255, which is the default data_range, or an error.
# Seen with pytorch-msssim 1.0.0: the window, whose weights are less than 1, is turned into the type of the pictures. As
# uint8, int16, int32 or int64 it is all zeros, so that all means and variances are 0, and the quotient is 1. Noise
# against other noise gives 1.0, as floats 0.003. ssim() and SSIM do it, on the CPU of torch 2.15.0.
# Why it matters: pictures from files are uint8, masks int64, and a perfect score raises no question.
# Without it: ssim(first.float(), second.float()).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    pytorch-msssim==1.0.0 torch==2.15.0 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - <<'PYTHON'
import importlib.metadata

import torch
from pytorch_msssim import SSIM, ssim

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("pytorch-msssim", "torch")))
generator = torch.Generator().manual_seed(0)
first, second = (torch.randint(0, 256, (1, 3, 32, 32), generator=generator) for _ in range(2))
black, white = torch.zeros_like(first), torch.full_like(first, 255)
for dtype in (torch.float32, torch.float64, torch.uint8, torch.int16, torch.int32, torch.int64):
    scores = {
        "noise": ssim(first.to(dtype), second.to(dtype)).item(),
        "noise, module": SSIM()(first.to(dtype), second.to(dtype)).item(),
        "black and white": ssim(black.to(dtype), white.to(dtype)).item(),
    }
    print(f"{dtype}: {({name: round(score, 4) for name, score in scores.items()})}")
    for score in scores.values():
        assert score < 0.1 if dtype.is_floating_point else score == 1.0, "the behaviour has changed"
PYTHON

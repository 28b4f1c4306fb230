#!/usr/bin/env bash
# torch on a CPU gives the kernel of a dilated depthwise convolution a wrong gradient in bfloat16.
#
# Expected: the gradient of double precision but for the 8 bits of bfloat16, a relative error of about 0.003.
# Seen with torch 2.15.0 (oneDNN 3.13.3) on processors with AVX-512, in channels_last, on maps of 32 pixels a side or
# more: the gradient has nothing to do with the right one, and may have values like 1e30 or NaN. The output and the
# gradient of the input are right, and so is everything in float32, without dilation, in the other memory format, or
# with oneDNN's routines for AVX2. Under torch.autocast it is the same: that is where people meet it.
# Why it matters: the networks that segment (DeepLab on MobileNet, or any with an output stride) are made of such layers.
# Nothing is reported; the loss even falls, as the other layers learn.
set -eu
grep -q avx512bw /proc/cpuinfo || {
    echo "needs a processor with AVX-512" >&2
    exit 2
}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch==2.15.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import torch


def kernel_gradient(dtype: torch.dtype, dilation: int, memory_format: torch.memory_format) -> torch.Tensor:
    """Of 64 channels on maps of 40 x 40 pixels; the same numbers for each dtype."""
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Conv2d(64, 64, 3, 1, dilation, dilation, groups=64, bias=False).to(dtype)
    values = [torch.randn(shape, generator=generator) for shape in (layer.weight.shape, *[(4, 64, 40, 40)] * 2)]
    layer.weight.data.copy_(values[0])
    maps, gradient = (each.to(dtype).contiguous(memory_format=memory_format) for each in values[1:])
    layer(maps).backward(gradient)
    return layer.weight.grad.double()


def error(dtype: torch.dtype, dilation: int, memory_format: torch.memory_format) -> float:
    """Relative to double precision."""
    exact = kernel_gradient(torch.float64, dilation, memory_format)
    return float((kernel_gradient(dtype, dilation, memory_format) - exact).norm() / exact.norm())


errors = {
    "bfloat16, dilation 2, channels_last": error(torch.bfloat16, 2, torch.channels_last),
    "bfloat16, dilation 1, channels_last": error(torch.bfloat16, 1, torch.channels_last),
    "bfloat16, dilation 2, contiguous": error(torch.bfloat16, 2, torch.contiguous_format),
    "float32, dilation 2, channels_last": error(torch.float32, 2, torch.channels_last),
}
print(f"torch {torch.__version__}, relative errors of the kernel's gradient:")
for name, value in errors.items():
    print(f"  {name}: {value:.2g}")
wrong, *right = errors.values()
assert not wrong < 0.5 and max(right) < 0.01, "the behaviour has changed"
PYTHON

#!/bin/bash
# ncnn gives 2.4e38 for a power of a negative number, such as (-2) ** 3, unless the map has only a few numbers.
#
# Expected: (-2) ** 3 is -8 and (-2) ** 4 is 16, as in NumPy, torch and ncnn's own loop for single numbers. BinaryOp 6
# is what ncnn's documentation calls pow(x, y), and what pnnx writes for x ** 3 in a PyTorch network.
# Seen with ncnn 1.0.20261020 on x86-64: 2.4e38 for each negative number, with whole exponents too. Where the processor
# works on several numbers at once (4, 8 or 16 of them), the power is taken as exp(y * log(x)), and the logarithm of a
# negative number is not a number; the numbers left over at the end of a row are taken by pow() and right. So a map of
# 3 numbers is right and one of 48 is not. Powers of positive numbers are right. Nothing is said. The authors have been
# told of it since 2020.
# Why it matters: half of the values of a feature map may be negative. A network that takes x ** 3 or x ** 4, as
# polynomial activations do, is right in PyTorch and in a test with a few numbers, and worthless on the device.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    ncnn==1.0.20261020 numpy==2.4.6
PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import sys

import ncnn
import numpy as np

folder = sys.argv[1]
POWER = 6


def powers(values: np.ndarray, exponent: float) -> np.ndarray:
    """The answer of an ncnn network of one layer, in float32 throughout."""
    with open(f"{folder}/network.param", "w") as file:
        file.write("7767517\n2 2\nInput image 0 1 image\n")
        file.write(f"BinaryOp power 1 1 image answer 0={POWER} 1=1 2={exponent}\n")
    with open(f"{folder}/network.bin", "wb"):
        pass
    with ncnn.Net() as network:
        network.opt.num_threads = 1
        network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = network.opt.use_fp16_packed = False
        assert network.load_param(f"{folder}/network.param") == 0, "the network is sound"
        assert network.load_model(f"{folder}/network.bin") == 0, "the network is sound"
        run = network.create_extractor()
        given = ncnn.Mat(values).clone()
        assert run.input("image", given) == 0
        code, answer = run.extract("answer")
        assert code == 0
        found = np.array(answer).copy()
        del answer, run
    return found


print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ncnn", "numpy")))
for exponent in (3.0, 4.0):
    for numbers in ([-2, 0.5, -1], [2, 0.5, 1] * 16, [-2, 0.5, -1] * 16):
        values = np.array(numbers, np.float32)
        right = values**exponent
        found = powers(values, exponent)
        assert found.shape == right.shape, "the behaviour has changed"
        same = np.isclose(found, right, rtol=1e-4)
        print(f"{values[:3].tolist()} ** {exponent:g}, {len(values)} numbers: should be {right[:3].tolist()}, "
              f"is {found[:3].tolist()}")
        if len(values) == 3:
            assert same.all(), "the behaviour has changed"
        else:
            assert (same == (values > 0)).all(), "the behaviour has changed"
PYTHON

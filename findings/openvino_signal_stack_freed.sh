#!/usr/bin/env bash
# OpenVINO leaves the process with a signal stack in freed memory when Cores are deleted in the order they were made.
#
# Expected: compiling a network for the CPU changes nothing that belongs to the process, or the end of it puts that back.
# Seen with OpenVINO 2026.4.1 on x86-64 Linux: the CPU plugin of each Core puts memory of its own in place as the
# alternate signal stack (sigaltstack(2)) of the thread, and its end puts back the one that was there before. With three
# Cores deleted in the order in which they were made, that is the memory of the second, which is gone.
# Why it matters: Python's handlers run on that stack. The next Ctrl-C, or end of a loader's worker once PyTorch has its
# SIGCHLD handler, ends the process by a segmentation fault far from OpenVINO, without a word of faulthandler.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    openvino==2026.4.1 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder" python3 - <<'PYTHON'
import ctypes
import re
from pathlib import Path

import openvino


class SignalStack(ctypes.Structure):
    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> str:
    """Whether the thread has an alternate signal stack, and whether there is memory where it should be."""
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    if not stack.address:
        return "none"
    areas = re.findall(r"^(\w+)-(\w+) rw", Path("/proc/self/maps").read_text(), re.MULTILINE)
    mapped = any(int(start, 16) <= stack.address < int(end, 16) for start, end in areas)
    return "memory" if mapped else "no memory"


def compile_network() -> openvino.CompiledModel:
    images = openvino.opset13.parameter([1, 3], openvino.Type.f32)
    return openvino.Core().compile_model(openvino.Model([openvino.opset13.relu(images)], [images]), "CPU")


seen = {"at first": signal_stack()}
networks = [compile_network() for _ in range(3)]
seen["three Cores, each with a network"] = signal_stack()
while networks:
    del networks[0]
seen["deleted, first one first"] = signal_stack()
print(f"OpenVINO {openvino.__version__.partition('-')[0]}, alternate signal stack: {seen}")
assert list(seen.values()) == ["none", "memory", "no memory"], "the behaviour has changed"
PYTHON

#!/usr/bin/env bash
# ExecuTorch's XNNPACKQuantizer leaves ZeroPad2d in floating point, between two int8 convolutions.
#
# Expected: int8 all the way. Padding copies values, zero is exact in int8, and XNNPACK pads int8 as it is.
# Seen with ExecuTorch 1.5.1: the values are converted to float, padded, and converted to int8 again, all inside the one
# delegate, so that nothing shows it outside. The padding argument of Conv2d costs no conversion.
# Why it matters: networks that came from TensorFlow pad below and on the right before each stride, which no argument of
# Conv2d can say; each of these layers pays two conversions and a padding of the large map in float.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    executorch==1.5.1 torch==2.15.0 torchao==0.18.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder" python3 - <<'PYTHON'
import json
import pathlib
import struct
import subprocess
from importlib.metadata import version

import executorch
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from executorch.exir import to_edge_transform_and_lower
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

package = pathlib.Path(next(iter(executorch.__path__)))
schema = package / "backends" / "xnnpack" / "serialization" / "schema.fbs"
images = (torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)


def nodes_of(*layers: torch.nn.Module) -> list[str]:
    """The nodes of the XNNPACK graph in the file for a quantised network of the given layers."""
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.export(torch.nn.Sequential(*layers).eval(), images).module(), quantizer)
    prepared(*images)
    exported = torch.export.export(convert_pt2e(prepared), images)
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).exported_program()
    [delegate] = [module for _, module in lowered.graph_module.named_children()]
    start, size = struct.unpack_from("<II", delegate.processed_bytes, 10)
    pathlib.Path("graph.bin").write_bytes(delegate.processed_bytes[start : start + size])
    flatc = [package / "data" / "bin" / "flatc", "--json", "--strict-json", "--raw-binary", schema, "--", "graph.bin"]
    subprocess.run(flatc, check=True)
    text = pathlib.Path("graph.json").read_text().replace("+inf", "Infinity").replace(": inf", ": Infinity")
    return [node["xnode_union_type"].removeprefix("XNN") for node in json.loads(text)["xnodes"]]


def convolution(**settings: int) -> torch.nn.Module:
    return torch.nn.Conv2d(3, 3, 3, stride=2, **settings)


first = [torch.nn.Conv2d(3, 3, 1), torch.nn.ReLU()]
inside = nodes_of(*first, convolution(padding=1))
apart = nodes_of(*first, torch.nn.ZeroPad2d((0, 1, 0, 1)), convolution())
print(f"ExecuTorch {version('executorch')}, torch {torch.__version__}, torchao {version('torchao')}")
print(f"padding=1: {' '.join(inside)}\nZeroPad2d: {' '.join(apart)}")
at = apart.index("StaticConstantPad")
assert apart[at - 1] == apart[at + 1] == "Convert", "the behaviour has changed"
assert inside.count("Convert") == 2 and apart.count("Convert") == 4, "the behaviour has changed"
PYTHON

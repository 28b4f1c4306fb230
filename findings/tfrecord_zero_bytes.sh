#!/bin/bash
# tfrecord takes the zero bytes off the end of each value of a feature that has several, so that masks become shorter.
#
# Expected: a feature with a list of bytes is read as it was written, as a feature with a single value is.
# Seen with tfrecord 1.14.6: two or more values become a NumPy array of fixed-width strings, which cannot end with a
# zero byte. A mask of 4 pixels whose last one is background has 3 bytes, and one that is all background has none.
# TFRecordDataset reads with the same function. The file is right: protobuf reads all 4 bytes.
# Why it matters: a record holds one mask per object, or several raw pictures or tensors, as a list of bytes. Most masks
# end with background; np.frombuffer() takes any length, and those of a batch that are padded to one length look sound.
# Without it: one feature per value (below), or values that never end with zero, such as PNG files.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    tfrecord==1.14.6 protobuf==7.36.2 crc32c==2.9.post0 numpy==2.4.6
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import importlib.metadata
import sys

from tfrecord import TFRecordWriter, example_pb2
from tfrecord.reader import tfrecord_iterator, tfrecord_loader

path = f"{sys.argv[1]}/masks.tfrecord"
masks = [bytes([1, 1, 1, 0]), bytes([0, 0, 0, 0]), bytes([0, 0, 0, 1])]
writer = TFRecordWriter(path)
writer.write({"masks": (masks, "byte"), "first": (masks[:1], "byte"), "second": (masks[1:2], "byte")})
writer.close()

example = example_pb2.Example.FromString(bytes(next(tfrecord_iterator(path))))
stored = list(example.features.feature["masks"].bytes_list.value)
record = next(tfrecord_loader(path, None))
read = [bytes(mask) for mask in record["masks"]]

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("tfrecord", "numpy")))
print(f"written {masks}")
print(f"in the file {stored}")
print(f"read together {read}, alone {record['first']}, {record['second']}")
assert stored == masks and [record["first"], record["second"]] == masks[:2], "the behaviour has changed"
assert read == [mask.rstrip(b"\0") for mask in masks] != masks, "the behaviour has changed"
PYTHON

#!/bin/bash
# nibabel saves class numbers so that most of them come back as fractions, and one is cut down to the class below it.
#
# Expected: a segmentation with the classes 0 and 1, as float64, saved as the usual Nifti1Image(labels, image.affine,
# image.header) with the header of a scan of type int16, is a file of int16 with 0 and 1: both types hold them exactly.
# Seen with nibabel 5.4.2: the numbers are stretched over the whole range of int16, 0 as -32768 and 1 as 32767, with a
# slope and an offset in float32. Read again, 1 is 0.9999999998: labels == 1 finds no pixel at all, and astype("uint8")
# makes background of the object. The same for uint8, uint16 and int32, with other classes; of 0, 1 and 2 in uint8, 1
# comes back as 0.996. Nothing is said. Labels of a type of whole numbers, and headers of float32, give the labels back.
# Why it matters: get_fdata() gives float64, so that all labels computed from it are float64, and the header of the scan
# is what carries the geometry. A Dice value or a training set from the saved file has lost its objects.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder/packages" \
    nibabel==5.4.2 numpy==2.4.6 packaging==26.4 importlib_resources==7.1.0 typing_extensions==4.16.0
PYTHONPATH="$folder/packages" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import sys

import nibabel
import numpy as np

folder = sys.argv[1]
print(f"nibabel {importlib.metadata.version('nibabel')}")


def saved(scan_type: type, labels: np.ndarray) -> np.ndarray:
    """The labels, saved with the header of a scan, and read again."""
    scan = nibabel.Nifti1Image(np.zeros((8, 8, 1), scan_type), np.eye(4))
    nibabel.save(scan, f"{folder}/scan.nii.gz")
    scan = nibabel.load(f"{folder}/scan.nii.gz")
    assert scan.get_data_dtype() == scan_type
    nibabel.save(nibabel.Nifti1Image(labels, scan.affine, scan.header), f"{folder}/labels.nii.gz")
    read = nibabel.load(f"{folder}/labels.nii.gz")
    assert read.get_data_dtype() == scan_type
    return read.get_fdata()


for scan_type in (np.uint8, np.int16, np.uint16, np.int32, np.float32):
    for top in (1, 2, 3, 9):
        labels = np.arange(64).reshape(8, 8, 1) % (top + 1)
        assert labels.max() == top and np.array_equal(labels.astype(scan_type), labels)  # the type holds all of them
        assert np.array_equal(saved(scan_type, labels.astype(np.uint8)), labels)
        read = saved(scan_type, labels.astype(np.float64))
        assert np.allclose(read, labels, atol=0.05)
        found = [number for number in range(top + 1) if (read == number).any()]
        whole = {number: int(read[labels == number][0]) for number in range(1, top + 1)}
        moved = {number: other for number, other in whole.items() if number != other}
        print(f"{np.dtype(scan_type)}, classes 0 to {top}: found with == {found}, cut to another class {moved}")
        print(f"  class {top} is {float(read[labels == top][0])!r}")
        assert (found == list(range(top + 1))) == (scan_type is np.float32), "the behaviour has changed"
        if scan_type in (np.int16, np.uint16) and top == 1:
            assert moved == {1: 0} and found == [0], "the behaviour has changed"
PYTHON

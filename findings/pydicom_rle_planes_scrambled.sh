#!/bin/bash
# pydicom scrambles a colour picture in planes when it compresses it with RLE.
#
# Expected: compress(RLELossless) is lossless: the pixel_array of the data set stays what it was, whether its pixels are
# stored colour by pixel (Planar Configuration 0) or in planes (1). Its documentation asks for the element to be there,
# and says that the existing pixel data is compressed.
# Seen with pydicom 3.0.2: the encoder cuts the bytes up as if they were stored by pixel. With planes, the three colours
# are mixed up with each other and over the picture, in memory and in the file, and decompress() gives the scrambled
# picture. Nothing is said, and the original pixels are gone. compress(RLELossless, data_set.pixel_array) is right.
# Why it matters: colour pictures in planes come from ultrasound and older devices. An archive of pathology or
# dermatology pictures that is compressed to save space is lost, and labels that fit the pictures fit no more.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder/packages" \
    pydicom==3.0.2 numpy==2.4.6
PYTHONPATH="$folder/packages" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import importlib.metadata
import sys

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

path = f"{sys.argv[1]}/picture.dcm"
rows, columns = np.mgrid[:60, :80]
picture = np.stack([rows * 4, columns * 3, np.where(rows > 30, 200, 0)], -1).astype(np.uint8)


def original(planes: int) -> Dataset:
    """The picture, as read from a file that is not compressed."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 60, 80, 3
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", planes
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = (np.moveaxis(picture, -1, 0) if planes else picture).tobytes()
    dataset.save_as(path, enforce_file_format=True)
    dataset = pydicom.dcmread(path)
    assert np.array_equal(dataset.pixel_array, picture)
    return dataset


def right(dataset: Dataset) -> str:
    """The part of the numbers that are still those of the picture."""
    assert dataset.pixel_array.shape == picture.shape
    return f"{(dataset.pixel_array == picture).mean():.0%}"


print(f"pydicom {importlib.metadata.version('pydicom')}; numbers that are right after compression:")
for planes in (0, 1):
    dataset = original(planes)
    dataset.compress(RLELossless)
    found = {"in memory": right(dataset)}
    dataset.save_as(path, enforce_file_format=True)
    found["in the file"] = right(pydicom.dcmread(path))
    dataset.decompress()
    found["decompressed"] = right(dataset)
    dataset = original(planes)
    dataset.compress(RLELossless, dataset.pixel_array)
    assert right(dataset) == "100%"
    print(f"Planar Configuration {planes}: {found}")
    if planes:
        assert all(int(part[:-1]) < 50 for part in found.values()), "the behaviour has changed"
    else:
        assert set(found.values()) == {"100%"}
PYTHON

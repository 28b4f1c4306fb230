#!/bin/bash
# dagshub-annotation-converter takes the visible key points of YOLO pose labels for points that are not there.
#
# Expected: the third number of a key point is 0 if it is not labelled, 1 if it is labelled and hidden, and 2 if it is
# labelled and visible, as in COCO and in the YOLO labels of COCO's people. A loss counts the points whose number is
# not 0.
# Seen with dagshub-annotation-converter 0.3.0: only the text "1" is read as visible. 2 is read as not visible, and so
# are 1.0 and 2.000000, as other programs write them; export_to_fs() then writes each of them as 0. Of a person with
# two visible points, a hidden one and one without label, only the hidden point is left. Nothing is raised or said.
# Why it matters: a network that is trained with the labels that were only loaded and written again learns nothing of
# the points that can be seen.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    dagshub-annotation-converter==0.3.0 pydantic==2.14.4 numpy==2.4.6 pandas==3.1.1 pillow==13.0.0 lxml==6.1.3
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import importlib.metadata
import logging
import pathlib
import sys

from dagshub_annotation_converter.converters.yolo import export_to_fs, load_yolo_from_fs
from PIL import Image

folder = pathlib.Path(sys.argv[1])
logging.getLogger("dagshub_annotation_converter.converters.yolo").setLevel(logging.ERROR)  # "Saved annotations to"
(folder / "images").mkdir()
(folder / "labels").mkdir()
Image.new("RGB", (100, 100)).save(folder / "images" / "a.jpg")
(folder / "data.yaml").write_text(f"path: {folder}\nnames: {{0: person}}\nkpt_shape: [4, 3]\n")
places = [(0.5, 0.25), (0.5, 0.5), (0.25, 0.5), (0.0, 0.0)]

print(f"dagshub-annotation-converter {importlib.metadata.version('dagshub-annotation-converter')}")
for numbers, seen in (
    (["2", "2", "1", "0"], [0, 0, 1, 0]),
    (["2.000000", "2.000000", "1.000000", "0.000000"], [0, 0, 0, 0]),
    (["1", "1", "1", "0"], [1, 1, 1, 0]),
):
    points = " ".join(f"{x} {y} {number}" for (x, y), number in zip(places, numbers, strict=True))
    (folder / "labels" / "a.txt").write_text(f"0 0.5 0.5 0.5 0.5 {points}\n")
    annotations, context = load_yolo_from_fs("pose", folder / "data.yaml")
    context.path = pathlib.Path("data")
    export_to_fs(context, annotations["images/a.jpg"], export_dir=folder / "exported")
    written = (folder / "exported" / "data" / "labels" / "a.txt").read_text().split()[5:]
    found = [int(float(number)) for number in written[2::3]]
    labelled = sum(float(number) > 0 for number in numbers)
    print(f"{numbers}: written as {found}, {sum(map(bool, found))} of {labelled} points left")
    assert found == seen, "the behaviour has changed"
    assert [float(place) for place in written[0::3]] == [x for x, _ in places], "the places have changed"
PYTHON

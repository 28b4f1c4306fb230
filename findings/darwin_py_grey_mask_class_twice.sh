#!/bin/bash
# darwin-py draws the first class of grey masks with the grey of another class if there are 16 classes or more.
#
# Expected: the export "semantic_mask_grey" gives each class a grey of its own, which class_mapping.csv lists; the mask
# shows each object with the grey of its class.
# Seen with darwin-py 3.6.3: class numbers are replaced by greys one after the other in the same picture. A number that
# has become a grey is taken for a number again if it is small enough: with 20 classes the first is drawn with 12, and
# then, with all that is 12, with 153. class_mapping.csv says 12 for the first and 153 for the twelfth; in the masks
# both are 153. Up to 15 classes the greys are right, and semantic_mask_index is right for any number.
# Why it matters: 19 and 20 classes are what Cityscapes and Pascal VOC have. Two classes cannot be told apart any more,
# and the file that explains the greys says nothing of it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    darwin-py==3.6.3 upolygon==0.2.3 numpy==2.4.6 pillow==12.3.0 pydantic==2.14.4 pydantic-core==2.50.5 \
    orjson==3.13.0 requests==2.34.2 rich==13.9.4 jsonschema==4.26.0 json-stream==2.5.1 mpire==2.10.2 tqdm==4.70.1
HOME="$folder" PYTHONPATH="$folder" OMP_NUM_THREADS=1 python3 - "$folder" <<'PYTHON'
import contextlib
import csv
import importlib.metadata
import io
import json
import pathlib
import sys

import numpy
from darwin.exporter import export_annotations, get_exporter
from PIL import Image

folder = pathlib.Path(sys.argv[1]) / "data"


def export(form: str, count: int) -> tuple[list[int], list[int]]:
    """The greys of some classes in class_mapping.csv, and those with which the objects are drawn in the mask."""
    source = folder / f"source_{count}"
    source.mkdir(parents=True, exist_ok=True)
    objects = []
    for number in range(count):  # one object of each class, beside each other
        left, right = 10 * number, 10 * number + 8
        corners = [{"x": x, "y": y} for x, y in ((left, 10), (right, 10), (right, 30), (left, 30))]
        box = {"x": left, "y": 10, "w": 8, "h": 20}
        objects.append({"id": str(number), "name": f"class {number + 1:03}", "slot_names": ["0"],
                        "polygon": {"paths": [corners]}, "bounding_box": box})
    slot = {"type": "image", "slot_name": "0", "width": 10 * count, "height": 40, "thumbnail_url": "",
            "source_files": [{"file_name": "photo.jpg", "url": ""}]}
    belongs = {"item_id": "1", "dataset": {"name": "set", "slug": "set"}, "team": {"name": "team", "slug": "team"}}
    item = {"name": "photo.jpg", "path": "/", "source_info": belongs, "slots": [slot]}
    file = {"version": "2.0", "schema_ref": "", "item": item, "annotations": objects}
    (source / "photo.json").write_text(json.dumps(file))
    output = folder / f"{form}_{count}"
    with contextlib.redirect_stdout(io.StringIO()):
        export_annotations(get_exporter(form), [source], output)
    with open(output / "class_mapping.csv", newline="") as table:
        listed = {row["class_name"]: int(row["class_color"]) for row in csv.DictReader(table)}
    (mask,) = output.rglob("*.png")
    picture = numpy.array(Image.open(mask))
    names = [each["name"] for each in objects]
    return [listed[name] for name in names], [int(picture[20, 10 * number + 4]) for number in range(count)]


print(f"darwin-py {importlib.metadata.version('darwin-py')}")
for count, first in ((10, 25), (15, 17), (16, 239), (19, 174), (20, 153), (40, 242)):
    listed, drawn = export("semantic_mask_index", count)
    assert listed == drawn == list(range(1, count + 1))
    listed, drawn = export("semantic_mask_grey", count)
    assert listed == [int(number * 255 / count) for number in range(1, count + 1)]
    assert len(set(listed)) == count  # each class is to have a grey of its own
    wrong = [number for number in range(1, count + 1) if listed[number - 1] != drawn[number - 1]]
    print(f"{count} classes: the first is listed as {listed[0]}, drawn as {drawn[0]}; drawn with another grey: {wrong}")
    assert bool(wrong) == (count > 15), "the behaviour has changed"
    assert drawn[0] == first, "the behaviour has changed"
    if wrong:
        print(f"  the same grey as class {listed.index(drawn[0]) + 1}; {len(set(drawn))} greys for {count} classes")
        assert drawn[0] in listed[1:] and len(set(drawn)) < count, "the behaviour has changed"
PYTHON

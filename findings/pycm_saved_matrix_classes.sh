#!/bin/bash
# pycm loads a saved confusion matrix of two classes as one of three, with another accuracy.
#
# Expected: ConfusionMatrix(file=...) of a file that save_obj() wrote equals the matrix that was saved.
# Seen with pycm 4.6: a matrix with classes=["cat", "dog"] leaves the photos of birds out, as it says, and has an
# accuracy of 0.75. The file holds all labels, and not which classes were asked for: the loaded matrix has birds too and
# an accuracy of 0.5, and matrix == loaded is False. An order of the classes is lost as well, so that to_array() has
# other rows. Nothing is said. With save_vector=False the classes are right, and their order is lost.
# Why it matters: the numbers of a report that is made from the file later are not those of the evaluation.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    pycm==4.6 numpy==2.4.6
PYTHONPATH="$folder" python3 - "$folder" <<'PYTHON'
import importlib.metadata
import sys

from pycm import ConfusionMatrix

truth = ["cat", "cat", "dog", "dog", "bird", "bird", "bird", "bird"]
answers = ["cat", "dog", "dog", "dog", "cat", "dog", "bird", "cat"]
file_name = f"{sys.argv[1]}/matrix"
print(f"pycm {importlib.metadata.version('pycm')}")
for classes, save_vector, seen_classes, seen_accuracy in (
    (["cat", "dog"], True, ["bird", "cat", "dog"], 0.5),
    (["dog", "cat", "bird"], True, ["bird", "cat", "dog"], 0.5),
    (["dog", "cat"], False, ["cat", "dog"], 0.75),
    (None, True, ["bird", "cat", "dog"], 0.5),
):
    matrix = ConfusionMatrix(truth, answers, classes=classes)
    assert matrix.save_obj(file_name, address=False, save_vector=save_vector)["Status"]
    with open(f"{file_name}.obj") as file:
        loaded = ConfusionMatrix(file=file)
    print(f"classes={classes}, save_vector={save_vector}: accuracy {matrix.Overall_ACC}")
    print(f"    loaded: {loaded.classes}, accuracy {loaded.Overall_ACC}, rows {loaded.to_array().tolist()}")
    chosen = classes or sorted(set(truth))
    pairs = [(a, b) for a, b in zip(truth, answers, strict=True) if a in chosen and b in chosen]
    assert matrix.Overall_ACC == sum(a == b for a, b in pairs) / len(pairs), "the matrix has changed"
    assert (loaded.classes, loaded.Overall_ACC) == (seen_classes, seen_accuracy), "the behaviour has changed"
    assert (matrix == loaded) == (set(chosen) == set(seen_classes)), "the behaviour has changed"
PYTHON

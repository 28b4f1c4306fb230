#!/usr/bin/env bash
# torchmetrics' macro accuracy counts a class without images as 0 once it is predicted, with top_k=1 but not with 2.
#
# Expected: one rule. Macro is documented as the statistics of each class, averaged, and a class without images has no
# recall: the mean over the classes that have images, which is scikit-learn's balanced accuracy.
# Seen with torchmetrics 1.9.0: of four images in two of three classes one is wrong. If the answer is the other class
# that has images, the macro accuracy is 0.75; if it is the third class, 0.5, and with top_k=2, which finds no image
# more, 0.75. scikit-learn's balanced accuracy is 0.75 for both (its recall_score gives 0.5, with a warning). With 200
# of 1000 classes and 70% of the images of each class right, it is 0.175 if the mistakes go to 600 other classes.
# Why it matters: average="macro" is the default of MulticlassAccuracy, and the classes of ImageNet-A and ImageNet-R,
# or of a part of a validation set, are fewer than those of the network; top-1 and top-k are divided by other numbers.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torch==2.15.0 torchmetrics==1.9.0 scikit-learn==1.9.1 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import warnings

import sklearn
import torch
import torchmetrics
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import balanced_accuracy_score, recall_score
from torchmetrics.classification import MulticlassAccuracy


def scores(first: list[int], second: list[int], target: list[int], classes: int) -> dict[str, float]:
    """Macro accuracies of answers, the most probable and the second one of each image."""
    logits, rows = torch.zeros(len(first), classes), torch.arange(len(first))
    logits[rows, first], logits[rows, second] = 2.0, 1.0
    seen = {}
    for name, options in {"top-1": {}, "top-2": {"top_k": 2}}.items():
        seen[name] = MulticlassAccuracy(num_classes=classes, **options)(logits, torch.tensor(target))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seen["recall_score"] = recall_score(target, first, average="macro")
    seen["its warning"] = any(issubclass(warning.category, UndefinedMetricWarning) for warning in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # answers hold a class that no image has
        seen["balanced accuracy"] = balanced_accuracy_score(target, first)
    return {name: round(float(value), 4) for name, value in seen.items()}


target = [0, 0, 1, 1]
known = scores([0, 0, 1, 0], [1, 1, 0, 2], target, 3)  # the last image is taken for class 0, and then for 2
other = scores([0, 0, 1, 2], [1, 1, 0, 0], target, 3)  # and here for class 2, and then for 0
many = [i // 10 for i in range(2000)]  # ten images of each of the first 200 classes
answers = [label if i % 10 < 7 else 200 + 3 * label + i % 10 - 7 for i, label in enumerate(many)]
part = scores(answers, [(label + 1) % 200 for label in many], many, 1000)
print(f"torch {torch.__version__}, torchmetrics {torchmetrics.__version__}, scikit-learn {sklearn.__version__}")
for name, seen in {"class 0 for 1": known, "class 2 for 1": other, "200 of 1000 classes": part}.items():
    print(f"{name}: {seen}")
names = ("top-1", "top-2", "recall_score", "its warning", "balanced accuracy")
assert MulticlassAccuracy(num_classes=3).average == "macro", "the behaviour has changed"
assert known == dict(zip(names, (0.75, 0.75, 0.75, 0, 0.75), strict=True)), "the behaviour has changed"
assert other == dict(zip(names, (0.5, 0.75, 0.5, 1, 0.75), strict=True)), "the behaviour has changed"
assert part == dict(zip(names, (0.175, 0.7, 0.175, 1, 0.7), strict=True)), "the behaviour has changed"
PYTHON

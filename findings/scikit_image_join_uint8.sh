#!/bin/bash
# scikit-image's join_segmentations() of two uint8 label images gives regions one label that have nothing in common.
#
# Expected: two pixels have one label in the join if and only if they have one label in each of the images, which is
# what the documentation says, whatever the type of integer.
# Seen with scikit-image 0.26.0: pairs of labels are numbered in the type of the images, modulo 256. Of 32 pairs, the
# pair 15, 1 and the pair 1, 11 get one label as uint8, and the mapping that return_mapping=True gives lacks two pairs.
# As uint16 or int64 all 32 are apart. The 32 labels would fit into uint8. It begins where the labels of the first
# image and those of the second one, background counted, make more than 256 pairs, met or not.
# Why it matters: label images and instance masks are mostly uint8 (a PNG file), and two objects that touch nowhere
# become one, without a word.
# Without it: join_segmentations(first.astype(int), second.astype(int)).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import numpy as np
import skimage
from skimage.segmentation import join_segmentations

# One row: 1 to 15 in the first image on 1 in the second one, and then 1 on 1 to 18.
first = np.concatenate([np.arange(1, 16), np.ones(18, int)])[None]
second = np.concatenate([np.ones(15, int), np.arange(1, 19)])[None]
pairs = set(zip(first[0].tolist(), second[0].tolist()))
print(f"scikit-image {skimage.__version__}, {len(pairs)} pairs of labels")

for dtype, lost in ((np.uint8, [[(1, 11), (15, 1)]]), (np.uint16, []), (np.int64, [])):
    joined, to_first, to_second = join_segmentations(first.astype(dtype), second.astype(dtype), return_mapping=True)
    groups = {}
    for label, pair in zip(joined[0].tolist(), zip(first[0].tolist(), second[0].tolist())):
        groups.setdefault(label, set()).add(pair)
    together = [sorted(group) for group in groups.values() if len(group) > 1]
    told = set(zip(np.asarray(to_first[joined])[0].tolist(), np.asarray(to_second[joined])[0].tolist()))
    print(f"{np.dtype(dtype)}: {len(groups)} labels, one label for {together}, not in the mapping {pairs - told}")
    assert joined.dtype == dtype and together == lost, "the behaviour has changed"
    assert (len(told & pairs) == len(pairs)) == (not lost), "the behaviour has changed"
PYTHON

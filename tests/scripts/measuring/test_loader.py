# SPDX-License-Identifier: Apache-2.0
"""scripts/measuring/loader.py: every candidate loads as many images."""

from argparse import Namespace
from pathlib import Path

import pytest

from measuring import loader
from shared.small_training import write_images


@pytest.mark.parametrize("candidate", ["our_epochs", "plain_epochs"])
def test_an_epoch_of_other_length_is_no_comparison(tmp_path: Path, candidate: str) -> None:
    write_images(tmp_path, 43)  # 129 images: 2 batches of 64, where 32 are asked for
    epoch = getattr(loader, candidate)(tmp_path, Namespace(workers=0))
    with pytest.raises(RuntimeError, match=r"an epoch of 128 images is other work"):
        epoch()

# SPDX-License-Identifier: Apache-2.0
"""Mean IoU of the weights of segmentation/config.py on its test pictures: MODE=test python3 segmentation/test.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before this folder, which has files of the same names

from core.environment import check_environment

if __name__ == "__main__":
    check_environment()

import test
from segmentation.train import SEGMENTATION
from utils import user_errors

if __name__ == "__main__":
    with user_errors(config_name="segmentation/config.py"):
        from segmentation import config

        test.main(config, SEGMENTATION)

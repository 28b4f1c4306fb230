# SPDX-License-Identifier: Apache-2.0
"""torchrun, but that its workers are forked from it: each Python that it starts would import the packages again."""

import runpy
import sys

from torch.distributed import run as torchrun
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def forked(config: LaunchConfig, entrypoint: str) -> elastic_launch:
    """The launcher, which torchrun calls with the words of the command that it would start."""
    config.start_method = "fork"
    return elastic_launch(config, run_script)


def run_script(*command: str) -> None:
    sys.argv = [command[-1]]
    runpy.run_path(command[-1], run_name="__main__")


if __name__ == "__main__":
    torchrun.elastic_launch = forked
    torchrun.main(sys.argv[1:])

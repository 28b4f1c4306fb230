# SPDX-License-Identifier: Apache-2.0
"""killed_run.py N SCRIPT ARGUMENTS: run a script, and kill it when it has moved N files and moves another one."""

import os
import runpy
import signal
import sys
from collections.abc import Callable

left = int(sys.argv[1])
del sys.argv[:2]


def counting(function: Callable) -> Callable:
    def call(*arguments: object, **options: object) -> object:
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return call


os.replace, os.rename = counting(os.replace), counting(os.rename)
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")

# SPDX-License-Identifier: Apache-2.0
"""Do in a process of its own what could end this one, or never end."""

import multiprocessing
import signal
import sys
from collections.abc import Callable
from typing import Any

LONGEST_SECONDS = 60.0  # what is tried takes less than one


def survives(action: Callable[..., None], *arguments: Any) -> bool:
    """Whether a function returns, whatever it does to its process, and in time."""
    # A copy of this process takes hundredths of a second; elsewhere a copy of one with threads may stand still.
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    process = context.Process(target=alone, args=(action, *arguments), daemon=True)
    process.start()
    try:
        process.join(LONGEST_SECONDS)
        return bool(process.exitcode == 0)
    finally:
        process.kill()
        process.join()
        process.close()


def alone(action: Callable[..., None], *arguments: Any) -> None:
    """Run a function, and leave Ctrl-C to the process that waits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    action(*arguments)

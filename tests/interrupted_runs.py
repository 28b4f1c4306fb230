# SPDX-License-Identifier: Apache-2.0
"""Training runs that get a signal at a line they print."""

import signal
import subprocess
import sys
from pathlib import Path

from conftest import Copy, Project

SAMPLES, RESULTS = Path("samples/MobileNetV2-Colours"), Path("results/MobileNetV2-Colours")
INTERRUPTED = SAMPLES / "interrupted.pth.tar"
# Runs a script, which sends a signal to its whole group, as Ctrl-C does, once it has written a line that begins so.
SIGNAL_AFTER_A_LINE = """
import os, runpy, sys
script, line_start, number, times = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
write, is_due = sys.stdout.write, False
def write_and_signal(text):
    global times, is_due
    written = write(text)
    is_due = is_due or text.startswith(line_start)
    while times and is_due and text.endswith("\\n"):
        times -= 1
        os.killpg(os.getpgrp(), number)
    return written
sys.stdout.write = write_and_signal
sys.argv = [script]
runpy.run_path(script, run_name="__main__")
"""


def start(project: Project, line_start: str, number: signal.Signals, script: str = "train.py") -> Copy:
    """Start a script in a session of its own, which signals itself after a line."""
    (project.root / "signal_after_a_line.py").write_text(SIGNAL_AFTER_A_LINE)
    return project.start("signal_after_a_line.py", script, line_start, str(int(number)), "1")


def run_and_signal(*arguments: object, **options: object) -> tuple[int, list[str]]:
    """What start() starts, to its end: its status and the lines it wrote."""
    process = start(*arguments, **options)
    lines = process.communicate()[0].splitlines()
    return process.returncode, lines


def run_afresh_and_signal(
    project: Project, line_start: str, number: signal.Signals, times: int
) -> subprocess.CompletedProcess:
    """The same by a new Python, which ends as Python ends; the signal comes so many times."""
    words = [sys.executable, "-W", "error", "-u", "-c", SIGNAL_AFTER_A_LINE, "train.py", line_start]
    words += [str(int(number)), str(times)]
    where = {"cwd": project.root, "env": project.environment("train"), "start_new_session": True}
    return subprocess.run(words, capture_output=True, text=True, timeout=300, **where)


def prepare(project: Project, **values: object) -> Project:
    project.set(epochs=3, gradient_accumulation_steps=4, mixup_alpha=0.2, model_ema_decay=0.9, keep_checkpoints=2)
    project.set(train_print_frequency=1, valid_print_frequency=1, **values)
    return project

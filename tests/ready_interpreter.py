# SPDX-License-Identifier: Apache-2.0
"""A Python that has imported the packages and waits, to run scripts in copies of itself: importing takes two seconds.

A copy finds the packages as if the script had imported them, and the files of the program not yet. Each line on
standard input is a JSON object: arguments, folder, environment, output, errors (files). The answer is a line with the
exit status.
"""

import atexit
import importlib
import json
import os
import runpy
import signal
import sys
import threading

PACKAGES = ("cv2", "numpy", "torch", "torch._dynamo", "torch.utils.tensorboard", "tqdm")
LONGEST_SECONDS = 300


def serve() -> dict | None:
    """Answer requests. Returns in each copy what it is to do, and None at the end of the input."""
    for line in sys.stdin:
        request = json.loads(line)
        copy = os.fork()
        if copy == 0:
            return request
        print(os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]), flush=True)
    return None


def become(request: dict) -> None:
    """Take over folder, environment, arguments, and files for the output."""
    signal.alarm(LONGEST_SECONDS)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for descriptor, name in enumerate((os.devnull, request["output"], request["errors"])):
        os.dup2(os.open(name, os.O_RDWR), descriptor)
    sys.argv[:] = request["arguments"]
    sys.path[0] = request["folder"]


def run(script: str) -> int:
    """Run a script to its end, and what is to be done at the end of Python; returns the exit status."""
    status: object = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        status = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()  # as multiprocessing does in its copies
    sys.stdout.flush()
    sys.stderr.flush()
    return status if isinstance(status, int) else int(status is not None)


if __name__ == "__main__":
    for package in PACKAGES:
        importlib.import_module(package)
    if asked := serve():
        become(asked)
        os._exit(run(asked["arguments"][0]))  # without freeing the packages, object by object: half of the time

# SPDX-License-Identifier: Apache-2.0
"""A Python that has imported the packages and waits, to run scripts in copies of itself: importing takes two seconds.

A copy finds the packages as if the script had imported them, and the files of the program not yet. Each line on
standard input is a JSON object: arguments, folder, environment, output and errors (files), and whether the copy leads
a session of its own. The answers are lines: "started PID", and "ended PID STATUS" as soon as it has.
"""

import atexit
import importlib
import io
import json
import os
import select
import signal
import sys
import tempfile
import threading
from importlib.machinery import SourceFileLoader
from types import ModuleType

PACKAGES = ("cv2", "numpy", "torch", "torch._dynamo", "torch.distributed.run", "torch.utils.tensorboard", "tqdm")
LONGEST_SECONDS = 300


def serve() -> dict | None:
    """Answer requests. Returns in each copy what it is to do, and None at the end of the input."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    request = b""
    while True:
        ready, _, _ = select.select([0, reader], [], [])
        if reader in ready:
            os.read(reader, 1000)
            report_ended()
        if 0 in ready:
            received = os.read(0, 1_000_000)
            if not received:
                return None
            request += received
            if request.endswith(b"\n"):
                copy = os.fork()
                if copy == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.close(reader), os.close(writer)
                    return json.loads(request)
                print("started", copy, flush=True)
                request = b""


def report_ended() -> None:
    try:
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            print("ended", ended[0], os.waitstatus_to_exitcode(ended[1]), flush=True)
    except ChildProcessError:  # no copy is left
        return


def become(request: dict) -> None:
    """Take over folder, environment, arguments, and files for the output."""
    if request["leads_session"]:
        os.setsid()
    signal.alarm(LONGEST_SECONDS)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # a package has looked for it: a copy has an environment of its own
    for descriptor, name in enumerate((os.devnull, request["output"], request["errors"])):
        os.dup2(os.open(name, os.O_WRONLY if descriptor else os.O_RDONLY), descriptor)
    if "PYTHONUNBUFFERED" in os.environ:
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
    sys.argv[:] = request["arguments"]
    sys.path[0] = request["folder"]


def run(script: str) -> int:
    """Run a script to its end, and what is to be done at the end of Python; returns the exit status."""
    status: object = 0
    try:
        main = sys.modules["__main__"] = ModuleType("__main__")
        main.__file__ = script
        exec(SourceFileLoader("__main__", script).get_code("__main__"), vars(main))  # which may be compiled already
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

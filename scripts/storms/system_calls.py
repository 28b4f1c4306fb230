# SPDX-License-Identifier: Apache-2.0
"""Stop a child process before and after each of its system calls, with ptrace: Linux on x86_64 and aarch64."""

import ctypes
import os
import platform
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# sys/ptrace.h and linux/ptrace.h
TRACE_ME, CONTINUE_TO_CALL, SET_OPTIONS, GET_CALL = 0, 24, 0x4200, 0x420E
MARK_CALLS, KILL_WITH_TRACER = 0x1, 0x100000
CALL_STOP = signal.SIGTRAP | 0x80
ENTRY, EXIT = 1, 2
REFUSED = 77  # exit status of a child that may not be traced

# The calls that change files, as numbered on each machine; the others are only stopped at.
CALL_NUMBERS = {
    "x86_64": {
        **{"write": 1, "pwrite": 18, "writev": 20, "pwritev": 296, "sendfile": 40, "copy_file_range": 326, "mmap": 9},
        **{"truncate": 76, "ftruncate": 77, "fallocate": 285, "fsync": 74, "fdatasync": 75, "open": 2, "openat": 257},
        **{"rename": 82, "renameat": 264, "renameat2": 316},
    },
    "aarch64": {
        **{"write": 64, "pwrite": 68, "writev": 66, "pwritev": 70, "sendfile": 71, "copy_file_range": 285, "mmap": 222},
        **{"truncate": 45, "ftruncate": 46, "fallocate": 47, "fsync": 82, "fdatasync": 83, "openat": 56},
        **{"renameat": 38, "renameat2": 276},
    },
}


class TracingRefusedError(Exception):
    """This machine does not let a process trace its child."""


class CallInfo(ctypes.Structure):
    """struct ptrace_syscall_info: `values` holds number and arguments at an entry, the result at an exit."""

    _fields_ = (
        ("kind", ctypes.c_uint8),
        ("padding", ctypes.c_uint8 * 3),
        ("architecture", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("values", ctypes.c_uint64 * 8),
    )


class Stop(NamedTuple):
    """One stop: before a system call (result None) or after it."""

    pid: int
    name: str  # "" for the calls that CALL_NUMBERS does not list
    arguments: tuple[int, ...]
    result: int | None  # negative: minus the error number


class Traced:
    """A child process that runs `action` and is stopped before and after each of its system calls.

    `action` runs in a fork, so what this process has imported and built need not be made again.
    Raises: TracingRefusedError if this machine does not allow tracing.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        self.names = {number: name for name, number in CALL_NUMBERS.get(platform.machine(), {}).items()}
        if not self.names:
            raise TracingRefusedError(f"the system calls of {platform.machine()} are not known")
        self.ptrace = load_ptrace()
        self.pid = fork(lambda: self._run_traced(action))
        _, status = os.waitpid(self.pid, 0)
        if not os.WIFSTOPPED(status):
            raise TracingRefusedError("ptrace is not permitted on this machine")
        self._request(SET_OPTIONS, MARK_CALLS | KILL_WITH_TRACER)
        self.status: int | None = None  # the exit status once it has ended, negative for a signal

    def _run_traced(self, action: Callable[[], None]) -> None:
        if self.ptrace(TRACE_ME, 0, None, None) < 0:
            os._exit(REFUSED)
        os.kill(os.getpid(), signal.SIGSTOP)  # waits for the tracer's options
        action()

    def _request(self, request: int, data: int = 0) -> None:
        if self.ptrace(request, self.pid, None, data) < 0:
            raise OSError(ctypes.get_errno(), f"ptrace request {request:#x} failed")

    def stops(self) -> Iterator[Stop]:
        """Let the process run from stop to stop until it ends; kill() may be called at any of them."""
        name, arguments, to_deliver = "", (), 0
        while self.status is None:
            self._request(CONTINUE_TO_CALL, to_deliver)
            _, status = os.waitpid(self.pid, 0)
            if not os.WIFSTOPPED(status):
                self.status = os.waitstatus_to_exitcode(status)
                return
            to_deliver = 0
            if os.WSTOPSIG(status) != CALL_STOP:
                to_deliver = os.WSTOPSIG(status)
                continue
            info = CallInfo()
            if self.ptrace(GET_CALL, self.pid, ctypes.sizeof(info), ctypes.addressof(info)) < 0:
                raise OSError(ctypes.get_errno(), "ptrace cannot tell the system call; Linux 5.3 or newer is needed")
            if info.kind == ENTRY:
                name, arguments = self.names.get(info.values[0], ""), tuple(info.values[1:7])
            result = ctypes.c_int64(info.values[0]).value if info.kind == EXIT else None
            yield Stop(self.pid, name, arguments, result)

    def kill(self) -> None:
        """End the process where it is; no more of it happens. Does nothing if it has ended."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)


def load_ptrace() -> Callable[..., int]:
    """The function of the C library."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    ptrace.restype = ctypes.c_long
    return ptrace


def fork(action: Callable[[], None]) -> int:
    """Run `action` in a child process, which then ends with status 0, or 1 after an error; returns its number."""
    sys.stdout.flush()  # or the child would have the text in its buffer too
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of other threads: the child needs none of them
        pid = os.fork()
    if pid:
        return pid
    try:
        action()
        os._exit(0)
    except BaseException:  # nothing may return into the code that forked
        traceback.print_exc()
        os._exit(1)


class WriteOrder:
    """Follows the stops of a writer and notes where a power failure could leave less than a whole file.

    Data written but not synced may be lost, and a new name is kept only once its folder is synced. So: sync the data,
    rename, sync the folder; and never write to the final name.
    """

    def __init__(self, final: Path) -> None:
        self.final, self.folder = str(final), str(final.parent)
        self.unsynced: set[str] = set()
        self.faults: list[str] = []
        self.calls: list[str] = []  # what was done, in order
        self.pending: tuple[str, ...] = ()

    def follow(self, stop: Stop) -> None:
        """Take in one stop: paths are looked up before the call, and count if it succeeds."""
        if stop.result is None:
            self.pending = self._paths(stop)
        elif stop.result >= 0 and stop.name:
            paths = self._paths(stop) if stop.name.startswith("open") else self.pending
            if any(path == self.folder or path.startswith(self.folder + "/") for path in paths):
                self._apply(stop.name, paths)

    def finish(self) -> list[str]:
        """The faults, with what is still unsynced now that the writer has returned."""
        if self.final in self.unsynced:
            self.faults.append("data never synced")
        if self.folder in self.unsynced:
            self.faults.append("folder not synced after the rename")
        return self.faults

    def _paths(self, stop: Stop) -> tuple[str, ...]:
        """The files a call is about; none if it leaves files as they are."""
        arguments = stop.arguments
        if stop.name.startswith("rename"):
            places = arguments[:2] if stop.name == "rename" else (arguments[1], arguments[3])
            return tuple(os.path.abspath(read_path(stop.pid, address)) for address in places)
        if stop.name == "truncate":
            return (os.path.abspath(read_path(stop.pid, arguments[0])),)
        if stop.name.startswith("open"):
            flags = arguments[1] if stop.name == "open" else arguments[2]
            return (open_path(stop.pid, stop.result),) if stop.result is not None and flags & os.O_TRUNC else ()
        if stop.name == "mmap":
            writes = arguments[2] & MMAP_WRITE and arguments[3] & MMAP_SHARED
            return (open_path(stop.pid, arguments[4]),) if writes else ()
        if stop.name:
            return (open_path(stop.pid, arguments[2 if stop.name == "copy_file_range" else 0]),)
        return ()

    def _apply(self, name: str, paths: tuple[str, ...]) -> None:
        self.calls.append(name)
        if name in ("fsync", "fdatasync"):
            self.unsynced.discard(paths[0])
        elif name.startswith("rename"):
            if paths[0] in self.unsynced:
                self.faults.append("renamed before its data were synced")
                self.unsynced.remove(paths[0])
            self.unsynced.add(self.folder)
        else:
            if paths[0] == self.final and "written in place" not in self.faults:
                self.faults.append("written in place")
            self.unsynced.add(paths[0])


MMAP_WRITE, MMAP_SHARED = 0x2, 0x1


def open_path(pid: int, descriptor: int) -> str:
    """The path of an open file of a stopped process; "" if it has none."""
    try:
        return os.readlink(f"/proc/{pid}/fd/{ctypes.c_int32(descriptor).value}")
    except OSError:
        return ""


def read_path(pid: int, address: int) -> str:
    """The path at an address of a stopped process."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return os.fsdecode(memory.read(os.pathconf("/", "PC_PATH_MAX")).partition(b"\0")[0])

# SPDX-License-Identifier: Apache-2.0
"""How malloc comes by the memory of a run on the CPU: it keeps what was freed, and has pages of 2 MiB. glibc only."""

import contextlib
import ctypes
import mmap
from pathlib import Path

SYSTEM = Path("/")
LARGE_PAGES = "sys/kernel/mm/transparent_hugepage/enabled"  # "always [madvise] never": the one in brackets counts
PAGE_SIZE = "sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
OVERCOMMIT = "proc/sys/vm/overcommit_memory"  # "2": memory that is reserved is taken from other programs
RESERVED = 4 * 2**30  # bytes; what a run needs beyond them has pages of the usual size
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
MADV_HUGEPAGE = 14  # sys/mman.h
LARGEST_PAGE = 2 * 2**20  # bytes; on ARM with pages of 64 KiB a large one has 512 MiB, which a single byte would take


def keep_freed_memory() -> None:
    """Let malloc reuse large blocks instead of giving them back to the system after every step, and in large pages.

    Otherwise each activation of a step on the CPU is paged in anew: more than a third of the time of a step. Pages of
    2 MiB instead of 4 KiB save some more: docs/speed.md.
    """
    with contextlib.suppress(AttributeError, TypeError):  # only glibc has mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never
        if gives_large_pages_if_asked():
            ask_for_large_pages(libc)


def gives_large_pages_if_asked() -> bool:
    """Whether this system has large pages for those who ask, and nobody goes short if addresses are reserved."""
    try:
        large_pages, size, overcommit = ((SYSTEM / name).read_text() for name in (LARGE_PAGES, PAGE_SIZE, OVERCOMMIT))
    except OSError:
        return False
    if "[madvise]" not in large_pages or int(size) > LARGEST_PAGE or overcommit.strip() == "2":
        return False
    return not has_limit()


def has_limit() -> bool:
    """Whether `ulimit -v` or `ulimit -d` says how many addresses this process may have."""
    import resource  # which Windows has not

    limits = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    return any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in limits)


def ask_for_large_pages(libc: ctypes.CDLL) -> None:
    """For the next RESERVED bytes of malloc's heap, which takes the addresses alone: a page counts once it is used."""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.free.argtypes = (ctypes.c_void_p,)
    block = libc.malloc(RESERVED)
    if block is not None:
        begin = -(-block // mmap.PAGESIZE) * mmap.PAGESIZE
        libc.madvise(begin, RESERVED - mmap.PAGESIZE, MADV_HUGEPAGE)
        libc.free(block)

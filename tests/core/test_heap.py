# SPDX-License-Identifier: Apache-2.0
"""malloc's heap has large pages where the system gives them to those who ask, and nobody goes short."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from core import heap

ASKED, ALWAYS, NEVER = "always [madvise] never\n", "[always] madvise never\n", "always madvise [never]\n"
ROOT = Path(__file__).resolve().parents[2]
# VmFlags of smaps, "hg": huge page advise flag (filesystems/proc.rst of the kernel's documentation).
HEAP_IN_MIB = """
import sys
from pathlib import Path
from core import heap
heap.gives_large_pages_if_asked = lambda: sys.argv[1] == "asks"
heap.keep_freed_memory()
area, large, used = "", 0, 0
for line in Path("/proc/self/smaps").read_text().splitlines():
    name, *values = line.split()
    if not name.endswith(":"):
        area, size = line, 0
    elif area.endswith("[heap]"):
        size = int(values[0]) if name == "Size:" else size
        used += int(values[0]) if name == "Rss:" else 0
        large += size if name == "VmFlags:" and "hg" in values else 0
print(large >> 10, used >> 10)
"""


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One that gives large pages to those who ask, without limits."""
    for name, text in ((heap.LARGE_PAGES, ASKED), (heap.PAGE_SIZE, "2097152\n"), (heap.OVERCOMMIT, "0\n")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(heap, "SYSTEM", tmp_path)
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return tmp_path


def test_large_pages_are_asked_for(system: Path) -> None:
    assert heap.gives_large_pages_if_asked()


@pytest.mark.parametrize(
    ("name", "text"),
    [(heap.LARGE_PAGES, ALWAYS), (heap.LARGE_PAGES, NEVER), (heap.PAGE_SIZE, "536870912\n"), (heap.OVERCOMMIT, "2\n")],
)
def test_not_where_they_come_anyway_or_never_or_take_memory(system: Path, name: str, text: str) -> None:
    (system / name).write_text(text)
    assert not heap.gives_large_pages_if_asked()


@pytest.mark.parametrize("name", [heap.LARGE_PAGES, heap.PAGE_SIZE, heap.OVERCOMMIT])
def test_not_where_the_system_does_not_say(system: Path, name: str) -> None:
    (system / name).unlink()
    assert not heap.gives_large_pages_if_asked()


@pytest.mark.parametrize("limited", [resource.RLIMIT_AS, resource.RLIMIT_DATA])
def test_not_under_a_limit_of_addresses(system: Path, limited: int, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {limited: 2**40}
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (limits.get(limit, resource.RLIM_INFINITY), 2**41))
    assert not heap.gives_large_pages_if_asked()


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="this system has no large pages")
def test_four_gibibytes_of_the_heap_are_for_large_pages_and_hardly_any_is_used() -> None:
    def heap_in_mib(asks: str) -> list[int]:
        command = [sys.executable, "-c", HEAP_IN_MIB, asks]
        return list(
            map(int, subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
        )

    large, used = heap_in_mib("asks")
    assert 4095 <= large <= 4096
    assert used < 64
    assert heap_in_mib("does not")[0] == 0

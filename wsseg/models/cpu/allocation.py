"""Memory allocation of trainings on a CPU."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4  # malloc.h
_MEBIBYTE = 2**20
_KEEP = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 * _MEBIBYTE))
# the values that glibc adapts to after large blocks have been freed
_USUAL = (
    (_M_MMAP_MAX, 65536), (_M_MMAP_THRESHOLD, 32 * _MEBIBYTE), (_M_TRIM_THRESHOLD, 64 * _MEBIBYTE),
    (_M_TOP_PAD, 128 * 1024),
)  # fmt: skip


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """While entered, glibc keeps freed memory for new tensors; afterwards it is returned to the system.

    By default glibc returns each block of more than 32 MiB at once, and the system clears new blocks page by page: half of the
    time of a training step in float32, and a third in bfloat16 (`docs/benchmarks.md`). This helps if all steps have the same
    shapes; with images of many sizes, kept memory would fragment and grow. Other C libraries are left alone.
    """
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if library is None or not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):  # musl
        yield
        return
    for name, value in _KEEP:
        library.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in _USUAL:
            library.mallopt(name, value)
        library.malloc_trim(ctypes.c_size_t(0))

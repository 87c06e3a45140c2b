"""Memory of trainings on a CPU."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4  # malloc.h
_MEBIBYTE = 2**20
_KEEP = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 * _MEBIBYTE))
# what glibc comes to by itself once large blocks have been freed
_USUAL = (
    (_M_MMAP_MAX, 65536), (_M_MMAP_THRESHOLD, 32 * _MEBIBYTE), (_M_TRIM_THRESHOLD, 64 * _MEBIBYTE),
    (_M_TOP_PAD, 128 * 1024),
)  # fmt: skip


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """While entered, the C library keeps the memory that tensors free, for the next ones; then it goes back (glibc alone).

    By itself glibc gives every block of more than 32 MiB back to the system at once, which clears it and hands it out anew,
    page by page: half of the time of a training step in float32, and a third in bfloat16 (`docs/benchmarks.md`). That is for the
    same shapes step after step: among images of many sizes, memory that is kept would come to pieces, and grow.
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

"""Memory of networks on a CPU."""

import ctypes
import functools
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_PAD = 64 * 2**20


@functools.cache
def keep_freed_memory() -> bool:
    """Have the C library keep the memory that tensors free, for the next ones; returns whether it does (glibc alone can).

    By itself it gives every block of more than 32 MiB back to the system at once, which clears it and hands it out anew, page
    by page: that was half of the time of training in float32, and a third in bfloat16 (`docs/benchmarks.md`). The peak is what it was
    within a tenth; memory between peaks stays with the process.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, _PAD))
    done = [mallopt(name, value) for name, value in settings]  # 1 is success
    return done == [1, 1, 1]

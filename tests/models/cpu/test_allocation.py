import subprocess
import sys

import pytest

LOOK = """
import ctypes, torch
from wsseg.models.cpu.allocation import freed_memory_kept

class Info(ctypes.Structure):  # malloc.h: struct mallinfo2
    _fields_ = [(n, ctypes.c_size_t) for n in
                ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

library = ctypes.CDLL(None)
library.mallinfo2.restype = Info

def blocks():
    \"\"\"How many blocks the system gave for themselves while a tensor of 256 MiB is there.\"\"\"
    before = library.mallinfo2().hblks
    large = torch.ones(2**26)
    return library.mallinfo2().hblks - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

sizes = [blocks()]
with freed_memory_kept():
    sizes.append(blocks())
    inside = resident()
sizes.append(blocks())
print(*sizes, inside - resident())
"""


def has_mallinfo():
    """Return whether this is glibc 2.33 or later, which reports its memory."""
    import ctypes

    return sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "mallinfo2")


@pytest.mark.slow
@pytest.mark.skipif(
    not has_mallinfo(), reason="the settings are glibc's, and 2.33 is the first that reports its memory"
)
def test_large_blocks_are_kept_while_it_is_entered_and_given_back_then():
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, timeout=120)
    before, inside, after, given_back = (float(word) for word in done.stdout.split())
    assert (before, inside, after) == (1, 0, 1)
    assert given_back > 200  # MiB


def test_an_error_leaves_nothing_changed_for_the_next_training():
    from wsseg.models.cpu.allocation import freed_memory_kept

    with pytest.raises(ValueError, match="from within"), freed_memory_kept():
        raise ValueError("from within")

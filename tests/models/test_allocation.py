import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from wsseg.models.{module} import {function}
{call}
size = 2**26  # floats: 256 MiB, above what the C library keeps by itself
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(size).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(6)][-1])  # the first ones find room
"""


def page_faults(**values):
    """Return how many pages a large tensor, the sixth of its size, takes from the system."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(**values)], capture_output=True, text=True, check=True, timeout=120
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library's settings are glibc's")
def test_memory_once_had_is_had_without_asking_again():
    plain = page_faults(module="training", function="resolve_device", call="")
    kept = page_faults(module="training", function="resolve_device", call="resolve_device('cpu')")
    if plain < 100:
        pytest.skip("this C library keeps freed memory by itself")
    assert kept < plain / 10

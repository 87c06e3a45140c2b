"""Compiled code is cached on disk if possible, and works without a cache."""

import os
import subprocess
import sys

import pytest

from wsseg.crf.compiled import compiled

REFINE = """
import numpy as np
from wsseg.crf.dense_crf import DenseCrf
from wsseg.crf.lattice import _build as function
from wsseg.crf.settings import PRESETS
scores = np.full((2, 8, 9), 0.5, np.float32)
DenseCrf(np.zeros((8, 9, 3), np.uint8), PRESETS["irn"]).refine(scores)
"""
FIND = """
import numpy as np
from wsseg.crf.lattice import find_corner as function
assert function(np.zeros(4, np.uint32), np.zeros(2, np.int64), np.int64(1)) == 0
"""
PRINT = "print(sum(function.stats.cache_hits.values()), sum(function.stats.cache_misses.values()))"


def run(script, cache):
    """Run a script in a new process; return how often its function was read from the cache, and how often it was compiled."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", script + PRINT]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [int(count) for count in process.stdout.split()]


@pytest.mark.slow
def test_the_second_process_compiles_nothing(tmp_path):
    assert run(REFINE, tmp_path) == [0, 2]  # two and five features
    assert run(REFINE, tmp_path) == [2, 0]


@pytest.mark.slow
def test_a_cache_folder_that_cannot_be_created_is_not_an_error(tmp_path):
    (tmp_path / "file").touch()
    assert sum(run(FIND, tmp_path / "file" / "cache")) == 1  # compiled, or read from the cache beside the source


def test_a_function_that_cannot_be_cached_is_compiled():
    scope = {}
    exec("def twice(x):\n    return 2 * x", scope)  # noqa: S102 # no file, so no place for a cache
    assert compiled(scope["twice"])(4) == 8

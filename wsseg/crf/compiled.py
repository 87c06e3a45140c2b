"""Numba's compiler with a cache on disk; a machine without a writable cache folder is not an error."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function on its first call, and cache the result on disk if possible.

    The compiler may reorder arithmetic (`fastmath` without its assumptions about NaN and infinity). The GIL is released.
    """
    return _compiled(function, {"reassoc", "contract", "nsz", "arcp"})


def compiled_as_written(function: Callable[..., Any]) -> Any:
    """Compile a function as `compiled` does, without reordering arithmetic whose last digits matter."""
    return _compiled(function, False)


def _compiled(function: Callable[..., Any], fastmath: set[str] | bool) -> Any:
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # "cannot cache function: no locator available"
        return numba.njit(**options)(function)

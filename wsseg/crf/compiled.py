"""Numba's compiler, with the one thing it lacks: a machine without any writable cache folder is no error."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function on its first call, and keep the result on disk where there is room for it.

    Arithmetic may be reordered (`fastmath` without its assumptions on NaN and infinity), and other threads may run.
    """
    return _compiled(function, {"reassoc", "contract", "nsz", "arcp"})


def compiled_as_written(function: Callable[..., Any]) -> Any:
    """`compiled` for arithmetic whose last digits matter: nothing is reordered."""
    return _compiled(function, False)


def _compiled(function: Callable[..., Any], fastmath: set[str] | bool) -> Any:
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # "cannot cache function: no locator available"
        return numba.njit(**options)(function)

"""Numba's compiler, with the one thing it lacks: a machine without any writable cache folder is no error."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function on its first call, and keep the result on disk where there is room for it.

    Arithmetic may be reordered (`fastmath` without its assumptions on NaN and infinity), and other threads may run.
    """
    return _compiled(function, {"reassoc", "contract", "nsz", "arcp"})


def compiled_as_written(function: F) -> F:
    """`compiled` for arithmetic whose last digits matter: nothing is reordered."""
    return _compiled(function, False)


def _compiled(function: F, fastmath: set[str] | bool) -> F:
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath}
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # "cannot cache function: no locator available"
        return numba.njit(**options)(function)  # type: ignore[no-any-return]

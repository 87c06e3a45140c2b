"""The errors that a user can cause. The command line prints them as one line and exits with code 1."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class WssegError(Exception):
    """Base of all errors that wsseg raises on purpose; the message is one line."""


class ConfigError(WssegError):
    """A config file or a ``--set`` override is not valid."""


class RecipeError(WssegError):
    """A recipe is not valid."""


class DatasetError(WssegError):
    """Images, labels or masks of the user are missing, unreadable or inconsistent."""


class ArtifactError(WssegError):
    """An artifact of the store is missing, damaged or of the wrong kind."""


class FormatError(WssegError):
    """A store, an artifact or a run record has the format of another version of wsseg; it is neither used nor replaced."""


class OutputError(WssegError):
    """An output would become an input, or replace a file that wsseg has not written."""


class StageError(WssegError):
    """A stage cannot run with its inputs and values."""


class LaunchError(WssegError):
    """The processes of a launcher cannot work together."""


class OtherProcessError(LaunchError):
    """Another process of the launcher has failed and reports the reason."""


class MachineError(WssegError):
    """Memory, a disk, a device or a system limit has ended the work; the inputs are valid."""


class MissingExtraError(WssegError):
    """A package that only an optional part of wsseg needs is not installed."""


@contextmanager
def extra(name: str, purpose: str) -> Iterator[None]:
    """Raise `MissingExtraError` if an import in this block fails; the message names the extra of wsseg to install."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose}: {error.name} is not installed; run: pip install 'wsseg[{name}]'"
        ) from error


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the most similar known word, or an empty string."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 image``, ``2 images``, ``3 classes``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def listed(texts: Iterable[str], most: int = 20) -> str:
    """Return texts as one line: the first `most` of them, then the number of the others."""
    shown = list(texts)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


# --- errors of the machine ---------------------------------------------------------------------------------------

_OUT_OF_MEMORY = (
    "out of memory", "allocate memory", "not enough memory", "insufficient memory", "failed to allocate", "bad_alloc",
    "_alloc_failed", "defaultcpuallocator", "failed to map segment",
    "could not create a primitive",  # oneDNN without memory
)  # fmt: skip
_SHARED_MEMORY = ("bus error", "shared memory", "torch_shm_manager", "unable to mmap", "no space left on device (28)")
_KILLED = ("dataloader worker (pid", "brokenprocesspool", "process in the process pool was terminated")
_OPEN_FILES = ("too many open files", "received 0 items of ancdata")
_THREADS = ("can't start new thread", "resource temporarily unavailable")
_OTHERS = ("gloo", "connection closed by peer", "connection reset by peer")
# values that memory use depends on, in the order in which a message suggests them
_LARGE_VALUES = ("batch_size", "size", "scales", "workers")


def explained(error: BaseException, step: str = "", values: Mapping[str, Any] | None = None) -> WssegError | None:
    """Return an error with a one-line message for an expected error or an error of the machine; None for any other.

    Args:
        error: an error of Python, torch, OpenCV, the system, or a worker process.
        step: name of the running step.
        values: the step's values by dotted key, such as ``segmenter.batch_size``; the message suggests which to lower.
    """
    detail = _detail(error)
    if isinstance(error, WssegError):
        return type(error)(detail)
    if isinstance(error, BrokenPipeError):  # such as: wsseg list | head
        return None
    front = f"{step}: " if step else ""
    after = "; finished work is kept"
    names = {cls.__name__ for cls in type(error).__mro__}
    text = f"{type(error).__name__} {error}".lower()
    if isinstance(error, UnicodeError):
        return _explained_name(error, front)
    from_library = isinstance(error, OSError | RuntimeError | ImportError) or type(error).__module__.startswith("cv2")

    def mentions(marks: tuple[str, ...]) -> bool:
        return from_library and any(mark in text for mark in marks)

    if mentions(_SHARED_MEMORY):
        key = next((key for key in values or () if key.endswith("workers")), "workers")
        more = f"set {key} to 0, or give a container more (docker run --shm-size 2g)"
        return MachineError(f"{front}shared memory is full ({detail}); {more}{after}")
    if mentions(_KILLED):
        reason = "a worker process was killed, probably because memory or shared memory ran out"
        return MachineError(f"{front}{reason} ({detail}); {_lower(_LARGE_VALUES[::-1], values)}{after}")
    if isinstance(error, MemoryError) or "OutOfMemoryError" in names or mentions(_OUT_OF_MEMORY):
        return MachineError(f"{front}out of memory ({detail}); {_lower(_LARGE_VALUES, values)}{after}")
    if mentions(_OPEN_FILES):
        return MachineError(f"{front}too many open files ({detail}); raise the limit (ulimit -n 4096){after}")
    if mentions(_THREADS):
        return MachineError(
            f"{front}the system cannot start more threads or processes ({detail}); "
            f"{_lower(('workers',), values)}, or raise the limit (ulimit -u){after}"
        )
    if "DistError" in names or mentions(_OTHERS):
        return OtherProcessError(f"{front}the connection to another process of the launcher was lost ({detail})")
    if isinstance(error, OSError):
        place = f"{_printable(error.filename)}: " if error.filename else ""
        return MachineError(f"{front}{place}{error.strerror or detail}{after}")
    return None


@contextmanager
def explaining(step: str = "", values: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Replace errors of the machine inside the block by a `MachineError` with a one-line message; see `explained`."""
    try:
        yield
    except Exception as error:
        explanation = explained(error, step, values)
        if explanation is None or str(explanation) == str(error):
            raise
        raise explanation from error


def _detail(error: BaseException) -> str:
    """Return an error's message in one line; for an error that torch re-raises from a worker, the worker's message."""
    lines = [line for line in _printable(error).splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].startswith("Caught ") and "Traceback" in " ".join(lines[:2]):
        return lines[-1].partition(": ")[2] or lines[-1]
    return " ".join(lines) if isinstance(error, WssegError) else lines[0][:200].strip()


def _lower(names: Iterable[str], values: Mapping[str, Any] | None) -> str:
    """Return the advice to lower those of the named values that the step has, with their current values."""
    texts = [
        f"{key} ({value} now)"
        for name in names
        for key, value in (values or {}).items()
        if key.rsplit(".", 1)[-1] == name and value != 0 and (value != 1 or name == "workers")
    ]
    if not texts:
        return "lower batch sizes, sizes, scales or workers"
    return "lower " + " or ".join([*([", ".join(texts[:-1])] if texts[:-1] else []), texts[-1]])


def _explained_name(error: UnicodeError, front: str) -> WssegError | None:
    """Explain why a name cannot be encoded: it is not UTF-8, or the system's encoding lacks a character."""
    if not isinstance(error, UnicodeEncodeError):
        return None
    name = f"{front}{_printable(error.object[:200])}"
    if error.encoding.lower().replace("-", "") == "utf8":
        return DatasetError(f"{name}: the name is not UTF-8; rename the file or folder")
    return MachineError(f"{name}: the system's encoding {error.encoding} cannot express it; set PYTHONUTF8=1")


def _printable(text: object) -> str:
    """Return a text with bytes that are not UTF-8, which Python represents as surrogates, as escapes."""
    return str(text).encode("utf-8", "backslashreplace").decode()

"""Every error that a user can cause. The command line prints one as a single line and exits with code 1."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class WssegError(Exception):
    """Base of all errors that wsseg raises on purpose; its text is one clear line."""


class ConfigError(WssegError):
    """A config file or a ``--set`` override holds something that is not valid."""


class RecipeError(WssegError):
    """A recipe is wired in a way that cannot run."""


class DatasetError(WssegError):
    """The user's images, labels or masks are missing, unreadable or contradict each other."""


class ArtifactError(WssegError):
    """An artifact of the store is missing, damaged or of the wrong kind."""


class FormatError(WssegError):
    """A store, an artifact or a record of a run has the form of another version of wsseg; it is neither used nor replaced."""


class OutputError(WssegError):
    """An output would become an input, or replace a file that wsseg did not write."""


class StageError(WssegError):
    """A stage cannot do its work with the inputs and values that it was given."""


class LaunchError(WssegError):
    """The processes that a launcher started cannot work together."""


class OtherProcessError(LaunchError):
    """Another process of the launcher has failed; that one says why."""


class MachineError(WssegError):
    """Memory, a disk, a device or a limit of the system ended the work; nothing is wrong with the inputs."""


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
    """Return ``"; did you mean 'x'?"`` for the known word closest to `word`, or an empty string."""
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
# what takes memory, by the name of a value, and what helps
_LARGE_VALUES = ("batch_size", "size", "scales", "workers")


def explained(error: BaseException, step: str = "", values: Mapping[str, Any] | None = None) -> WssegError | None:
    """Return an error of the machine as one clear line, or None if it is none.

    Args:
        error: what was raised: by Python, torch, OpenCV, the system, or a worker process of theirs.
        step: the step that ran.
        values: its values by dotted key, such as ``segmenter.batch_size``; the line names those that help.
    """
    detail = _detail(error)
    if isinstance(error, WssegError):
        return type(error)(detail)
    if isinstance(error, BrokenPipeError):  # as in wsseg list | head
        return None
    front = f"{step}: " if step else ""
    after = "; all that is finished is kept"
    names = {cls.__name__ for cls in type(error).__mro__}
    text = f"{type(error).__name__} {error}".lower()
    if isinstance(error, UnicodeError):
        return _explained_name(error, front)
    told = isinstance(error, OSError | RuntimeError | ImportError) or type(error).__module__.startswith("cv2")

    def says(marks: tuple[str, ...]) -> bool:
        return told and any(mark in text for mark in marks)

    if says(_SHARED_MEMORY):
        key = next((key for key in values or () if key.endswith("workers")), "workers")
        more = f"set {key} to 0, or give a container more (docker run --shm-size 2g)"
        return MachineError(f"{front}shared memory is full ({detail}); {more}{after}")
    if says(_KILLED):
        what = "a worker process was killed, as systems do when memory or shared memory runs out"
        return MachineError(f"{front}{what} ({detail}); {_lower(_LARGE_VALUES[::-1], values)}{after}")
    if isinstance(error, MemoryError) or "OutOfMemoryError" in names or says(_OUT_OF_MEMORY):
        return MachineError(f"{front}out of memory ({detail}); {_lower(_LARGE_VALUES, values)}{after}")
    if says(_OPEN_FILES):
        return MachineError(f"{front}too many open files ({detail}); raise the limit (ulimit -n 4096){after}")
    if says(_THREADS):
        return MachineError(
            f"{front}the system starts no more threads or processes ({detail}); "
            f"{_lower(('workers',), values)}, or raise the limit (ulimit -u){after}"
        )
    if "DistError" in names or says(_OTHERS):
        return OtherProcessError(f"{front}the processes of the launcher have lost each other ({detail})")
    if isinstance(error, OSError):
        place = f"{_printable(error.filename)}: " if error.filename else ""
        return MachineError(f"{front}{place}{error.strerror or detail}{after}")
    return None


@contextmanager
def explaining(step: str = "", values: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Raise errors of the machine as `MachineError`, whose text is one clear line; see `explained`."""
    try:
        yield
    except Exception as error:
        known = explained(error, step, values)
        if known is None or str(known) == str(error):
            raise
        raise known from error


def _detail(error: BaseException) -> str:
    """Return an error's text in one line; of one that torch brings from a worker, what the worker said."""
    lines = [line for line in _printable(error).splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].startswith("Caught ") and "Traceback" in " ".join(lines[:2]):
        return lines[-1].partition(": ")[2] or lines[-1]
    return " ".join(lines) if isinstance(error, WssegError) else lines[0][:200].strip()


def _lower(names: Iterable[str], values: Mapping[str, Any] | None) -> str:
    """Return which values to lower: those that the step has and that can be lower, with what they are now."""
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
    """Return why a name cannot be written: it is not UTF-8, or the system's encoding has no such character."""
    if not isinstance(error, UnicodeEncodeError):
        return None
    found = f"{front}{_printable(error.object[:200])}: "
    if error.encoding.lower().replace("-", "") == "utf8":
        return DatasetError(f"{found}the name is not UTF-8; rename the file or folder")
    return MachineError(f"{found}the system's encoding {error.encoding} cannot express it; set PYTHONUTF8=1")


def _printable(text: object) -> str:
    """Return a text whose bytes that are not UTF-8 (Python keeps them as surrogates) are written out."""
    return str(text).encode("utf-8", "backslashreplace").decode()

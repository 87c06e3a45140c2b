"""Every error that a user can cause. The command line prints one as a single line and exits with code 1."""

import difflib
from collections.abc import Iterable


class WssegError(Exception):
    """Base of all errors that wsseg raises on purpose; its text is one clear line."""


class ConfigError(WssegError):
    """A config file or a ``--set`` override holds something that is not legal."""


class RecipeError(WssegError):
    """A recipe is wired in a way that cannot run."""


class DatasetError(WssegError):
    """The user's images, labels or masks are missing, unreadable or contradict each other."""


class ArtifactError(WssegError):
    """An artifact of the store is missing, damaged or of the wrong kind."""


class StageError(WssegError):
    """A stage cannot do its work with the inputs and values that it was given."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word closest to `word`, or an empty string."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""

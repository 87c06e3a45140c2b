"""Weakly supervised segmentation: image-level labels in, pixel masks and a segmentation network out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsseg.api import Run, Segmenter, load_segmenter, run

__version__ = "0.2.0"
__all__ = ["Run", "Segmenter", "load_segmenter", "run"]


def __getattr__(name: str) -> Any:  # the API is imported at its first use, so that importing wsseg is fast
    if name in __all__:
        from wsseg import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

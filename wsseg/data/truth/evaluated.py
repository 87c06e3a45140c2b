"""The images of a split that are evaluated: those with a usable true mask."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsseg.data.images import LabeledImages
from wsseg.errors import DatasetError, listed

_VERSION = 2  # bump when the same files give other masks
_EXAMPLES = 3  # images that a message names per fault


class EvaluatedImages:
    """Base of both kinds of true masks.

    Args:
        images: the split.
        skip: leave out images whose mask cannot be used, instead of raising an error.

    Attributes:
        ids: the images that are evaluated, sorted.
        sequences: whether the items are sequences.
        notes: one line per finding, such as images that are not evaluated.
        key: changes with the masks, and with the images that are evaluated.
    """

    def __init__(self, images: LabeledImages, skip: bool) -> None:
        self.split, self.classes, self.ids = images.split, images.classes, [item.id for item in images.items]
        self.sequences = bool(images.channels)
        self.notes: list[str] = []
        self.key = ""
        self._images, self._skip = images, skip
        self._judged: frozenset[str] = frozenset()

    def _leave_out(self, reason: str, ids: list[str]) -> None:
        """Leave some images out of the evaluation, and note the reason."""
        if ids:
            left_out = set(ids)
            self.ids = [item_id for item_id in self.ids if item_id not in left_out]
            self.notes.append(
                f"{len(ids)} of {len(self._images)} images {reason} and are not evaluated: {listed(sorted(ids))}"
            )

    def _refuse(self, where: Path, faults: Mapping[str, str], advice: str = "") -> None:
        """Raise an error for masks that cannot be used (fault by item id), or leave out their images."""
        if not faults:
            return
        by_fault: dict[str, list[str]] = {}
        for item_id, fault in faults.items():
            by_fault.setdefault(fault, []).append(item_id)
        summary = listed(f"{listed(ids, _EXAMPLES)} ({fault})" for fault, ids in by_fault.items())
        if self._skip:
            self._leave_out(f"have a mask that cannot be used ({summary})", list(faults))
            return
        raise DatasetError(
            f"{where}: the masks of {len(faults)} of {len(self._images)} images cannot be used: {summary}; "
            f'{advice}fix or remove them (an image without a mask is not evaluated), or set data.on_bad_image = "skip"'
        )

    def _check_judged(self, item_id: str) -> None:
        if item_id not in self._judged:
            raise DatasetError(f"{item_id}: the image has no true mask and is not evaluated")

    def _settle(self, content: Any) -> None:
        """Fix the evaluated images and the key; `content` is what the masks depend on, as JSON values."""
        text = json.dumps([_VERSION, self._images.key, self.ids, content])
        self.key = hashlib.sha256(text.encode()).hexdigest()
        self._judged = frozenset(self.ids)

"""Images with image-level labels. This module cannot read masks: those are in `wsseg.data.truth`."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wsseg.data.file_memory import FileMemory
from wsseg.data.label_overlay import apply_overlay, decisions_of
from wsseg.data.layouts import Listing, list_split
from wsseg.data.sampling import evenly_spaced
from wsseg.data.sequences import Records
from wsseg.errors import DatasetError, listed, nearest
from wsseg.labels import ClassMap
from wsseg.types import LabeledImage, LabeledSequence

log = logging.getLogger("wsseg")


@dataclass(frozen=True)
class LabeledImages:
    """One split: readable images, sorted by id, with their classes.

    Args:
        split: ``train`` or ``val``.
        classes: the classes to learn.
        items: the images.
        skipped: images that are left out under ``on_bad_image = "skip"``: reason by id.
        key: fingerprint: sha256 of the sorted ids, contents, class names and labels.
        channels: names of the channels of sequences; empty for photographs, which have red, green and blue.
    """

    split: str
    classes: ClassMap
    items: tuple[LabeledImage, ...]
    skipped: dict[str, str]
    key: str
    channels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)


def load_images(
    data: Any, split: str, memory: FileMemory, classes: ClassMap | None = None, listing: Listing | None = None
) -> LabeledImages:
    """Read the labels of a split and inspect its images. Each file is read once, then remembered in `memory`.

    Args:
        data: one of the data configs.
        split: ``train`` or ``val``.
        memory: inspections of earlier calls.
        classes: classes of the training split, if `split` is another split of the same data set.
        listing: result of `list_split`, if the caller has it and reports its warnings; None to list the split and log them.

    Raises:
        DatasetError: labels without image, unreadable images (unless they are skipped), unknown classes, or no image.
    """
    if listing is None:
        listing = list_split(data, split)
        for line in listing.warnings():
            log.warning("%s: %s", split, line)
    if classes is None:
        classes = class_map(data, listing)
    elif not data.classes and (unknown := sorted(set(listing.names) - set(classes.names))):
        raise DatasetError(
            f"{split}: found classes that train does not have: {listed(unknown)}; name the classes to learn in data.classes"
        )
    if listing.label_without_image and data.on_bad_image == "stop":
        raise DatasetError(
            f"{split}: {len(listing.label_without_image)} labels have no image: {listed(listing.label_without_image)}; "
            'add the images, remove the labels, or set data.on_bad_image = "skip"'
        )
    if (overlay := getattr(data, split).label_overlay) is not None:
        known = dict.fromkeys((*listing.names, *classes.names))
        log.info("%s: %s", split, apply_overlay(listing, decisions_of(data, split, listing), overlay, known))
    skipped = dict.fromkeys(listing.label_without_image, "no image file")
    ids = evenly_spaced(sorted(listing.paths), getattr(data, split).limit or len(listing.paths))
    if listing.records is not None:
        return _sequences(split, classes, listing, listing.records, ids, skipped)
    inspections = memory.inspect([listing.paths[i] for i in ids], f"reading {split} images")
    items = []
    for item_id in ids:
        path = listing.paths[item_id]
        inspection = inspections[path]
        if inspection.error:
            skipped[item_id] = inspection.error
            continue
        class_ids = _class_ids(classes, listing.labels[item_id])
        items.append(LabeledImage(item_id, path, class_ids, inspection.size, inspection.sha256))
    unreadable = [f"{listing.paths[i]} ({reason})" for i, reason in skipped.items() if i in listing.paths]
    if unreadable and data.on_bad_image == "stop":
        raise DatasetError(
            f"{split}: {len(unreadable)} images cannot be read: {', '.join(unreadable)}; "
            'repair or remove them, or set data.on_bad_image = "skip"'
        )
    if not items:
        reasons = listed(f"{listing.paths.get(i, i)} ({reason})" for i, reason in skipped.items())
        raise DatasetError(f"{split}: none of {len(skipped)} images can be read: {reasons}")
    return LabeledImages(split, classes, tuple(items), skipped, _fingerprint(classes, items))


def _sequences(
    split: str, classes: ClassMap, listing: Listing, records: Records, ids: list[str], skipped: dict[str, str]
) -> LabeledImages:
    places = {name: place for place, name in enumerate(records.ids)}
    items = [
        LabeledSequence(
            item_id,
            listing.paths[item_id],
            _class_ids(classes, listing.labels[item_id]),
            (1, int(records.lengths[places[item_id]])),
            records.digest(places[item_id]),
            places[item_id],
            listing.covariates.get(item_id, ()),
        )
        for item_id in ids
    ]
    return LabeledImages(
        split, classes, tuple(items), skipped, _fingerprint(classes, items, records.channels), records.channels
    )


def _class_ids(classes: ClassMap, names: frozenset[str]) -> tuple[int, ...]:
    return tuple(sorted(classes.id_of(name) for name in names if name in classes.names))


def class_map(data: Any, listing: Listing) -> ClassMap:
    """Return the classes to learn: those that the config chooses, or all classes of the data set."""
    for name in data.classes:
        if name not in listing.names:
            raise DatasetError(
                f"data.classes: the data set has no class {name!r}; it has {', '.join(listing.names)}{nearest(name, listing.names)}"
            )
    return ClassMap(tuple(data.classes) or listing.names)


def _fingerprint(classes: ClassMap, items: Sequence[LabeledImage], channels: tuple[str, ...] = ()) -> str:
    content: dict[str, Any] = {"classes": classes.names, "items": [[i.id, i.sha256, i.class_ids] for i in items]}
    if channels:
        content["channels"] = channels
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

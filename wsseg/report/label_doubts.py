"""The doubts about the labels of a data set, which `wsseg data doubt` stored, for the report of any run on these labels."""

import logging
from dataclasses import dataclass

from wsseg.data.images import LabeledImages
from wsseg.errors import WssegError
from wsseg.stages.doubt_labels.listing import FILE, LabelDoubts, decode
from wsseg.stages.doubt_labels.stage import DoubtLabels
from wsseg.store.objects import ArtifactStore

log = logging.getLogger("wsseg")


@dataclass(frozen=True)
class StoredDoubts:
    """The newest doubts about the labels of a split.

    Args:
        doubts: images by doubt, and near-duplicates.
        average_precision: mean average precision of the heads on the labels that they did not learn from, in [0, 1], or
            None if no class could be judged.
    """

    doubts: LabelDoubts
    average_precision: float | None

    def by_image(self) -> dict[str, tuple[float, str]]:
        """Return (doubt, why) by image id; `why` is empty unless a label is probably wrong."""
        return {image.id: (image.doubt, image.why if image.probably_wrong else "") for image in self.doubts.images}


def stored_doubts(store: ArtifactStore, images: LabeledImages) -> StoredDoubts | None:
    """Return the newest doubts about exactly these images and labels, or None if `wsseg data doubt` has not judged them."""
    steps = [step for record in store.runs().values() for step in record["steps"].values()]
    for step in reversed(steps):
        if step["stage"] != DoubtLabels.name or step["inputs"].get("images") != images.key:
            continue
        try:
            artifact = store.get(step["key"])
            if artifact is not None:
                return StoredDoubts(decode(artifact.read_bytes(FILE)), artifact.manifest["metrics"]["judge_map"])
        except WssegError as error:
            log.warning("report: %s", error)
    return None

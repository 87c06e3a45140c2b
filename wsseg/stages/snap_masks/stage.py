"""The stage `snap_masks`: writes one indexed PNG per image, computed by several processes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsseg.data.images import LabeledImages
from wsseg.parallel import map_processes, worker_count
from wsseg.progress import track
from wsseg.stages.layout import SEGMENT_FOLDER, ArtifactMasks, mask_path, mask_shares
from wsseg.stages.protocol import MarkSource, Role, check_photographs
from wsseg.stages.snap_masks import config as values
from wsseg.store.artifact import Artifact
from wsseg.store.files import atomic_write
from wsseg.types import LabeledImage, Mask


@dataclass(frozen=True)
class _Job:
    item: LabeledImage
    mask: Mask
    segments: bytes
    config: values.Config
    target: Path
    mark: Mask | None


class SnapMasks:
    name = "snap_masks"
    table = "snapping"
    version = 1
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "images": Role(("images",)),
        "masks": Role(("pseudo_masks",)),
        "segments": Role(("segments",)),
        "marks": Role(("marks",), optional=True),
    }
    output = "pseudo_masks"
    distributed = False
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """All values are valid with photographs."""
        check_photographs(self.name, inputs["images"])

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write masks/<id>.png for each image; pixels of which a mark says something have its value.

        Metrics: `images`, the fractions `background` and `undecided` of all pixels, and the fraction `snapped` of the pixels
        whose label has changed.
        """
        images: LabeledImages = inputs["images"]
        before, segments = ArtifactMasks(inputs["masks"]), inputs["segments"]
        missing = [item for item in images.items if not mask_path(out, item.id).is_file()]
        jobs = _jobs(config, missing, before, segments, inputs.get("marks"), out)
        results = map_processes(_snap_one, jobs, worker_count(config.workers))
        for _ in track(results, len(images), "snapped masks", done=len(images) - len(missing)):
            pass
        differ = sum(int((before.mask(i.id) != _mask(mask_path(out, i.id))).sum()) for i in images.items)
        pixels = sum(item.size[0] * item.size[1] for item in images.items)
        return {"images": len(images), **mask_shares(images, out), "snapped": differ / pixels}


def _jobs(
    config: values.Config,
    missing: list[LabeledImage],
    masks: ArtifactMasks,
    segments: Artifact,
    marks: MarkSource | None,
    out: Path,
) -> Iterator[_Job]:
    marked = set(marks.ids) if marks else set()
    for item in missing:
        data = segments.read_bytes(f"{SEGMENT_FOLDER}/{item.id}.png")
        mark = marks.mask(item.id) if marks and item.id in marked else None
        yield _Job(item, masks.mask(item.id), data, config, mask_path(out, item.id), mark)


def _mask(path: Path) -> Mask:
    from wsseg.data.masks import decode_mask

    return decode_mask(path.read_bytes())


def _snap_one(job: _Job) -> None:
    """Write one snapped mask; runs in a worker process."""
    from wsseg.data.masks import encode_mask, with_lost_classes, with_mark
    from wsseg.data.segments import decode_segments, enlarged
    from wsseg.stages.snap_masks.snapping import snapped

    segments = enlarged(decode_segments(job.segments))
    mask = snapped(job.mask, segments, job.config.min_inside, job.config.min_covered)
    mask = with_lost_classes(mask, job.mask, job.item.class_ids)
    atomic_write(job.target, encode_mask(mask if job.mark is None else with_mark(mask, job.mark)))

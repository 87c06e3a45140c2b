"""The stage `make_segments`: writes one small PNG per image."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsseg.data.images import LabeledImages
from wsseg.errors import StageError
from wsseg.models.foundation.checkpoint import SAM3_KINDS, SAM_KINDS, check_checkpoint
from wsseg.models.foundation.prompts import Prompts, phrases
from wsseg.parallel import map_processes, worker_count
from wsseg.progress import track
from wsseg.stages.layout import SEGMENT_FOLDER, segment_path
from wsseg.stages.make_segments import config as values
from wsseg.stages.protocol import Role, check_photographs
from wsseg.store.files import atomic_write
from wsseg.types import LabeledImage


@dataclass(frozen=True)
class _Job:
    item: LabeledImage
    config: values.Config
    target: Path


class MakeSegments:
    name = "make_segments"
    table = "segments"
    version = 1
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "images": Role(("images",)),
        "seeds": Role(("seeds",), optional=True),  # for method = "sam_points"
    }
    output = "segments"
    distributed = False
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """Check that the images are photographs, that the checkpoint and the seeds are there, and that the prompts name classes."""
        check_photographs(self.name, inputs["images"])
        if config.method == "felzenszwalb":
            return
        kinds = SAM3_KINDS if config.method == "sam3" else SAM_KINDS
        check_checkpoint(config.sam, "segments.sam", kinds, f'segments.method = "{config.method}"')
        phrases(config.prompts or Prompts(), inputs["images"].classes)
        if config.method == "sam_points" and "seeds" not in inputs:
            raise StageError(
                'segments.method = "sam_points" requires seeds, but the recipe gives this step none; expected: sam, sam3'
            )

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write segments/<id>.png for each image; metrics: `images`, `bytes_per_image` and `segments_per_image` (means)."""
        images: LabeledImages = inputs["images"]
        if config.method != "felzenszwalb" and config.sam is not None:
            from wsseg.stages.make_segments.sam_segments import write_sam_segments

            write_sam_segments(config, config.sam, images, inputs.get("seeds"), out)
            return shares(images, out)
        missing = [item for item in images.items if not segment_path(out, item.id).is_file()]

        def jobs() -> Iterator[_Job]:
            yield from (_Job(item, config, segment_path(out, item.id)) for item in missing)

        results = map_processes(_divide_one, jobs(), worker_count(config.workers))
        for _ in track(results, len(images), "segments", done=len(images) - len(missing)):
            pass
        return shares(images, out)


def shares(images: LabeledImages, out: Path) -> dict[str, Any]:
    """Return the metrics of the segments below `out`."""
    from wsseg.data.segments import decode_segments

    counts = [len(decode_segments(segment_path(out, item.id).read_bytes()).scores) for item in images.items]
    total = sum(path.stat().st_size for path in (out / SEGMENT_FOLDER).rglob("*.png"))
    return {
        "images": len(images),
        "bytes_per_image": total / len(images),
        "segments_per_image": sum(counts) / len(images),
    }


def _divide_one(job: _Job) -> None:
    """Write the superpixels of one image; runs in a worker process."""
    from wsseg.data.reading import read_photograph
    from wsseg.data.segments import encode_segments
    from wsseg.stages.make_segments.superpixels import superpixels

    config = job.config
    segments = superpixels(read_photograph(job.item), config.size, config.scale, config.sigma, config.min_size)
    atomic_write(job.target, encode_segments(segments))

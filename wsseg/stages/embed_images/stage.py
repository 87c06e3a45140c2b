"""The stage `embed_images`: writes one small safetensors file per image. Torch is imported in `run`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsseg.data.images import LabeledImages
from wsseg.models.foundation.checkpoint import CLIP_KINDS, DINO_KINDS, check_checkpoint
from wsseg.progress import track
from wsseg.stages.embed_images import config as values
from wsseg.stages.layout import EMBEDDING_FOLDER, embedding_path
from wsseg.stages.protocol import Role, check_photographs
from wsseg.store.files import atomic_write


class EmbedImages:
    name = "embed_images"
    table = "embeddings"
    version = 1
    Config = values.Config
    inputs: Mapping[str, Role] = {"images": Role(("images",))}
    output = "embeddings"
    distributed = False
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """Check that the checkpoint is there and of a kind that has patch embeddings."""
        check_photographs(self.name, inputs["images"])
        check_checkpoint(config.model, "embeddings.model", (*DINO_KINDS, *CLIP_KINDS), "embed_images")

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write embeddings/<id>.safetensors for each image; metrics: `images`, `bytes_per_image` (mean)."""
        import safetensors.torch

        from wsseg.data.batches import batches_by_size, read_batch
        from wsseg.models.device import resolve_device
        from wsseg.models.foundation.embeddings import Embedder, reduced
        from wsseg.models.foundation.patches import patched_size

        images: LabeledImages = inputs["images"]
        embedder = Embedder(config.model, resolve_device(config.device), config.precision)
        batches = batches_by_size(images.items, config.batch_size)
        missing = [b for b in batches if not all(embedding_path(out, item.id).is_file() for item in b)]
        for batch in track(missing, len(batches), "embeddings", "batches", len(batches) - len(missing)):
            size = patched_size(batch[0].size, config.size, embedder.patch)
            (tensor,) = read_batch(batch, embedder.mean, embedder.std, [size], embedder.device)
            for item, vectors in zip(batch, embedder.vectors(tensor).cpu(), strict=True):
                small = reduced(vectors, config.rank).half()
                grid = (size[0] // embedder.patch, size[1] // embedder.patch)
                data = safetensors.torch.save({"vectors": small.view(*grid, -1).contiguous()})
                if not embedding_path(out, item.id).is_file():
                    atomic_write(embedding_path(out, item.id), data)
        total = sum(path.stat().st_size for path in (out / EMBEDDING_FOLDER).rglob("*.safetensors"))
        return {"images": len(images), "bytes_per_image": total / len(images)}

"""Images without any class as the picture of normality, which `make_seeds` computes before the first map."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from wsseg.data.batches import batches_by_size, network_size, read_batch
from wsseg.data.images import LabeledImages
from wsseg.data.sampling import evenly_spaced
from wsseg.errors import StageError
from wsseg.models.classifier import Classifier, ClassifierSpec
from wsseg.models.cpu.folding import folded
from wsseg.models.device import autocast
from wsseg.models.weights import load_matching
from wsseg.progress import track
from wsseg.saliency.normality import Normality, patch_features, remembered, unusual
from wsseg.saliency.passes import in_parts
from wsseg.stages.make_seeds.config import Config
from wsseg.store.files import atomic_write
from wsseg.types import LabeledImage

FEWEST = 30  # images without a class
SHARE = 0.1  # of all images
_IMAGES = 200  # evenly spaced images without a class
_PATCHES = 6000
_STRIDES = (4, 8, 16)  # of the feature levels


def enough(images: LabeledImages) -> bool:
    """Return whether at least 30 photographs, and a tenth of all, show no class; sequences have no feature levels."""
    if images.channels:
        return False
    count = sum(not item.class_ids for item in images.items)
    return count >= max(FEWEST, SHARE * len(images))


class PatchFeatures(nn.Module):
    """The feature levels of a classifier's backbone with the strides 4, 8 and 16, as patch features (N, F, h, w).

    Args:
        backbone: name of the timm model.
        classifier: the classifier whose weights are used.

    Raises:
        StageError: the backbone has no feature levels of these strides.
    """

    def __init__(self, backbone: str, classifier: Classifier) -> None:
        super().__init__()
        try:
            network: Any = timm.create_model(backbone, pretrained=False, features_only=True)
            levels = [i for i, stride in enumerate(network.feature_info.reduction()) if stride in _STRIDES]
        except (RuntimeError, AttributeError, ValueError, TypeError, AssertionError) as error:
            raise StageError(f"{backbone!r} has no feature levels") from error
        if not levels:
            raise StageError(f"{backbone!r} has no feature levels with the strides 4, 8 and 16")
        load_matching(network, classifier.backbone.state_dict(), f"feature levels of {backbone!r}")
        self.network, self.levels = network, levels

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, F, h, w) float32 of images (N, 3, H, W)."""
        features = self.network(images)
        return patch_features([features[i] for i in self.levels])


class NormalityMaps:
    """Maps of what is unusual, compared with the images without a class.

    Args:
        model: the classifier, not folded.
        spec: its description.
        images: the training images.
        config: the values of the stage.
        device: device of the features.
        out: folder that keeps the patches, so that a run can resume.

    Raises:
        StageError: the backbone has no feature levels.
    """

    def __init__(
        self, model: Classifier, spec: ClassifierSpec, images: LabeledImages, config: Config, device: torch.device, out: Path
    ) -> None:  # fmt: skip
        self.spec, self.config, self.device = spec, config, device
        network = folded(PatchFeatures(spec.backbone, model).eval(), torch.zeros(1, 3, 64, 64))
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        path = out / "normality.safetensors"
        if not path.is_file():
            normality = self._remember([item for item in images.items if not item.class_ids])
            atomic_write(path, safetensors.torch.save({k: v.contiguous() for k, v in vars(normality).items()}))
        self.normality = Normality(**safetensors.torch.load(path.read_bytes()))

    def size(self, item: LabeledImage) -> tuple[int, int]:
        """Return the (H, W) at which the network looks at an image."""
        return network_size(item.size, self.config.size or self.spec.size, 1.0)

    @torch.inference_mode()
    def of(self, images: Tensor) -> Tensor:
        """Return (N, h, w) float32, not negative, of images (N, 3, H, W) of `size`."""
        return unusual(self.normality, self._features(images))

    def _features(self, images: Tensor) -> Tensor:
        with autocast(self.config.precision, self.device):
            features = in_parts(self.network, images.contiguous(memory_format=torch.channels_last))
        return features.float().cpu()

    @torch.inference_mode()
    def _remember(self, items: Sequence[LabeledImage]) -> Normality:
        features: list[Tensor] = []
        batches = batches_by_size(evenly_spaced(items, _IMAGES), self.config.batch_size)
        for batch in track(batches, len(batches), "normal images", "batches"):
            (tensor,) = read_batch(batch, self.spec.mean, self.spec.std, [self.size(batch[0])], self.device)
            features += self._features(tensor)
        return remembered(features, _PATCHES, torch.Generator().manual_seed(self.config.rng_seed))

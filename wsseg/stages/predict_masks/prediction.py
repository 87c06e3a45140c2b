"""Prediction of masks for images of any size with a trained segmenter."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsseg.crf.chain import chain_marginals
from wsseg.crf.dense_crf import DenseCrf, reduced, resized
from wsseg.crf.settings import PRESETS
from wsseg.data.batches import network_inputs, network_size
from wsseg.data.masks import encode_grey, encode_mask, sampled
from wsseg.data.photographs import open_images
from wsseg.data.sequences import mirror_axes
from wsseg.errors import StageError
from wsseg.metrics.calibration import scaled
from wsseg.models.cpu.folding import folded
from wsseg.models.device import autocast, resolve_device
from wsseg.models.segmenter import SegmenterSpec, enlarged_argmax, segment
from wsseg.outputs import Outputs
from wsseg.stages.predict_masks.config import Config
from wsseg.stages.predict_masks.doubt import TABLE, ImageDoubt, doubt_table, image_doubt
from wsseg.types import Image, Mask, Scores


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Args:
        mask: (H, W) uint8 class ids.
        probability: (H, W) float32, probability of the mask's class in [0, 1].
        scores: (K + 1, 1, L) float32, probabilities of all classes at each place of a sequence; None for a photograph.
    """

    mask: Mask
    probability: NDArray[np.float32]
    scores: Scores | None = None

    @property
    def confidence(self) -> NDArray[np.uint8]:
        """The probability in percent, uint8, at every eighth row and column (`wsseg.data.masks.sampled`)."""
        percent: NDArray[np.uint8] = np.rint(100 * np.clip(sampled(self.probability), 0, 1)).astype(np.uint8)
        return percent


class Predictor:
    """Segments images with one network and one config.

    Args:
        model: the segmenter.
        spec: its classes and the statistics of its input.
        config: values of the prediction.
        classifier: a classifier with the same classes and input; required if `config.min_class_probability` is above 0.
    """

    def __init__(
        self, model: nn.Module, spec: SegmenterSpec, config: Config, classifier: nn.Module | None = None
    ) -> None:
        if not config.scales:
            raise StageError("predictions.scales: found an empty list; expected: at least one scale, such as [1.0]")
        self.device = resolve_device(config.device)
        shape = (1, len(spec.mean), 1 if spec.channels else 64, 64)
        model = folded(model.eval(), torch.zeros(shape, device=next(model.parameters()).device))
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.spec, self.config = spec, config
        self.classifier = None
        if config.min_class_probability > 0:
            if classifier is None:
                raise StageError(
                    "predictions.min_class_probability requires a classifier, but the recipe gives this step none"
                )
            self.classifier = classifier.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def predict(self, images: Sequence[Image]) -> list[Prediction]:
        """Segment (H, W, 3) uint8 images of one size."""
        size = images[0].shape[0], images[0].shape[1]
        return list(self.predictions([partial(_same, image) for image in images], size))

    def predictions(self, photographs: Sequence[Callable[[], Image]], size: tuple[int, int]) -> Iterator[Prediction]:
        """Yield the predictions for images of one size, with one image in memory at a time.

        Args:
            photographs: functions that return an (H, W, 3) uint8 image; each is called twice if there is a CRF.
            size: (H, W) of the images.
        """
        if self.spec.channels:  # sequences are never resized
            sizes = [size, size]
            small = (photograph() for photograph in photographs)
        else:
            sizes = [network_size(size, self.spec.size, scale) for scale in (1.0, *self.config.scales)]
            largest = max(sizes)  # photographs may be huge: they are reduced before they become float32
            small = (_shrunk(photograph(), largest) for photograph in photographs)
        first, *inputs = network_inputs(small, self.spec.mean, self.spec.std, sizes, self.device)
        with autocast(self.config.precision, self.device):
            scores = segment(self.model, inputs, sizes[0], self.config.flip, mirror_axes(self.spec.channels))
            if self.classifier is not None:
                scores = suppressed(scores, self._probabilities(first), self.config.min_class_probability)
        for photograph, image_scores in zip(photographs, scores.float().cpu().numpy(), strict=True):
            yield self._decide(photograph, size, image_scores)

    @torch.inference_mode()
    def _probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """Return the classifier's probabilities (N, K) in [0, 1]; images have the segmenter's training size."""
        logits = self.classifier(images.contiguous(memory_format=torch.channels_last))  # type: ignore[misc]
        return torch.sigmoid(logits.float())

    def _decide(self, photograph: Callable[[], Image], size: tuple[int, int], scores: np.ndarray) -> Prediction:
        if self.spec.channels:
            scores = chain_marginals(scores) if self.config.crf == "chain" else scores
            return Prediction(scores.argmax(axis=0).astype(np.uint8), scores.max(axis=0), scores)
        if self.config.crf == "off":
            mask, highest = enlarged_argmax(scores, size)
            return Prediction(mask, highest)
        image = reduced(photograph(), self.config.crf_size)
        large = resized(scores, (image.shape[0], image.shape[1]), cv2.INTER_LINEAR)
        large /= large.sum(axis=0, keepdims=True)
        refined = DenseCrf(image, PRESETS[self.config.crf]).refine(large)
        if refined.shape[1:] != size:
            return Prediction(*enlarged_argmax(refined, size))
        return Prediction(refined.argmax(axis=0).astype(np.uint8), refined.max(axis=0))


def _same(image: Image) -> Image:
    return image


def suppressed(scores: torch.Tensor, probabilities: torch.Tensor, lowest: float) -> torch.Tensor:
    """Return scores in which improbable classes are 0; they sum to 1 again.

    Args:
        scores: (N, K + 1, h, w), background first, sum 1.
        probabilities: (N, K) of the classifier.
        lowest: classes with a lower probability become 0.
    """
    possible = torch.cat([torch.ones_like(probabilities[:, :1]), (probabilities >= lowest).float()], dim=1)
    remaining = scores * possible[:, :, None, None]
    return remaining / remaining.sum(1, keepdim=True).clamp_min(1e-12)


def _shrunk(image: Image, largest: tuple[int, int]) -> Image:
    """Reduce an image to at most twice the largest input size of the network, by area averaging."""
    height, width = 2 * largest[0], 2 * largest[1]
    if image.shape[0] <= height and image.shape[1] <= width:
        return image
    size = (min(width, image.shape[1]), min(height, image.shape[0]))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def predict_files(
    predictor: Predictor,
    files: Mapping[str, Path],
    output: Path,
    outputs: Outputs,
    maps: Path | None = None,
    temperature: float = 1.0,
) -> tuple[list[ImageDoubt], list[tuple[Path, str]]]:
    """Segment image files into indexed PNG files.

    Args:
        predictor: the network and its values.
        files: paths of the images by id.
        output: folder of the masks ``<id>.png``; an id with / is written to a sub-folder.
        outputs: writes the files.
        maps: folder of the probability maps ``<id>.png`` and of the table `doubt.TABLE`; None to write none. A map is a grey
            PNG of the image's size: 255 times the probability of the mask's class, rounded.
        temperature: scales the probabilities, see `wsseg.metrics.calibration.scaled`.

    Returns:
        The doubt about each mask written, and the files that could not be read, each with the reason.

    Raises:
        OutputError: a file would overwrite an input or another file of the user; it is raised before the first prediction.
    """
    folders = [output] if maps is None else [output, maps]
    outputs.check([folder / f"{item_id}.png" for folder in folders for item_id in files])
    if maps is not None:
        outputs.check([maps / TABLE])
    unreadable: list[tuple[Path, str]] = []
    doubts = []
    for item_id, image in open_images(files, "predictions", unreadable):
        prediction = predictor.predict([image])[0]
        probability = scaled(prediction.probability, temperature)
        doubts.append(image_doubt(item_id, prediction.mask, probability))
        if maps is not None:
            grey = np.rint(255 * np.clip(probability, 0, 1)).astype(np.uint8)
            outputs.write(maps / f"{item_id}.png", encode_grey(grey))
        outputs.write(output / f"{item_id}.png", encode_mask(prediction.mask))
    if maps is not None:
        outputs.write(maps / TABLE, doubt_table(doubts, ("background", *predictor.spec.classes)))
    return doubts, unreadable

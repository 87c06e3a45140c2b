"""Choice of the size at which the networks look at images, and of the pooling of the class maps, without true masks.

Small objects vanish when a photograph is shrunk, and large ones do not become clearer when it is enlarged. The labels show
which is the case: the smallest size is chosen at which ImageNet features predict the held-out labels as well as at any size. In
the same way, the mean of a feature over the image dilutes a small object, and its maximum does not. If the maxima predict the
labels better, objects are small, and the maps are pooled by log-sum-exp; otherwise by the mean, whose maps cover more of large
objects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsseg.data.batches import batches_by_size, network_size, read_batch
from wsseg.data.images import LabeledImages
from wsseg.data.sampling import evenly_spaced
from wsseg.data.transforms import present
from wsseg.models.classifier import Classifier, ClassifierSpec, Pooling
from wsseg.models.cpu.folding import folded
from wsseg.models.device import Device, Precision, autocast, resolve_device
from wsseg.progress import track
from wsseg.types import LabeledImage

SIZES = (256, 320, 416, 512)  # px, long side
SAMPLE = 400  # number of images for the choice
_LARGEST = 1.6  # times the images' own size; larger ones show nothing new
_FOLDS = 5
_TOLERANCE = 0.02  # of the highest mean average precision
_REGULARISATION = 0.01  # scikit-learn's C: there are more features than images
_BATCH = 16


def candidates(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """Return the long sides to choose from for images of these (H, W): at most 1.6 times their median, at least the smallest."""
    longest = _LARGEST * median(max(size) for size in sizes)
    return [size for size in SIZES if size <= longest] or [SIZES[0]]


@dataclass(frozen=True)
class Evidence:
    """Mean average precision of held-out labels, in [0, 1], at one size of the images.

    Args:
        mean: from the mean of each feature over the image.
        highest: from the maximum of each feature.
    """

    mean: float
    highest: float


def smallest_sufficient(evidence: Mapping[int, Evidence]) -> int:
    """Return the smallest size whose precision is at most 0.02 below the highest one."""
    scores = {size: max(entry.mean, entry.highest) for size, entry in evidence.items()}
    return min(size for size, score in scores.items() if score >= max(scores.values()) - _TOLERANCE)


def pooling_for(evidence: Evidence) -> Pooling:
    """Return ``lse`` if maxima predict the labels better than means by at least 0.02, else ``mean``."""
    return "lse" if evidence.highest >= evidence.mean + _TOLERANCE else "mean"


def evidence_by_size(
    model: Classifier,
    spec: ClassifierSpec,
    images: LabeledImages,
    sizes: Sequence[int],
    precision: Precision,
    device: Device,
    rng_seed: int,
) -> dict[int, Evidence]:
    """Return how well ImageNet features predict held-out labels at each size; empty if there are too few labels.

    Args:
        model: a classifier with the initial weights of its backbone.
        spec: the statistics of its input.
        images: the training images; at most 400 evenly spaced ones are used.
        sizes: long sides of the images, in pixels.
        precision: data type of autocast.
        device: device of the features.
        rng_seed: seed of the folds.
    """
    items = evenly_spaced(images.items, SAMPLE)
    labels = torch.stack([present(item, len(images.classes)) for item in items]).numpy()
    counts = labels.sum(axis=0)
    judged = np.flatnonzero(np.minimum(counts, len(items) - counts) >= _FOLDS)
    if not len(judged):
        return {}
    target = resolve_device(device)
    network = folded(model.eval(), torch.zeros(1, 3, 64, 64))
    network.to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    evidence = {}
    for size in track(sizes, len(sizes), "size of the images", "sizes"):
        with autocast(precision, target):
            features = _features(network, spec, items, size, target)
        evidence[size] = Evidence(*(held_out_precision(half, labels[:, judged], rng_seed) for half in features))
    return evidence


@torch.inference_mode()
def _features(
    network: nn.Module, spec: ClassifierSpec, items: Sequence[LabeledImage], size: int, device: torch.device
) -> NDArray[np.float32]:
    """Return (2, N, F): the mean and the maximum of each feature map, in the order of the items."""
    rows: dict[str, NDArray[np.float32]] = {}
    for batch in batches_by_size(items, _BATCH):
        (tensor,) = read_batch(batch, spec.mean, spec.std, [network_size(batch[0].size, size, 1.0)], device)
        maps = network.features(tensor.contiguous(memory_format=torch.channels_last)).float()  # type: ignore[operator]
        vectors = torch.stack([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1).cpu().numpy()  # (N, 2, F)
        rows.update(zip((item.id for item in batch), vectors, strict=True))
    return np.stack([rows[item.id] for item in items], axis=1)


def held_out_precision(features: NDArray[np.float32], labels: NDArray[np.float32], rng_seed: int) -> float:
    """Return the mean average precision, in [0, 1], of logistic regressions in five folds.

    Args:
        features: (N, F).
        labels: (N, K), 0 or 1; each class has five images with it and five without it, at least.
        rng_seed: seed of the folds.
    """
    from sklearn.linear_model import LogisticRegression  # importing scikit-learn is slow
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    results = []
    for column in labels.T:
        scores = np.zeros(len(column))
        for train, held_out in StratifiedKFold(_FOLDS, shuffle=True, random_state=rng_seed).split(features, column):
            judge = make_pipeline(
                StandardScaler(), LogisticRegression(C=_REGULARISATION, class_weight="balanced", max_iter=300)
            )
            scores[held_out] = judge.fit(features[train], column[train]).decision_function(features[held_out])
        results.append(average_precision_score(column > 0, scores))
    return float(np.mean(results))

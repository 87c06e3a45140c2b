"""Choice of the size at which the networks look at images, without true masks.

Small objects vanish when a photograph is shrunk, and large ones do not become clearer when it is enlarged. The labels show
which is the case: the smallest size is chosen at which ImageNet features predict the held-out labels as well as at any size.
"""

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsseg.data.batches import batches_by_size, network_size, read_batch
from wsseg.data.images import LabeledImages
from wsseg.data.sampling import evenly_spaced
from wsseg.data.transforms import present
from wsseg.models.classifier import Classifier, ClassifierSpec
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


def smallest_sufficient(scores: Mapping[int, float]) -> int:
    """Return the smallest size whose score is at most 0.02 below the highest one."""
    return min(size for size, score in scores.items() if score >= max(scores.values()) - _TOLERANCE)


def chosen_size(
    model: Classifier, spec: ClassifierSpec, images: LabeledImages, precision: Precision, device: Device, rng_seed: int
) -> tuple[int, dict[int, float]]:
    """Return the long side in pixels, and the mean average precision in [0, 1] by size (empty without a choice).

    Args:
        model: a classifier with the initial weights of its backbone.
        spec: the statistics of its input.
        images: the training images; at most 400 evenly spaced ones are used.
        precision: data type of autocast.
        device: device of the features.
        rng_seed: seed of the folds.
    """
    sizes = candidates([item.size for item in images.items])
    items = evenly_spaced(images.items, SAMPLE)
    labels = torch.stack([present(item, len(images.classes)) for item in items]).numpy()
    counts = labels.sum(axis=0)
    judged = np.flatnonzero(np.minimum(counts, len(items) - counts) >= _FOLDS)
    if len(sizes) == 1 or not len(judged):
        return sizes[-1] if len(sizes) == 1 else max(s for s in sizes if s <= 320), {}
    target = resolve_device(device)
    network = folded(model.eval(), torch.zeros(1, 3, 64, 64))
    network.to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    scores = {}
    for size in track(sizes, len(sizes), "size of the images", "sizes"):
        with autocast(precision, target):
            features = _features(network, spec, items, size, target)
        scores[size] = held_out_precision(features, labels[:, judged], rng_seed)
    return smallest_sufficient(scores), scores


@torch.inference_mode()
def _features(
    network: nn.Module, spec: ClassifierSpec, items: Sequence[LabeledImage], size: int, device: torch.device
) -> NDArray[np.float32]:
    """Return (N, 2 F): the mean and the maximum of each feature map, in the order of the items."""
    rows: dict[str, NDArray[np.float32]] = {}
    for batch in batches_by_size(items, _BATCH):
        (tensor,) = read_batch(batch, spec.mean, spec.std, [network_size(batch[0].size, size, 1.0)], device)
        maps = network.features(tensor.contiguous(memory_format=torch.channels_last)).float()  # type: ignore[operator]
        vectors = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1).cpu().numpy()
        rows.update(zip((item.id for item in batch), vectors, strict=True))
    return np.stack([rows[item.id] for item in items])


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

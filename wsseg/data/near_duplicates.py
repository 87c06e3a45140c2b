"""Near-duplicates: photographs that were saved again, resized, brightened, turned or mirrored.

Images are compared by a perceptual hash (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash
Functions", section 3.2.1): the signs of their low frequencies. Features of a network are no substitute, because they are
alike for all photographs of one kind, such as pieces of one steel sheet. Signs of frequencies agree by chance in half of
the places whatever the photographs show, so that one limit fits all data sets. Crops have other frequencies and are not found.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from wsseg.data.reading import read_photograph
from wsseg.parallel import map_threads
from wsseg.progress import track
from wsseg.types import Image, LabeledImage

_SIDE = 64  # px of the grey thumbnail
_WAVES = 16  # frequencies along each side
_FAINT = 0.5  # amplitudes below the rounding of grey values have no sign
_SIMILAR = 0.6  # unrelated images have 0 with a standard deviation of 0.06
_ROWS = 1024  # images that are compared at once

Hash = NDArray[np.int8]


def perceptual_hash(image: Image) -> Hash:
    """Return (16, 16) int8: the signs -1 and 1 of the lowest frequencies, 0 for faint ones and for the mean."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    waves = scipy.fft.dctn(grey.astype(np.float32), norm="ortho")[:_WAVES, :_WAVES]
    signs = np.where(np.abs(waves) < _FAINT, 0, np.sign(waves)).astype(np.int8)
    signs[0, 0] = 0
    return signs


def orientations(hashes: Hash) -> list[Hash]:
    """Return the hashes (N, 16, 16) of the images in eight orientations, mirrored and turned by right angles.

    Mirroring an image changes the signs of its odd frequencies; a transposed image has a transposed hash.
    """
    odd = np.where(np.arange(_WAVES) % 2, -1, 1).astype(np.int8)
    mirrored = [hashes, hashes * odd, hashes * odd[:, None], hashes * odd * odd[:, None]]
    return mirrored + [h.transpose(0, 2, 1) for h in mirrored]


def near_duplicates(
    train: Sequence[LabeledImage], val: Sequence[LabeledImage]
) -> list[tuple[LabeledImage, LabeledImage, float]]:
    """Return (training image, validation image, similarity) for each validation image that looks like a training image.

    The training image is the most similar one; the most similar pairs come first. The similarity is the number of signs
    that agree minus the number of signs that differ, as a fraction of all signs, in [0.6, 1]. Memory: 1 KB per image.
    """
    train_hashes, val_hashes = _hashes(train, "train"), _hashes(val, "val")
    own = train_hashes.reshape(len(train), -1).astype(np.float32)
    pairs = []
    for start in range(0, len(val), _ROWS):
        best = np.full(len(val_hashes[start : start + _ROWS]), -1.0, np.float32)
        nearest = np.zeros(len(best), np.int64)
        for turned in orientations(val_hashes[start : start + _ROWS]):
            similarity = turned.reshape(len(best), -1).astype(np.float32) @ own.T / (_WAVES**2 - 1)
            place, value = similarity.argmax(axis=1), similarity.max(axis=1)
            nearest, best = np.where(value > best, place, nearest), np.maximum(value, best)
        pairs += [
            (train[int(nearest[row])], val[start + row], round(float(best[row]), 3))
            for row in np.flatnonzero(best >= _SIMILAR).tolist()
        ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[1].id))


def _hashes(items: Sequence[LabeledImage], split: str) -> Hash:
    """Return the hashes (N, 16, 16) of images."""
    hashes = map_threads(lambda item: perceptual_hash(read_photograph(item)), items)
    return np.stack(list(track(hashes, len(items), f"near-duplicates: {split}")))

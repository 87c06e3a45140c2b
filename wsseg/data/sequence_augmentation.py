"""Training-time augmentation of sequences, with the interface of albumentations: arrays in, arrays out, seeded per item."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsseg.labels import IGNORE_INDEX


@dataclass
class SequenceAugmentation:
    """Random crop or padding, and what else fits the kind of sequence.

    DNA is replaced by its reverse complement in half of the draws: the channels A, C, G, T in reverse order are T, G, C, A, so
    both axes are reversed. A signal has noise and a lost channel instead. A sequence that is shorter than the crop gets a
    random place in it: values 0, mask 255. This is the shift.

    Args:
        length: places of the result.
        letters: whether the channels are those of DNA.
        noise: standard deviation of the noise on a signal, relative to the standard deviation of the whole window.
        drop: probability that one channel of a signal is set to its mean.
    """

    length: int
    letters: bool
    noise: float = 0.1
    drop: float = 0.2

    def set_random_seed(self, seed: int) -> None:
        """Set the seed of the next call."""
        self._rng = np.random.default_rng(seed)

    def __call__(
        self, image: NDArray[Any], mask: NDArray[np.uint8] | None = None, around: tuple[int, int] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return the augmented ``image`` (1, length, C) and, if there is one, ``mask`` (1, length).

        Args:
            image: (1, L, C).
            mask: (1, L).
            around: (0, place) that the crop contains; None for a crop anywhere.
        """
        rng, extent = self._rng, image.shape[1]
        first, last = 0, abs(extent - self.length)
        if around is not None and extent > self.length:
            first, last = max(0, around[1] - self.length + 1), min(last, around[1])
        start = int(rng.integers(first, last + 1))
        arrays: dict[str, NDArray[Any]] = {"image": image} if mask is None else {"image": image, "mask": mask}
        for name, array in arrays.items():
            if extent >= self.length:
                arrays[name] = array[:, start : start + self.length]
            else:
                fill = IGNORE_INDEX if name == "mask" else 0
                arrays[name] = np.full((1, self.length, *array.shape[2:]), fill, array.dtype)
                arrays[name][:, start : start + extent] = array
        if self.letters:
            if rng.random() < 0.5:
                arrays["image"] = arrays["image"][:, ::-1, ::-1]
                if mask is not None:
                    arrays["mask"] = arrays["mask"][:, ::-1]
            return arrays
        values = arrays["image"].astype(np.float32)
        values += rng.standard_normal(values.shape, np.float32) * np.float32(self.noise * values.std())
        if values.shape[2] > 1 and rng.random() < self.drop:
            channel = int(rng.integers(values.shape[2]))
            values[..., channel] = values[..., channel].mean()
        arrays["image"] = values
        return arrays

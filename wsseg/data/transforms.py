"""Training-time augmentation and the torch data sets that apply it, reproducible item by item."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from wsseg.data.reading import read_photograph
from wsseg.labels import IGNORE_INDEX
from wsseg.types import Image, LabeledImage, Mask

os.environ.setdefault(
    "NO_ALBUMENTATIONS_UPDATE", "1"
)  # otherwise albumentations queries PyPI for its version at import
import albumentations as A

cv2.setNumThreads(0)  # images are small, and OpenCV's threads would compete with torch's


class RandomZoom(A.DualTransform):  # type: ignore[misc]  # albumentations has no types
    """Resizes an image and its mask once, so that the long side becomes `long_side` times a random factor.

    Their pixel grids stay aligned: no edge of a mask moves relative to its image.

    Args:
        long_side: long side of the result at factor 1, in pixels.
        scale: (smallest, largest) factor, drawn uniformly.
    """

    class InitSchema(A.core.transforms_interface.BaseTransformInitSchema):  # type: ignore[misc]
        long_side: int
        scale: tuple[float, float]

    def __init__(self, long_side: int, scale: tuple[float, float], p: float = 1.0) -> None:
        super().__init__(p=p)
        self.long_side, self.scale = long_side, scale

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Return a random (H, W) of the result."""
        extents = params["shape"][:2]
        factor = self.long_side * self.py_random.uniform(*self.scale) / max(extents)
        return {"size": tuple(max(1, round(extent * factor)) for extent in extents)}

    def apply(self, img: Image, size: tuple[int, int], **_: Any) -> Image:
        """Return the resized image."""
        return resized(img, size)

    def apply_to_mask(self, mask: Mask, size: tuple[int, int], **_: Any) -> Mask:
        """Return the resized mask."""
        return resized_mask(mask, size)


def resized(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return an array (H, W) or (H, W, C) resized to `size` (H, W): by area to shrink, bilinearly to enlarge."""
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def resized_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """Return a mask resized to `size`; each pixel gets the value that covers most of it.

    One plane per value is resized like an image, so that edges stay aligned with the image. OpenCV's ``INTER_NEAREST`` samples
    the upper left corner of a cell instead of its centre, and moves every edge by up to half a pixel.

    Args:
        mask: (H, W) uint8; any values.
        size: (H, W) of the result.
    """
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=1)).astype(np.uint8)
    if len(values) == 1:
        return np.full(size, values[0], np.uint8)
    planes = [resized((mask == value).astype(np.float32), size) for value in values]
    return np.asarray(values[np.argmax(planes, axis=0)])


def augmentation(crop: int, scale: tuple[float, float], color: float) -> A.Compose:
    """Return random resized crop, horizontal flip and colour jitter.

    Args:
        crop: height and width of the result, in pixels.
        scale: (smallest, largest) long side of the image, relative to `crop`; smaller images are padded (black, 255 in masks).
        color: strength of the brightness, contrast and saturation jitter; 0 for none.
    """
    return A.Compose(
        [
            RandomZoom(crop, scale),
            A.PadIfNeeded(
                crop, crop, position="random", border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=IGNORE_INDEX
            ),
            A.RandomCrop(crop, crop),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter(
                brightness=(1 - color, 1 + color), contrast=(1 - color, 1 + color),
                saturation=(1 - color, 1 + color), hue=(0.0, 0.0), p=0.8 if color > 0 else 0.0,
            ),
        ]
    )  # fmt: skip


class TrainingImages(Dataset[dict[str, torch.Tensor]]):
    """Augmented images with their image-level labels and, for segmentation, their masks.

    The augmentation of an item depends only on (rng_seed, epoch, index), so that neither the number of workers nor an
    interruption changes the training data.

    Args:
        items: the photographs.
        classes: number of foreground classes K.
        transform: augmentation by albumentations.
        mean: channel means of the network's input, three values in [0, 1].
        std: channel standard deviations of the network's input, likewise.
        rng_seed: seed of the augmentation.
        mask_of: returns the (H, W) uint8 mask of an item id; None to train on labels only.
    """

    def __init__(
        self,
        items: Sequence[LabeledImage],
        classes: int,
        transform: A.Compose,
        mean: Sequence[float],
        std: Sequence[float],
        rng_seed: int,
        mask_of: Callable[[str], Mask] | None = None,
    ) -> None:
        self.items, self.classes, self.transform = items, classes, transform
        self.mean, self.std = mean, std
        self.rng_seed, self.epoch, self.mask_of = rng_seed, 0, mask_of
        self.weights: torch.Tensor | None = (
            None  # (N,) sampling weight of each item; None samples each item once per epoch
        )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return ``image`` (3, S, S) float32, ``present`` (K,) float32 and, with masks, ``mask`` (S, S) int64."""
        item = self.items[index]
        arrays: dict[str, Any] = {"image": read_photograph(item)}
        if self.mask_of is not None:
            arrays["mask"] = self.mask_of(item.id)
        draw = np.random.SeedSequence([self.rng_seed, self.epoch, index]).generate_state(1)[0]
        self.transform.set_random_seed(int(draw))
        arrays = self.transform(**arrays)
        sample = {"image": normalised(arrays["image"], self.mean, self.std), "present": present(item, self.classes)}
        if self.mask_of is not None:
            sample["mask"] = torch.from_numpy(arrays["mask"].astype(np.int64))
        return sample


def normalised(image: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Return a (H, W, 3) uint8 image as (3, H, W) float32, normalised by the network's mean and std."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    planes /= 255.0  # in place, because a photograph of 12 megapixels has 144 MB here
    planes -= np.array(mean, np.float32)[:, None, None]
    planes /= np.array(std, np.float32)[:, None, None]
    return torch.from_numpy(planes)


def present(item: LabeledImage, classes: int) -> torch.Tensor:
    """Return (K,) float32: 1 for the classes of an image, 0 for the others."""
    vector = torch.zeros(classes)
    vector[[i - 1 for i in item.class_ids]] = 1.0
    return vector

"""Training-time augmentation and the torch data sets that apply it, reproducible item by item."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from wsseg.data.items import read_item
from wsseg.data.sequence_augmentation import SequenceAugmentation
from wsseg.data.sequences import LETTERS
from wsseg.labels import IGNORE_INDEX
from wsseg.types import Image, LabeledImage, Mask

os.environ.setdefault(
    "NO_ALBUMENTATIONS_UPDATE", "1"
)  # otherwise albumentations queries PyPI for its version at import
import albumentations as A

cv2.setNumThreads(0)  # images are small, and OpenCV's threads would compete with torch's


@dataclass(frozen=True)
class _Cut:
    """A part of an image along one axis, [start, stop) px, and its place in the crop: `length` px from `offset` on."""

    start: int
    stop: int
    offset: int
    length: int


class RandomZoomedCrop(A.DualTransform):  # type: ignore[misc]  # albumentations has no types
    """Cuts a rectangle out of an image and its mask at a random place and zoom, and resizes it once.

    Only the part that is cut out is resized: a photograph of 12 megapixels costs no more than a small one. The pixel grids of
    image and mask stay aligned. If the image is smaller than the rectangle, it is padded at a random place (black, 255 in
    masks). With the target ``around``, a pixel (y, x), the rectangle contains that pixel, at least a tenth of its side from its
    border where the image permits it.

    Args:
        crop: (H, W) of the result, in pixels.
        long_side: long side of the whole image at zoom 1, in pixels.
        zoom: (smallest, largest) factor, drawn uniformly.
    """

    class InitSchema(A.core.transforms_interface.BaseTransformInitSchema):  # type: ignore[misc]
        crop: tuple[int, int]
        long_side: int
        zoom: tuple[float, float]

    def __init__(self, crop: tuple[int, int], long_side: int, zoom: tuple[float, float], p: float = 1.0) -> None:
        super().__init__(p=p)
        self.crop, self.long_side, self.zoom = crop, long_side, zoom

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Return the random cut along each axis."""
        extents = params["shape"][:2]
        factor = self.long_side * self.py_random.uniform(*self.zoom) / max(extents)
        around = data.get("around") or (None, None)
        return {"cuts": tuple(map(self._cut, extents, self.crop, (factor, factor), around))}

    def _cut(self, extent: int, crop: int, factor: float, place: int | None) -> _Cut:
        side = crop / factor  # px of the image
        if side >= extent:
            length = min(crop, max(1, round(extent * factor)))
            return _Cut(0, extent, self.py_random.randint(0, crop - length), length)
        first, last = 0.0, extent - side
        if place is not None:
            first, last = (min(max(place - share * side, 0.0), extent - side) for share in (0.9, 0.1))
        start = round(self.py_random.uniform(first, last))
        return _Cut(start, min(extent, start + max(1, round(side))), 0, crop)

    def apply(self, img: Image, cuts: tuple[_Cut, _Cut], **_: Any) -> Image:
        """Return the rectangle of the image."""
        return self._placed(img, cuts, resized, 0)

    def apply_to_mask(self, mask: Mask, cuts: tuple[_Cut, _Cut], **_: Any) -> Mask:
        """Return the rectangle of the mask."""
        return self._placed(mask, cuts, resized_mask, IGNORE_INDEX)

    def _placed(
        self, pixels: NDArray[Any], cuts: tuple[_Cut, _Cut], resize: Callable[[Any, tuple[int, int]], Any], fill: int
    ) -> NDArray[Any]:
        rows, columns = cuts
        part = resize(pixels[rows.start : rows.stop, columns.start : columns.stop], (rows.length, columns.length))
        if (rows.length, columns.length) == self.crop:
            return np.ascontiguousarray(part)
        padded = np.full((*self.crop, *pixels.shape[2:]), fill, pixels.dtype)
        padded[rows.offset : rows.offset + rows.length, columns.offset : columns.offset + columns.length] = part
        return padded


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


def augmentation(crop: tuple[int, int], long_side: int, zoom: tuple[float, float], color: float) -> A.Compose:
    """Return random zoomed crop, horizontal flip and colour jitter.

    Args:
        crop: (H, W) of the result, in pixels.
        long_side: long side of the image at zoom 1, in pixels.
        zoom: (smallest, largest) zoom; images smaller than `crop` are padded (black, 255 in masks).
        color: strength of the brightness, contrast and saturation jitter; 0 for none.
    """
    return A.Compose(
        [
            RandomZoomedCrop(crop, long_side, zoom),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter(
                brightness=(1 - color, 1 + color), contrast=(1 - color, 1 + color),
                saturation=(1 - color, 1 + color), hue=(0.0, 0.0), p=0.8 if color > 0 else 0.0,
            ),
        ]
    )  # fmt: skip


def training_augmentation(
    crop: tuple[int, int], long_side: int, zoom: Sequence[float], color: float, channels: tuple[str, ...]
) -> A.Compose | SequenceAugmentation:
    """Return the augmentation of photographs (see `augmentation`), or of sequences if there are `channels`."""
    if channels:
        return SequenceAugmentation(crop[1], channels == LETTERS)
    return augmentation(crop, long_side, (zoom[0], zoom[1]), color)


class Draw(NamedTuple):
    """One training example.

    Args:
        epoch: the epoch, from 0.
        image: position of the image in the data set.
        nth: how often the image was drawn before in the epoch, so that it is augmented differently each time.
        class_id: class that the crop contains a part of; 0 for a crop anywhere.
    """

    epoch: int
    image: int
    nth: int = 0
    class_id: int = 0


@dataclass(frozen=True)
class Focus:
    """Oversampling of the foreground: some crops are placed around an object, all classes alike (nnU-Net, Isensee et al. 2021).

    Args:
        share: fraction of the crops, in [0, 1].
        images: positions of the images whose mask contains the class, by class id; none is empty.
    """

    share: float
    images: Mapping[int, Sequence[int]]


class TrainingImages(Dataset[dict[str, torch.Tensor]]):
    """Augmented images with their image-level labels and, for segmentation, their masks.

    The augmentation depends only on the seed and the `Draw`, so that neither the number of workers nor an interruption changes
    the training data.

    Args:
        items: the photographs or sequences.
        classes: number of foreground classes K.
        transform: augmentation by albumentations, or that of sequences.
        mean: channel means of the network's input, in [0, 1] for pixels and letters.
        std: channel standard deviations of the network's input, likewise.
        rng_seed: seed of the augmentation.
        mask_of: returns the (H, W) uint8 mask of an item id; None to train on labels only.
        draws: number of examples per epoch; None means the number of images.
        focus: oversampling of the foreground; None to place all crops anywhere.
        marks_of: returns the (H, W) uint8 mark of an item id, 255 where nothing was said; None without marks.
    """

    def __init__(
        self,
        items: Sequence[LabeledImage],
        classes: int,
        transform: A.Compose | SequenceAugmentation,
        mean: Sequence[float],
        std: Sequence[float],
        rng_seed: int,
        mask_of: Callable[[str], Mask] | None = None,
        draws: int | None = None,
        focus: Focus | None = None,
        marks_of: Callable[[str], Mask] | None = None,
    ) -> None:
        self.items, self.classes, self.transform = items, classes, transform
        self.mean, self.std = mean, std
        self.rng_seed, self.epoch, self.mask_of = rng_seed, 0, mask_of
        self.draws = len(items) if draws is None else draws
        self.focus, self.marks_of = focus, marks_of
        if marks_of is not None and not isinstance(transform, SequenceAugmentation):  # sequences have no marks
            transform.add_targets({"marks": "mask"})
        self.weights: torch.Tensor | None = None  # (N,) sampling weight of each item; None draws all items alike

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return the example of an image in the current epoch, see `example`."""
        return self.example(Draw(self.epoch, index))

    def order(self, epoch: int) -> list[Draw]:
        """Return the draws of an epoch: permutations of the images, or draws by their weights, and those of the focus."""
        generator = torch.Generator().manual_seed((self.rng_seed * 1_000_003 + epoch) % 2**63)
        if self.weights is None:
            rounds = -(-self.draws // len(self))
            order = torch.cat([torch.randperm(len(self), generator=generator) for _ in range(rounds)])[: self.draws]
        else:
            order = torch.multinomial(self.weights, self.draws, replacement=True, generator=generator)
        chosen = [(index, 0) for index in order.tolist()]
        if self.focus is not None and self.focus.images:
            class_ids = sorted(self.focus.images)
            for place, (chance, kind, image) in enumerate(torch.rand(self.draws, 3, generator=generator).tolist()):
                if chance < self.focus.share:
                    class_id = class_ids[int(kind * len(class_ids))]
                    among = self.focus.images[class_id]
                    chosen[place] = (among[int(image * len(among))], class_id)
        counts: Counter[int] = Counter()
        draws = []
        for index, class_id in chosen:
            draws.append(Draw(epoch, index, counts[index], class_id))
            counts[index] += 1
        return draws

    def example(self, draw: Draw) -> dict[str, torch.Tensor]:
        """Return ``image`` (3, H, W) float32, ``present`` (K,) float32 and, if there are any, ``mask`` and ``marks`` (H, W) int64.

        For sequences the image is (C, 1, L) and the mask (1, L).
        """
        item = self.items[draw.image]
        arrays: dict[str, Any] = {"image": read_item(item)}
        entropy = [self.rng_seed, draw.epoch, draw.image, *([draw.nth] if draw.nth else [])]
        seeds = np.random.SeedSequence(entropy).generate_state(2)
        if self.mask_of is not None:
            arrays["mask"] = self.mask_of(item.id)
            if draw.class_id:
                arrays["around"] = pixel_of(arrays["mask"] == draw.class_id, np.random.default_rng(seeds[1]))
        if self.marks_of is not None:
            arrays["marks"] = self.marks_of(item.id)
        self.transform.set_random_seed(int(seeds[0]))
        arrays = self.transform(**arrays)
        sample = {"image": normalised(arrays["image"], self.mean, self.std), "present": present(item, self.classes)}
        for name in ("mask", "marks"):
            if name in arrays:
                sample[name] = torch.from_numpy(arrays[name].astype(np.int64))
        return sample


def pixel_of(region: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    """Return a random pixel (y, x) of a random connected part of a region.

    A part's weight is the root of its area: small objects are drawn more often than by their area, and specks of noisy masks less
    often than objects.
    """
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8))
    weights = np.sqrt(boxes[1:, cv2.CC_STAT_AREA])
    rows, columns = np.nonzero(parts == rng.choice(count - 1, p=weights / weights.sum()) + 1)
    place = rng.integers(len(rows))
    return int(rows[place]), int(columns[place])


def normalised(image: NDArray[Any], mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Return a (H, W, C) image as (C, H, W) float32, normalised by the network's mean and std.

    Values of uint8 (pixels, letters) are divided by 255 first; those of a signal are floating point and are not.
    """
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    if image.dtype == np.uint8:
        planes /= 255.0  # in place, because a photograph of 12 megapixels has 144 MB here
    planes -= np.array(mean, np.float32)[:, None, None]
    planes /= np.array(std, np.float32)[:, None, None]
    return torch.from_numpy(planes)


def present(item: LabeledImage, classes: int) -> torch.Tensor:
    """Return (K,) float32: 1 for the classes of an image, 0 for the others."""
    vector = torch.zeros(classes)
    vector[[i - 1 for i in item.class_ids]] = 1.0
    return vector

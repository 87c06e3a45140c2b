"""Small generated data sets."""

import numpy as np
from PIL import Image as PILImage

from wsseg.data.file_memory import FileMemory
from wsseg.data.images import load_images


def picture(path, size=(8, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(path.name.encode())
    PILImage.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)).save(path)


def load(data, split="train", classes=None):
    return load_images(data, split, FileMemory(), classes)


def labels_of(images):
    return {item.id: tuple(images.classes.names_of(item.class_ids)) for item in images.items}

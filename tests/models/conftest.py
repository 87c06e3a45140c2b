"""Six tiny training images."""

import numpy as np
import pytest
from PIL import Image as PILImage

from wsseg.data.reading import inspect_file
from wsseg.data.transforms import TrainingImages, augmentation
from wsseg.types import LabeledImage


@pytest.fixture
def data(tmp_path):
    items = []
    for i in range(6):
        PILImage.fromarray(np.full((32, 32, 3), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
        path = tmp_path / f"{i}.png"
        items.append(LabeledImage(str(i), path, (1,) if i > 2 else (), (32, 32), inspect_file(path).sha256))
    return TrainingImages(items, 1, augmentation((32, 32), 32, (0.8, 1.2), 0.2), (0.5,) * 3, (0.5,) * 3, 0)

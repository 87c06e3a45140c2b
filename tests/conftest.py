"""Shared fixtures: tiny generated datasets, and real photographs if they are available."""

import os

# several test processes share the cores; this must be set before NumPy and PyTorch are imported
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    _THREADS = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, str(_THREADS))

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from PIL import Image as PILImage

from wsseg.data.masks import encode_mask

REPOSITORY = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow tests first, so that no test process is left with a long one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder that contains voc-vehicles and neu-seg; skip the test if it does not exist."""
    folder = Path(os.environ.get("WSSEG_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "voc-vehicles").is_dir() or not (folder / "neu-seg").is_dir():
        pytest.skip(f"no voc-vehicles and neu-seg in {folder}; set WSSEG_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def device() -> Any:
    """Return the device of the device tests: WSSEG_TEST_DEVICE, or the first accelerator, or the CPU if there is none."""
    from wsseg.models.device import resolve_device  # most tests need no PyTorch

    return resolve_device(os.environ.get("WSSEG_TEST_DEVICE", "auto"))


def blob_image(rng: np.random.Generator, kind: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy (H, W, 3) image and its (H, W) mask: a red (1) or blue (2) rectangle, or background only (0)."""
    height, width = size
    image = rng.integers(90, 130, (height, width, 3)).astype(np.uint8)
    mask = np.zeros(size, dtype=np.uint8)
    if kind:
        y, x = int(rng.integers(0, height // 2)), int(rng.integers(0, width // 2))
        mask[y : y + height // 2, x : x + width // 2] = kind
        image[mask > 0] = (220, 30, 30) if kind == 1 else (30, 30, 220)
    return image, mask


@pytest.fixture
def csv_data(tmp_path: Path) -> Path:
    """Return a config for 12 train and 6 val images of 48 x 64 px: CSV layout, two classes, some images without any."""
    return write_csv_data(tmp_path)


def write_csv_data(tmp_path: Path) -> Path:
    """Write the dataset of `csv_data` to a folder and return the path of its config."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        folder = tmp_path / "data" / split
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        rows = ["image_id,classes"]
        for i in range(count):
            kind = (i + 1) % 3
            image, mask = blob_image(rng, kind, (48, 64))
            PILImage.fromarray(image).save(folder / "images" / f"{i:03d}.png")
            (folder / "masks" / f"{i:03d}.png").write_bytes(encode_mask(mask))
            rows.append(f"{i:03d},{['', 'red', 'blue'][kind]}")
        (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    config = tmp_path / "tiny.toml"
    config.write_text(TINY_CONFIG)
    return config


TINY_CONFIG = """
rng_seed = 3

[data]
kind = "csv"
classes = ["red", "blue"]
train = { images = "data/train/images", labels = "data/train/labels.csv", masks = "data/train/masks" }
val = { images = "data/val/images", labels = "data/val/labels.csv", masks = "data/val/masks" }

[classifier]
backbone = "test_resnet"
weights = "none"
frozen_levels = 0
size = 64
epochs = 2
batch_size = 4

[seeds]
size = 64
scales = [1.0, 1.5]
batch_size = 3

[pseudo_masks]
levels = [0.3, 0.6]

[affinity]
size = 64
epochs = 1
batch_size = 4

[walk]
size = 64
steps = 16

[segmenter]
encoder = "tu-test_resnet"
frozen_levels = 0
size = 64
epochs = 3
batch_size = 4

[predictions]
batch_size = 2
"""


def shrink_config(config: Path) -> None:
    """Replace the settings of a config from `wsseg init` by those of the tiny networks of the tests."""
    values = tomllib.loads(config.read_text(encoding="utf-8"))
    for name, table in tomllib.loads(TINY_CONFIG).items():
        if name not in ("data", "rng_seed"):
            values[name] = {**values.get(name, {}), **table}
    config.write_text(tomli_w.dumps(values), encoding="utf-8")

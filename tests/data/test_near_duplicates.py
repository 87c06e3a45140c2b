"""Near-duplicates: what is found in spite of a change, and what is not taken for one."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

from tests.data.generated import load
from wsseg.data.config import CsvData, CsvSplit
from wsseg.data.near_duplicates import near_duplicates, perceptual_hash


def photograph(seed):
    """Return a smooth random picture with some detail, (90, 120, 3)."""
    rng = np.random.default_rng(seed)
    picture = sum(cv2.resize(rng.normal(0, 1, (n, n, 3)), (120, 90)) * 40 for n in (4, 9, 20))
    return np.clip(picture + 120, 0, 255).astype(np.uint8)


def saved_again(image):
    file = io.BytesIO()
    PILImage.fromarray(image).save(file, "JPEG", quality=30)
    return np.asarray(PILImage.open(file))


CHANGES = {
    "saved again": saved_again,
    "smaller": lambda image: cv2.resize(image, (60, 45), interpolation=cv2.INTER_AREA),
    "brighter": lambda image: np.clip(image * 1.2 + 15, 0, 255).astype(np.uint8),
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1, ::-1],
    "turned": lambda image: np.rot90(image),
}


@pytest.fixture
def splits(tmp_path):
    """Return a function that writes pictures as train and val and returns their images."""

    def written(train, val):
        parts = {}
        for split, pictures in (("train", train), ("val", val)):
            folder = tmp_path / split
            folder.mkdir()
            for name, picture in pictures.items():
                PILImage.fromarray(np.ascontiguousarray(picture)).save(folder / f"{name}.png")
            (tmp_path / f"{split}.csv").write_text("image_id,classes\n" + "".join(f"{n},dog\n" for n in pictures))
            parts[split] = CsvSplit(folder, tmp_path / f"{split}.csv")
        data = CsvData(kind="csv", **parts)
        return load(data).items, load(data, "val").items

    return written


def test_changed_copies_are_found_and_others_are_not(splits):
    train = {f"p{n}": photograph(n) for n in range(12)}
    val = {name.replace(" ", "_"): change(photograph(n)) for n, (name, change) in enumerate(CHANGES.items())}
    pairs = near_duplicates(*splits(train, val | {f"new{n}": photograph(100 + n) for n in range(12)}))
    found = {other.id: own.id for own, other, _ in pairs}
    assert found == {name: f"p{n}" for n, name in enumerate(val)}
    assert all(0.6 <= similarity <= 1 for _, _, similarity in pairs)
    assert [p[2] for p in pairs] == sorted((p[2] for p in pairs), reverse=True)


def test_plain_pictures_are_not_alike(splits):
    plain = np.full((40, 40, 3), 128, np.uint8)
    assert near_duplicates(*splits({"a": plain}, {"b": plain + 1})) == []
    assert not perceptual_hash(plain).any()


def test_the_most_similar_training_image_is_named(splits):
    picture = photograph(1)
    pairs = near_duplicates(*splits({"saved": saved_again(picture), "same": picture}, {"v": picture}))
    assert [(own.id, other.id) for own, other, _ in pairs] == [("same", "v")]

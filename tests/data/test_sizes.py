import pytest

from wsseg.data.images import LabeledImages
from wsseg.data.sizes import crop_of
from wsseg.labels import ClassMap
from wsseg.types import LabeledImage


def images_of(*sizes):
    items = tuple(LabeledImage(str(i), None, (), size, "") for i, size in enumerate(sizes))
    return LabeledImages("train", ClassMap(("a",)), items, {}, "")


@pytest.mark.parametrize(
    ("sizes", "long_side", "crop"),
    [
        ([(256, 512)] * 3, 512, (256, 512)),
        ([(375, 500), (375, 500), (500, 375)], 320, (256, 320)),  # most are landscape
        ([(200, 200)], 256, (256, 256)),
        ([(10, 1000)], 320, (64, 320)),
        ([(300, 200)], 50, (50, 50)),
    ],
)
def test_crops_have_the_shape_of_typical_images(sizes, long_side, crop):
    assert crop_of(images_of(*sizes), long_side) == crop

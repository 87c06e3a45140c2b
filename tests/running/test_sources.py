"""The data set of a config."""

import pytest

from wsseg.errors import ConfigError
from wsseg.running.plan import make_plan
from wsseg.store.objects import ArtifactStore


def test_a_store_in_a_data_folder_is_refused_and_leaves_no_file(csv_data):
    images = csv_data.parent / "data" / "train" / "images"
    before = sorted(images.iterdir())
    with pytest.raises(
        ConfigError, match="images is a folder of the data set; choose another folder for the store with --store"
    ):
        make_plan("cam_crf", str(csv_data), ArtifactStore(images))
    assert sorted(images.iterdir()) == before

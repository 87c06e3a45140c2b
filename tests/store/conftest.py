"""An empty store."""

import pytest

from wsseg.store.objects import ArtifactStore


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "store")

import pytest


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """Return a folder with a tiny CLIP checkpoint."""
    from tests.models.foundation.tiny import save_clip

    return save_clip(tmp_path_factory.mktemp("clip"))

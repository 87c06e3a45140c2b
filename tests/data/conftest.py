import pytest

from tests.data.generated import picture
from wsseg.data.config import CsvData, CsvSplit


@pytest.fixture
def csv(tmp_path):
    """Return a CSV data set of three images, one of them without a class."""
    for name in ("a", "b", "sub/c"):
        picture(tmp_path / "images" / f"{name}.png")
    (tmp_path / "labels.csv").write_text("image_id,classes\nsub/c,cat dog\na,dog\nb,\n")
    return CsvData(kind="csv", train=CsvSplit(tmp_path / "images", tmp_path / "labels.csv"))

"""The synthetic run whose page is loaded."""

import importlib.util
from pathlib import Path

import pytest
from PIL import Image as PILImage

from wsseg.report.page import render


@pytest.fixture(scope="module")
def bench():
    path = Path(__file__).resolve().parents[2] / "scripts" / "bench_report.py"
    spec = importlib.util.spec_from_file_location("bench_report", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_synthetic_page_has_pictures_of_each_class_and_all_rows(bench, tmp_path):
    PILImage.new("RGB", (500, 375)).save(tmp_path / "photograph.png")
    report = bench.synthetic_report(16, tmp_path / "photograph.png")
    page = render(report)
    assert page.count('<article class="row"') == 12 and len(report.splits["val"].scores.images) == 16

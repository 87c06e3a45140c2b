"""The benchmark of trainings runs both loops on any config."""

import json
import runpy

import pytest
from click.testing import CliRunner

from tests.conftest import REPOSITORY

QUICK = ["--backbone", "test_resnet", "--size", "32", "--epochs", "2", "--repeats", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def bench():
    return runpy.run_path(str(REPOSITORY / "scripts" / "bench_training.py"))["bench"]


def test_both_loops_run_and_the_figures_are_written(bench, csv_data, tmp_path):
    target = tmp_path / "figures.json"
    words = ["-c", str(csv_data), *QUICK, "--images", "8", "--batch-size", "4", "--json", str(target)]
    done = CliRunner().invoke(bench, words, catch_exceptions=False)
    assert done.exit_code == 0 and "images/s, ratio" in done.output
    figures = json.loads(target.read_text())
    rates = figures["images_per_second"]
    assert [len(rates[name]) for name in ("wsseg", "plain")] == [1, 1]
    assert figures["ratio"] == pytest.approx(rates["wsseg"][0] / rates["plain"][0])


def test_too_few_images_are_a_usage_error(bench, csv_data):
    done = CliRunner().invoke(bench, ["-c", str(csv_data), *QUICK, "--batch-size", "64"])
    assert done.exit_code == 2 and "has 12 training images; expected: at least --batch-size 64" in done.output

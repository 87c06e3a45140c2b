"""``wsseg marks import``: what it writes and says, and what it refuses."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as PILImage

from wsseg.cli.main import cli


@pytest.fixture
def call(csv_data, tmp_path):
    """Return a function that imports an export with some options, and returns exit code and output."""

    def called(source, *options):
        words = ["marks", "import", str(source), "-c", str(csv_data), "--store", str(tmp_path / "store"), *options]
        done = CliRunner().invoke(cli, words)
        return done.exit_code, done.output

    return called


@pytest.fixture
def project(tmp_path):
    """Return the export of a Label Studio project: a red and a denied rectangle on one image of train."""

    def region(label, x):
        value = {"x": x, "y": 0, "width": 50, "height": 50, "rectanglelabels": [label]}
        return {"type": "rectanglelabels", "original_width": 64, "original_height": 48, "value": value}

    task = {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-000.png"}}
    task["annotations"] = [{"result": [region("red", 0), region("background", 50)]}]
    (tmp_path / "project.json").write_text(json.dumps([task]))
    return tmp_path / "project.json"


def test_an_export_becomes_a_folder_of_marks(call, project, tmp_path):
    code, output = call(project, "-o", str(tmp_path / "marks"))
    assert code == 0 and "1 mark in" in output and "in [data.train]" in output
    mark = np.asarray(PILImage.open(tmp_path / "marks" / "000.png"))
    assert (mark[:24, :32] == 1).all() and (mark[:24, 32:] == 0).all() and (mark[24:] == 255).all()
    assert (tmp_path / "marks" / "classes.txt").read_text() == "red\nblue\n"
    assert call(project, "-o", str(tmp_path / "marks"), "--complete")[0] == 0  # it wrote them, so it may replace them
    assert (np.asarray(PILImage.open(tmp_path / "marks" / "000.png"))[24:] == 0).all()


def test_the_folder_of_the_config_is_the_default(call, project, tmp_path):
    (tmp_path / "mine").mkdir()
    code, output = call(project, "--set", f"data.train.marks={tmp_path / 'mine'}")
    assert code == 0 and (tmp_path / "mine" / "000.png").exists() and "next:" not in output
    code, output = call(project)
    assert code == 1 and "data.train.marks is not set; give the folder for the marks with -o" in output


def test_marks_of_a_person_are_not_replaced(call, project, tmp_path):
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks" / "000.png").write_bytes(b"mine")
    code, output = call(project, "-o", str(tmp_path / "marks"))
    assert code == 1 and "not written by wsseg" in output and (tmp_path / "marks" / "000.png").read_bytes() == b"mine"
    assert not (tmp_path / "marks" / "classes.txt").exists()


def test_mistakes_are_one_line(call, project, tmp_path):
    code, output = call(tmp_path / "nothing.json", "-o", str(tmp_path / "marks"))
    assert code == 1 and output.count("\n") == 1 and "nothing.json: cannot be read" in output
    code, output = call(project, "-o", str(tmp_path / "marks"), "--value", "red")
    assert code == 2 and "expected NAME=VALUE, such as scratch=3" in output
    code, output = call(project, "-o", str(tmp_path / "marks"), "--value", "red=3")
    assert code == 1 and "values of classes are for a folder of masks" in output
    project.write_text(project.read_text().replace('"red"', '"rot"'))
    code, output = call(project, "-o", str(tmp_path / "marks"))
    assert code == 1 and output.count("\n") == 1 and "does not have: rot; it has background, red, blue" in output
    assert not (tmp_path / "marks").exists()

"""All commands work on the files of a phone: 12-megapixel JPEGs with EXIF orientations, and PNG screenshots."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tests import commands
from tests.conftest import REPOSITORY, shrink_config

ORIENTATIONS = (1, 3, 6, 8)  # EXIF orientations of a phone held upright, upside down, and sideways
SENSOR = (3024, 4032)  # (H, W) of the stored pixels of one photograph
THUMB = (756, 1008)  # of the others: the size is tested once, the orientations at less cost
SCREEN = (1280, 590)


def scene(size, kind, rng):
    """Return an (H, W, 3) uint8 image: a smooth gradient with a large disc (kind 0) or a bar (kind 1)."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    picture = np.stack([90 + 60 * y / height, 100 + 50 * x / width, np.full(size, 120, np.float32)], axis=2)
    middle = np.array(size) * rng.uniform(0.35, 0.65, 2)
    reach = min(size) * 0.25
    if kind == 0:
        inside = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < reach**2
    else:
        inside = (abs(y - middle[0]) < reach / 3) & (abs(x - middle[1]) < 2 * reach)
    picture[inside] = (210, 60, 40) if kind == 0 else (50, 70, 200)
    return picture.astype(np.uint8)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Return a folder with two classes, each with two JPEGs and a screenshot of a phone."""
    folder = tmp_path_factory.mktemp("phone") / "photos"
    rng = np.random.default_rng(0)
    for kind, name in enumerate(("cup", "pen")):
        (folder / name).mkdir(parents=True)
        for number, orientation in enumerate(ORIENTATIONS[2 * kind : 2 * kind + 2]):
            image = PILImage.fromarray(scene(SENSOR if orientation == 6 else THUMB, kind, rng))
            exif = image.getexif()
            exif[0x0112] = orientation
            exif[0x010F], exif[0x0110] = "Maker", "Phone 15"  # camera maker and model
            image.save(folder / name / f"IMG_{kind}{number:03d}.JPG", quality=92, exif=exif)
        screenshot = PILImage.fromarray(scene(SCREEN, kind, rng)).convert("RGBA")
        screenshot.save(folder / name / f"Screenshot 2026-11-0{kind + 1} at 10.11.12.png")
    return folder


@pytest.mark.slow
def test_all_commands_work_on_photographs_of_a_phone(photographs):
    here = photographs.parent
    environment = {k: v for k, v in os.environ.items() if k != "WSSEG_STORE"}

    def wsseg(*words):
        done = commands.run(*words, cwd=here, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    before = {path: path.read_bytes() for path in photographs.rglob("*.*")}
    assert "6 images" in wsseg("init", "photos")
    shrink_config(here / "photos.toml")
    wsseg("run", "best", "-c", "photos.toml")
    wsseg("predict", "segmenter", "photos", "-o", "masks")
    wsseg("report", "-o", "report.html")
    assert (here / "report.html").stat().st_size > 10_000
    for path in sorted(photographs.rglob("*.*")):
        mask = here / "masks" / path.relative_to(photographs).with_suffix(".png")
        with PILImage.open(path) as photograph, PILImage.open(mask) as prediction:
            height, width = photograph.height, photograph.width
            if photograph.getexif().get(0x0112, 1) >= 5:  # orientations that swap height and width
                height, width = width, height
            assert (prediction.height, prediction.width) == (height, width)
            assert np.asarray(prediction).max() <= 2
    assert {path: path.read_bytes() for path in photographs.rglob("*.*")} == before


@pytest.mark.slow
def test_a_misspelt_folder_is_a_one_line_error(photographs, tmp_path):
    command = [sys.executable, "-m", "wsseg", "init", str(photographs / "cups"), "-o", str(tmp_path / "x.toml")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and str(Path("cups")) in done.stderr

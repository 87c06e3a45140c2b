"""Commands about data sets; see also tests/data/test_discovery.py for ``init``."""

import csv
import json

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.conftest import blob_image
from wsseg.data.masks import encode_mask


def test_data_check_reports_contents_and_problems(wsseg, csv_data):
    done = wsseg("data", "check", "-c", csv_data)
    assert done.returncode == 0, done.stderr
    assert "train: 12 images" in done.stdout and "red 4, blue 4, (none) 4" in done.stdout
    assert "48x64 (12)" in done.stdout and "no problem found" in done.stdout
    train = csv_data.parent / "data" / "train"
    (train / "images" / "004.png").write_bytes((train / "images" / "004.png").read_bytes()[:200])
    (train / "images" / "extra.png").write_bytes((train / "images" / "000.png").read_bytes())
    (train / "masks" / "005.png").write_bytes(encode_mask(np.full((48, 64), 9, np.uint8)))
    (train / "masks" / "006.png").write_bytes(encode_mask(np.zeros((64, 48), np.uint8)))
    with (train / "labels.csv").open("a") as file:
        file.write("ghost,red\n")
    done = wsseg("data", "check", "-c", csv_data)
    assert done.returncode == 1
    for text in ("label without image: ghost", "1 images have no label and are not used: extra", "004.png", "values [9] are not class ids",
                 "the mask is (64, 48) (H, W), its image (48, 64)"):  # fmt: skip
        assert text in done.stdout, done.stdout
    assert "3 problems" in done.stderr  # those of the masks are one line


@pytest.fixture
def mistaken(tmp_path):
    """Return a config for 36 train images, of which 001 (blue) is labelled red, and 2 val images, one of them a copy."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
    rows = ["image_id,classes"]
    for i in range(36):
        image, _ = blob_image(rng, (i + 1) % 3, (48, 64))
        PILImage.fromarray(image).save(folder / "train" / f"{i:03d}.png")
        rows.append(f"{i:03d},{'red' if i == 1 else ['', 'red', 'blue'][(i + 1) % 3]}")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")
    PILImage.open(folder / "train" / "004.png").save(folder / "val" / "copy.jpg", quality=85)
    PILImage.fromarray(blob_image(rng, 1, (48, 64))[0]).save(folder / "val" / "new.png")
    (folder / "val.csv").write_text("image_id,classes\ncopy,blue\nnew,red\n")
    config = tmp_path / "mine.toml"
    config.write_text(
        '[data]\nkind = "csv"\ntrain = { images = "photos/train", labels = "photos/train.csv" }\n'
        'val = { images = "photos/val", labels = "photos/val.csv" }\n[label_doubts]\nsize = 64\n'
    )
    return config


@pytest.mark.slow
def test_data_doubt_lists_wrong_labels_and_takes_the_answers_back(wsseg, mistaken):
    done = wsseg("data", "doubt", "-c", mistaken)
    assert done.returncode == 0, done.stderr
    table = done.stdout.splitlines()
    assert table[1].startswith("001") and "blue" in table[1], done.stdout
    assert "val copy looks like train 004" in done.stdout and "near-duplicates across train and val: 1" in done.stdout
    assert 'label_overlay = "mine-doubts.csv"' in done.stdout
    assert wsseg("data", "doubt", "-c", mistaken).returncode == 0  # a table that nobody has edited is replaced

    answers = mistaken.parent / "mine-doubts.csv"
    rows = list(csv.DictReader(answers.read_text().splitlines()))
    assert len({row["image"] for row in rows}) == 4 and {row["present"] for row in rows} == {""}
    answers.write_text(answers.read_text().replace("001,red,", "001,red,0").replace("001,blue,", "001,blue,1"))
    done = wsseg("data", "doubt", "-c", mistaken)
    assert (
        done.returncode == 1 and "mine-doubts.csv exists and was not written by wsseg, or changed since" in done.stderr
    )

    overlaid = ("-c", mistaken, "--set", "data.train.label_overlay=mine-doubts.csv")
    done = wsseg("data", "check", *overlaid)
    assert done.returncode == 0 and "blue 12, red 12, (none) 12" in done.stdout
    done = wsseg("data", "doubt", *overlaid)
    assert done.returncode == 1 and "mine-doubts.csv is an input of this command" in done.stderr
    done = wsseg("data", "doubt", *overlaid, "-o", "again.csv", "-n", "3", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert len(summary["listed"]) == 3 and summary["near_duplicates"][0]["train"] == "004"
    again = (mistaken.parent / "again.csv").read_text().splitlines()
    assert "001,red,0,,,decided before" in again and not any(line.startswith("001,red,,") for line in again)

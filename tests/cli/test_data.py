"""Commands about data sets; see also tests/data/test_discovery.py for ``init``."""

import numpy as np

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

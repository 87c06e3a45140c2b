"""If only some images have masks, training and evaluation use those images, and all outputs state their number."""

import json

import pytest
from click.testing import CliRunner

from wsseg.cli.main import cli


@pytest.mark.slow
def test_a_run_with_masks_for_some_images(csv_data, tmp_path):
    for split, ids in (("train", ("001", "004")), ("val", ("000", "002", "005"))):
        for item_id in ids:
            (tmp_path / "data" / split / "masks" / f"{item_id}.png").unlink()
    store = ["--store", str(tmp_path / "store")]
    checked = CliRunner().invoke(cli, ["data", "check", "-c", str(csv_data), *store])
    assert "note: 2 of 12 images have no mask and are not evaluated: 001, 004" in checked.output
    assert "note: 3 of 6 images have no mask and are not evaluated: 000, 002, 005" in checked.output
    done = CliRunner().invoke(cli, ["run", "full_supervision", "-c", str(csv_data), *store])
    assert done.exit_code == 0, done.output
    assert done.output.count("val masks: 3 of 6 images have no mask") == 1  # not again for the report
    assert "segmenter: 2 of 12 images have no true mask and are skipped" in done.output
    assert "3 val images (3 others have no mask and are not evaluated)" in " ".join(done.output.split())
    lines = done.output.splitlines()
    table = next(i for i, line in enumerate(lines) if line.startswith("IoU in percent"))
    assert [line.split()[0] for line in lines[table + 1 : table + 5]] == ["background", "red", "blue", "mean"]
    reports = [json.loads(p.read_text()) for p in (tmp_path / "store").glob("objects/*/report.json")]
    (terms,) = [report["conditions"] for report in reports if "without_truth" in report.get("conditions", {})]
    assert (terms["images"], terms["without_truth"]) == (3, 3)
    page = CliRunner().invoke(cli, ["report", "-o", str(tmp_path / "page.html"), *store])
    assert page.exit_code == 0, page.output
    assert "on 3 val images (3 others have no mask and are not evaluated)" in (tmp_path / "page.html").read_text()


def test_masks_that_contradict_the_labels_stop_a_run_before_training(csv_data, tmp_path):
    from PIL import Image

    for path in (tmp_path / "data" / "val" / "masks").iterdir():
        mask = Image.open(path)
        Image.frombytes("L", mask.size, bytes(255 * (v > 0) for v in mask.tobytes())).save(path)
    done = CliRunner().invoke(cli, ["run", "cam_crf", "-c", str(csv_data), "--store", str(tmp_path / "store")])
    assert done.exit_code == 1 and "have a mask of 0 and 255 only" in done.output
    assert not list((tmp_path / "store").glob("objects/*"))

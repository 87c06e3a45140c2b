"""Commands that plan and run a recipe."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as PILImage

from wsseg.cli.main import cli
from wsseg.cli.run import write_page


@pytest.mark.slow
def test_a_run_and_the_commands_that_use_it(wsseg, csv_data, tmp_path):
    run = ["run", "cam_crf", "-c", csv_data, "--json", "--quiet"]
    done = wsseg(*run)
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    assert list(stages) == [
        "classifier",
        "classifier_quality",
        "seeds",
        "seed_quality",
        "pseudo_masks",
        "pseudo_mask_quality",
        "segmenter",
        "predictions",
        "evaluation",
    ]
    assert {s["status"] for s in stages.values()} == {"ran"}
    last = stages["evaluation"]["metrics"]
    assert 0 <= last["miou"] <= 1 and set(last["iou"]) == {"background", "red", "blue"}
    assert last["conditions"]["split"] == "val" and last["conditions"]["rng_seed"] == 3
    assert last["conditions"]["pseudo_masks"]["levels"] == [0.3, 0.6]

    again = json.loads(wsseg(*run).stdout)["stages"]
    assert {s["status"] for s in again.values()} == {"cached"}
    assert {n: s["key"] for n, s in again.items()} == {n: s["key"] for n, s in stages.items()}
    end = wsseg("run", "cam_crf", "-c", csv_data).stdout
    assert "every step was cached" in end
    check_end(end.splitlines(), tmp_path)

    # show --config prints a config that reproduces the run
    text = wsseg("show", stages["segmenter"]["key"][:10], "--config").stdout
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "again.toml").write_text(text)
    planned = wsseg("plan", "cam_crf", "-c", "else/again.toml").stdout
    assert planned.count("cached") == 9, planned
    script = (
        "import sys\nfrom wsseg.cli.main import cli\n"
        "cli(['plan', 'cam_crf', '-c', 'else/again.toml'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"  # a plan whose steps are all cached is quick
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=tmp_path)
    assert json.loads(wsseg("show", "evaluation").stdout)["metrics"]["miou"] == last["miou"]

    # predict: one photograph is broken, one is large and grey
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    PILImage.effect_noise((301, 203), 60).save(photos / "sub" / "grey.jpg")
    PILImage.new("RGBA", (40, 90), "red").save(photos / "red.png")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    done = wsseg("predict", "segmenter", photos, "-o", "out", "--crf", "irn")
    assert done.returncode == 1 and "broken.jpg" in done.stderr and "2 masks in out" in done.stdout
    mask = np.asarray(PILImage.open(tmp_path / "out" / "sub" / "grey.png"))
    assert mask.shape == (203, 301) and mask.max() <= 2

    # predict --confidence: calibrated only with the options of the evaluated predictions
    (photos / "broken.jpg").unlink()
    done = wsseg("predict", "segmenter", photos, "-o", "out2", "--confidence", "maps", "--only-unsure", "1")
    assert f"temperature {last['temperature']:.2f}, fitted on 6 images with true masks" in done.stdout, done.stderr
    assert np.asarray(PILImage.open(tmp_path / "maps" / "sub" / "grey.png")).shape == (203, 301)
    first = (tmp_path / "maps" / "doubt.csv").read_text().splitlines()[1].split(",")[0]
    assert [line.split()[0] for line in done.stdout.splitlines()[-2:]] == ["image", first]
    done = wsseg("predict", "segmenter", photos, "-o", "out3", "--confidence", "maps3", "--crf", "irn")
    assert "not calibrated: no run has evaluated this network with these options" in done.stdout
    done = wsseg("predict", "segmenter", photos, "-o", "maps3", "--confidence", "maps3")
    assert done.returncode == 1 and "maps3 is also the folder of the masks" in done.stderr

    # evaluate: the folder of predictions gives the same result as the run
    (tmp_path / "classes.txt").write_text("red\nblue\n")
    store = tmp_path / "wsseg-store" / "objects" / stages["predictions"]["key"] / "masks"
    done = wsseg(
        "evaluate",
        store,
        csv_data.parent / "data" / "val" / "masks",
        "--classes",
        "classes.txt",
        "--json",
    )
    assert json.loads(done.stdout)["miou"] == pytest.approx(last["miou"])

    # verify: lists the damaged file; --repair rebuilds the same bytes
    victim = next(store.glob("*.png"))
    bytes_before = victim.read_bytes()
    victim.write_bytes(bytes_before[:-1] + b"x")
    done = wsseg("verify")
    assert done.returncode == 1 and f"damaged: {victim}" in done.stdout
    assert wsseg(*run, "--repair").returncode == 0
    assert victim.read_bytes() == bytes_before and wsseg("verify").returncode == 0

    # gc: removes only what no run refers to, and only with --delete
    orphan = tmp_path / "wsseg-store" / "work" / ("f" * 64)
    orphan.mkdir()
    assert "would remove" in wsseg("gc").stdout and orphan.exists()
    assert "removed" in wsseg("gc", "--delete").stdout and not orphan.exists()
    assert "every step was cached" in wsseg("run", "cam_crf", "-c", csv_data).stdout
    assert "finished" in wsseg("status").stdout


def check_end(lines, folder):
    """The end of a run fits 80 columns; it states the result and where everything is."""
    assert max(len(line) for line in lines) <= 80
    assert re.fullmatch(r"cam_crf on tiny: mIoU \d+\.\d % on 6 val images", lines[0])
    assert re.fullmatch(r"weakest class: (red|blue) \(IoU \d+\.\d %\)", lines[1])
    places = dict(line.split(": ", 1) for line in lines if ": " in line)
    assert places["next"] == "wsseg predict segmenter photos -o masks"
    for name, found in (
        ("pseudo-masks", "masks"),
        ("predictions", "masks"),
        ("network", "network.json"),
        ("report", ""),
    ):
        (path,) = folder.glob(places[name])  # a shell expands the pattern in the same way
        assert path.name == "masks" if found == "masks" else (path / found).is_file()


def test_an_unreadable_image_is_named(wsseg, csv_data):
    (csv_data.parent / "data" / "train" / "images" / "004.png").write_bytes(b"not a picture")
    done = wsseg("run", "cam_crf", "-c", csv_data)
    assert done.returncode == 1 and "1 images cannot be read" in done.stderr and "004.png" in done.stderr


class CompletedStep:
    state = "ran"


def test_a_failing_report_does_not_fail_the_run(tmp_path, monkeypatch, caplog):
    from wsseg.report import run_report
    from wsseg.running.plan import Plan
    from wsseg.store.objects import ArtifactStore

    def gather(*_, **__):
        raise ZeroDivisionError("no images")

    monkeypatch.setattr(run_report, "gather", gather)
    store = ArtifactStore(tmp_path)
    store.save_run("one", {"recipe": "r", "config_name": "c", "started": "", "status": "finished", "steps": {}})
    assert write_page(Plan(None, None, store, None, [CompletedStep()]), "one") is None
    assert "no report: ZeroDivisionError: no images" in caplog.text


def test_plan_lists_each_step_with_its_state(csv_data, tmp_path):
    result = CliRunner().invoke(cli, ["plan", "cam_crf", "-c", str(csv_data), "--store", str(tmp_path / "store")])
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["step", "state", "key", "why"]
    cells = [re.split(r"\s{2,}", row) for row in rows]
    assert [(step, state) for step, state, _, _ in cells][-2:] == [("predictions", "to run"), ("evaluation", "to run")]
    assert len(cells) == 9 and {why for *_, why in cells} == {"never ran"}


def test_list_names_the_shipped_recipes_and_configs():
    text = CliRunner().invoke(cli, ["list"]).stdout
    assert all(name in text for name in ("cam_crf", "full_supervision", "demo", "voc12", "coco14"))

"""The command line as a person meets it: real processes, one clear line for each mistake."""

import json
import os
import subprocess
import sys
import time
from typing import get_args, get_type_hints

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as PILImage

from tests import commands
from wsseg.cli.main import cli
from wsseg.cli.run import write_page
from wsseg.data.masks import encode_mask


def wsseg(*arguments, cwd=None, **environment):
    """Run the command; returns the finished process."""
    env = {k: v for k, v in os.environ.items() if k != "WSSEG_STORE"} | environment
    return commands.run(*arguments, cwd=cwd, env=env)


def test_help_does_without_torch_and_is_quick():
    script = "import sys; from wsseg.cli.main import cli\ncli(['--help'], standalone_mode=False)\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "wsseg", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5  # the promise of the issue, not a benchmark


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "cam_crf"], 2, "Missing option '-c'"),
        (["runn"], 2, "No such command 'runn'"),
        (["run", "cam_crff", "-c", "demo"], 1, "did you mean 'cam_crf'?"),
        (["run", "cam_crf", "-c", "nowhere.toml"], 1, "nowhere.toml: no such file"),
        (["run", "cam_crf", "-c", "{config}", "--set", "segmenter.epoch=3"], 1, "did you mean 'epochs'?"),
        (
            ["run", "full_supervision", "-c", "{config}", "--set", "data.train.labels=none.csv"],
            1,
            "none.csv: cannot be read",
        ),
        (["show", "segmenter"], 1, "there is no store; 'wsseg run' creates one"),
        (["predict", "segmenter", "photos", "-o", "out"], 1, "wsseg-store: there is no store"),
        (["evaluate", "nowhere", "nowhere", "--classes", "classes.txt"], 1, "classes.txt: cannot be read"),
        (["run", "cam_crf", "-c", "{config}", "--store", "{config}"], 2, "is a file"),
    ],
)
def test_mistakes_end_in_one_line(csv_data, tmp_path, arguments, code, message):
    done = wsseg(*[a.format(config=csv_data) for a in arguments], cwd=tmp_path)
    assert done.returncode == code and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert code == 2 or done.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path):
    assert "Traceback" in wsseg("run", "cam_crf", "-c", "nowhere.toml", "--debug", cwd=tmp_path).stderr


def test_an_unreadable_image_stops_the_run_with_its_name(csv_data, tmp_path):
    (csv_data.parent / "data" / "train" / "images" / "004.png").write_bytes(b"not a picture")
    done = wsseg("run", "cam_crf", "-c", csv_data, cwd=tmp_path)
    assert done.returncode == 1 and "1 images cannot be read" in done.stderr and "004.png" in done.stderr


def test_data_check_says_what_is_there_and_what_is_wrong(csv_data, tmp_path):
    done = wsseg("data", "check", "-c", csv_data, cwd=tmp_path)
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
    done = wsseg("data", "check", "-c", csv_data, cwd=tmp_path)
    assert done.returncode == 1
    for text in ("label without image: ghost", "1 images have no label and are not used: extra", "004.png", "values [9] name no class",
                 "the mask is (64, 48) (H, W), its image (48, 64)"):  # fmt: skip
        assert text in done.stdout, done.stdout
    assert "3 problems" in done.stderr  # those of the masks are one line


def test_shipped_recipes_and_configs_are_listed(tmp_path):
    text = wsseg("list", cwd=tmp_path).stdout
    assert all(name in text for name in ("cam_crf", "full_supervision", "demo", "voc12", "coco14"))


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    """As in ``wsseg list | head -1``: output whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "wsseg", "list"], stdout=pipe, stderr=subprocess.PIPE, cwd=tmp_path, timeout=60
        )
    assert done.stderr == b""


@pytest.mark.slow
def test_a_whole_run_and_all_that_is_done_with_it(csv_data, tmp_path):
    run = ["run", "cam_crf", "-c", csv_data, "--json", "--quiet"]
    done = wsseg(*run, cwd=tmp_path)
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

    again = json.loads(wsseg(*run, cwd=tmp_path).stdout)["stages"]
    assert {s["status"] for s in again.values()} == {"cached"}
    assert {n: s["key"] for n, s in again.items()} == {n: s["key"] for n, s in stages.items()}
    assert "every step was cached" in wsseg("run", "cam_crf", "-c", csv_data, cwd=tmp_path).stdout

    # show --config prints a config that reproduces the run
    text = wsseg("show", stages["segmenter"]["key"][:10], "--config", cwd=tmp_path).stdout
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "again.toml").write_text(text)
    planned = wsseg("plan", "cam_crf", "-c", "else/again.toml", cwd=tmp_path).stdout
    assert planned.count("cached") == 9, planned
    script = (
        "import sys\nfrom wsseg.cli.main import cli\n"
        "cli(['plan', 'cam_crf', '-c', 'else/again.toml'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"  # a plan in which everything is cached takes no time
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=tmp_path)
    assert json.loads(wsseg("show", "evaluation", cwd=tmp_path).stdout)["metrics"]["miou"] == last["miou"]

    # new photographs, one of them broken, one large and grey
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    PILImage.effect_noise((301, 203), 60).save(photos / "sub" / "grey.jpg")
    PILImage.new("RGBA", (40, 90), "red").save(photos / "red.png")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    done = wsseg("predict", "segmenter", photos, "-o", "out", "--crf", "irn", cwd=tmp_path)
    assert done.returncode == 1 and "broken.jpg" in done.stderr and "2 masks in out" in done.stdout
    mask = np.asarray(PILImage.open(tmp_path / "out" / "sub" / "grey.png"))
    assert mask.shape == (203, 301) and mask.max() <= 2

    # judging the artifact's folder by hand gives the same figure
    (tmp_path / "classes.txt").write_text("red\nblue\n")
    store = tmp_path / "wsseg-store" / "objects" / stages["predictions"]["key"] / "masks"
    done = wsseg(
        "evaluate",
        store,
        csv_data.parent / "data" / "val" / "masks",
        "--classes",
        "classes.txt",
        "--json",
        cwd=tmp_path,
    )
    assert json.loads(done.stdout)["miou"] == pytest.approx(last["miou"])

    # damage: verify names it, a run refuses it, --repair rebuilds the same bytes
    victim = next(store.glob("*.png"))
    bytes_before = victim.read_bytes()
    victim.write_bytes(bytes_before[:-1] + b"x")
    done = wsseg("verify", cwd=tmp_path)
    assert done.returncode == 1 and f"damaged: {victim}" in done.stdout
    assert wsseg(*run, "--repair", cwd=tmp_path).returncode == 0
    assert victim.read_bytes() == bytes_before and wsseg("verify", cwd=tmp_path).returncode == 0

    # gc: a dry run first; what a run refers to stays
    orphan = tmp_path / "wsseg-store" / "work" / ("f" * 64)
    orphan.mkdir()
    assert "would remove" in wsseg("gc", cwd=tmp_path).stdout and orphan.exists()
    assert "removed" in wsseg("gc", "--delete", cwd=tmp_path).stdout and not orphan.exists()
    assert "every step was cached" in wsseg("run", "cam_crf", "-c", csv_data, cwd=tmp_path).stdout
    assert "finished" in wsseg("status", cwd=tmp_path).stdout


def test_predict_has_the_defaults_of_the_stage():
    from wsseg.cli.use import predict
    from wsseg.stages.predict_masks.config import Config

    defaults = {option.name: option.default for option in predict.params}
    assert {name: defaults[name] for name in ("scales", "flip", "crf")} == {
        "scales": Config().scales, "flip": Config().flip, "crf": Config().crf,
    }  # fmt: skip


def test_choices_are_the_same_wherever_they_are_named():
    from wsseg.cli.look import explain
    from wsseg.cli.use import predict
    from wsseg.crf.settings import PRESETS, Preset
    from wsseg.saliency.methods import METHODS
    from wsseg.saliency.targets import Target
    from wsseg.stages.make_seeds.config import Config as Seeds

    expected = {
        command: {o.name: getattr(o.type, "choices", ()) for o in command.params} for command in (predict, explain)
    }
    assert tuple(PRESETS) == get_args(Preset) and tuple(expected[predict]["crf"]) == (*PRESETS, "off")
    assert tuple(expected[explain]["target"]) == get_args(Target)
    hints = get_type_hints(Seeds)
    assert get_args(hints["method"]) == (*METHODS, "lpcam") and get_args(hints["target"]) == get_args(Target)


def test_a_failing_report_does_not_fail_the_run(tmp_path, monkeypatch, caplog):
    from wsseg.report import contents
    from wsseg.running.plan import Plan
    from wsseg.store.objects import ArtifactStore

    def gather(*_):
        raise ZeroDivisionError("no images")

    monkeypatch.setattr(contents, "gather", gather)
    store = ArtifactStore(tmp_path)
    store.save_run("one", {"recipe": "r", "config_name": "c", "started": "", "status": "finished", "steps": {}})
    assert write_page(Plan(None, None, store, None, [PlannedStep()]), "one") is None
    assert "no report: ZeroDivisionError: no images" in caplog.text


class PlannedStep:
    state = "ran"


def test_commands_that_only_look_make_no_store(tmp_path):
    for words in (
        ["status"],
        ["verify"],
        ["gc", "--delete"],
        ["show", "x"],
        ["report"],
        ["view"],
        ["export", "x", "--format", "coco"],
    ):
        done = CliRunner().invoke(cli, [*words, "--store", str(tmp_path / "typo")])
        assert done.exit_code == 1 and "typo: there is no store" in done.stderr, words
    assert list(tmp_path.iterdir()) == []


def test_status_tells_a_killed_run_from_one_in_progress(tmp_path):
    from wsseg.store.objects import ArtifactStore

    store = ArtifactStore(tmp_path)
    record = {"recipe": "r", "config_name": "c", "started": "", "status": "running", "steps": {}}
    with store.run_in_progress("one", record):
        assert "one: running" in CliRunner().invoke(cli, ["status", "--store", str(tmp_path)]).stdout
    assert "one: interrupted" in CliRunner().invoke(cli, ["status", "--store", str(tmp_path)]).stdout

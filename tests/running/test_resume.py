"""Real processes, killed for real: what comes out must equal an undisturbed run byte for byte."""

import json
import os
import signal
import time

import pytest

from tests.commands import Command
from wsseg.config import shipped_folder
from wsseg.store.objects import ArtifactStore


def start(config, store, recipe="cam_crf"):
    return Command("run", recipe, "-c", config, "--store", store)


def finish(config, store, recipe="cam_crf"):
    process = start(config, store, recipe)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def digests(store):
    """Digest of every file of every artifact, by key."""
    return {key: ArtifactStore(store).get(key).files for key in ArtifactStore(store).keys()}


def stop_when(config, store, pattern, count, how, recipe="cam_crf", done=0):
    """Start a run; send it a signal once `count` files match below work/ and `done` steps are; returns its stderr."""
    process = start(config, store, recipe)
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        finished = len(list((store / "objects").glob("*"))) if done else 0
        if len(list((store / "work").glob(pattern))) >= count and finished >= done:
            process.send_signal(how)
            break
        time.sleep(0.002)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0, "the run ended before it could be stopped"
    return errors


@pytest.fixture
def slow_config(csv_data):
    """The tiny data set, with training long enough to be hit between epochs, and with a teacher and random erasing."""
    text = csv_data.read_text().replace("epochs = 2", "epochs = 8").replace("epochs = 3", "epochs = 8")
    text = text.replace("[segmenter]", "[segmenter]\nema_decay = 0.9")
    text = text.replace("[classifier]", '[classifier]\nerase = "random"')
    csv_data.write_text(text)
    return csv_data


@pytest.mark.slow
def test_kills_between_items_and_between_epochs_change_no_byte(slow_config, tmp_path):
    finish(slow_config, tmp_path / "undisturbed")
    store = tmp_path / "killed"
    stop_when(slow_config, store, "*/checkpoint.safetensors", 1, signal.SIGKILL)  # within the classifier's epochs
    stop_when(slow_config, store, "*/seeds/*.png", 2, signal.SIGKILL)
    stop_when(slow_config, store, "*/masks/*.png", 3, signal.SIGKILL)
    stop_when(slow_config, store, "*/checkpoint.safetensors", 1, signal.SIGKILL)  # within the segmenter's
    errors = finish(slow_config, store)
    assert "resumes after epoch" in errors and "classifier: cached" in errors
    assert digests(store) == digests(tmp_path / "undisturbed")
    assert list((store / "work").iterdir()) == []


ROUND = """
[steps.pseudo_masks_1]
stage = "relabel_masks"
inputs = { images = "data.train", segmenter = "segmenter", previous = "pseudo_masks" }
"""


@pytest.mark.slow
def test_kills_within_the_walk_and_a_round_of_self_training_change_no_byte(csv_data, tmp_path):
    recipe = tmp_path / "irn_and_a_round.toml"
    recipe.write_text((shipped_folder("pipelines") / "irn.toml").read_text() + ROUND)
    finish(csv_data, tmp_path / "undisturbed", recipe)
    store = tmp_path / "killed"
    stop_when(csv_data, store, "*/seeds/*.png", 2, signal.SIGKILL, recipe, done=6)  # the walk's
    stop_when(csv_data, store, "*/masks/*.png", 2, signal.SIGKILL, recipe, done=13)  # the round's
    finish(csv_data, store, recipe)
    assert digests(store) == digests(tmp_path / "undisturbed")
    assert len(digests(store)) == 14 and list((store / "work").iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_says_what_is_kept(slow_config, tmp_path):
    store = tmp_path / "store"
    begin = time.monotonic()
    errors = stop_when(slow_config, store, "*/checkpoint.safetensors", 1, signal.SIGINT)
    assert (
        "Interrupted. Finished work is kept; run the same command again to resume." in errors
        and "Traceback" not in errors
    )
    assert time.monotonic() - begin < 120
    record = json.loads(next((store / "runs").glob("*.json")).read_text())
    assert record["status"] == "interrupted"


@pytest.mark.slow
def test_two_runs_on_one_store_share_the_work(csv_data, tmp_path):
    processes = [start(csv_data, tmp_path / "store") for _ in range(2)]
    errors = [p.communicate(timeout=400)[1] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], errors
    ran = sum(text.count(": done in") for text in errors)
    assert ran == 9, errors  # each step once, by one of the two
    assert all(not store_key.startswith(".") for store_key in os.listdir(tmp_path / "store" / "objects"))

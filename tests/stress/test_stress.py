"""The short form of the stress tests, and Hypothesis on the parsers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import REPOSITORY
from tests.stress import inputs, load, names, outputs, rot, texts
from tests.stress.texts import CSV, judge, parsers

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")]


def test_names_that_would_leave_their_folder_are_refused(tmp_path):
    from wsseg.errors import DatasetError
    from wsseg.names import check_id

    for item_id in names.ILLEGAL:
        with pytest.raises(DatasetError, match="cannot be an image id"):
            check_id(item_id, "here")
    assert [check_id(item_id, "here") for item_id in names.LEGAL] == list(names.LEGAL)


def test_broken_and_hostile_texts(tmp_path):
    figures = texts.stress(60, tmp_path / "texts")
    assert figures["failures"] == []
    assert all(
        counts["refused"] > 20 for name, counts in figures["texts"].items() if name != "run"
    )  # a store skips these


def test_mutated_images(tmp_path):
    verdicts, failures, _ = inputs.read_many((tmp_path, 7, 300))
    assert failures == []
    assert verdicts["read"] > 30 and verdicts["refused"] > 30


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize(
    "name", ["JPEG, progressive CMYK", "PNG, transparent", "TIFF, one strip, turned", "WebP, lossless"]
)
def test_reading_takes_no_more_memory_than_is_reserved(tmp_path, name):
    reserved = inputs.BYTES_PER_PIXEL[inputs.MEASURED[name][1]]
    assert reserved / 3 < inputs.measured_bytes(tmp_path, name, 2560) <= reserved


@pytest.mark.parametrize("name", sorted(inputs.hostile_files()))
def test_hostile_images(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(inputs.hostile_files()[name])
    verdict, why = inputs.judge(path)
    assert (verdict, why) == ("read" if name.startswith("large_but_whole") else "refused", "")


def test_damaged_and_hostile_weights(tmp_path):
    counts = rot.over_weights(600, tmp_path / "weights", np.random.default_rng(1))
    assert counts["failures"] == [] and 300 < counts["weights_refused"] < 600
    assert rot.over_hostile_files(tmp_path / "hostile")["failures"] == []


@pytest.fixture(scope="module")
def sound_texts(tmp_path_factory):
    return parsers(tmp_path_factory.mktemp("parsers"))


@pytest.mark.parametrize("name", ["config", "recipe", "csv", "coco", "truth", "voc", "run"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_text_is_read_or_refused_in_one_line(sound_texts, name, data):
    json_like = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
            st.sampled_from(["images", "annotations", "categories", "id", "file_name", "name", "steps", "image_id", "key",
                             "category_id", "config", "inputs", "stage", "started", "recipe", "config_name", "status"]),
            inner, max_size=6,
        ),
        max_leaves=25,
    )  # fmt: skip
    sound, read = sound_texts[name]
    kind = data.draw(st.sampled_from(["bytes", "text", "json", "inserted"]))
    if kind == "bytes":
        content = data.draw(st.binary(max_size=300))
    elif kind == "text":
        content = data.draw(st.text(max_size=300)).encode("utf-8", "surrogatepass")
    elif kind == "json":
        content = json.dumps(data.draw(json_like)).encode()
    else:
        place = data.draw(st.integers(0, len(sound)))
        content = (sound[:place] + data.draw(st.text(max_size=30)) + sound[place:]).encode("utf-8", "surrogatepass")
    verdict, why = judge(read, content)
    assert verdict in ("read", "refused"), why


def test_the_sound_texts_are_read(sound_texts):
    for sound, read in sound_texts.values():
        assert judge(read, sound.encode()) == ("read", "")
    assert CSV.count("\n") == 4


def test_a_stage_of_many_items_is_found_finished_and_its_memory_is_flat(tmp_path):
    figures = load.stress(20_000, tmp_path / "load")
    assert figures["failures"] == []
    ten, twenty = figures["items"]["10000"], figures["items"]["20000"]
    assert twenty["peak_mib"] < ten["peak_mib"] + 60


def test_outputs_at_any_place_and_killed_midway(tmp_path):
    assert outputs.stress(60, tmp_path / "outputs")["failures"] == []


def test_forged_stores_touch_nothing_outside(tmp_path):
    assert rot.over_forged_stores(tmp_path)["failures"] == []


# `outputs`, `texts`, `inputs` and `load` are above; tests/test_processes.py, test_streams.py and test_workers.py have the surroundings
@pytest.mark.parametrize("part", ["names", "rot", "disk", "kills", "together", "determinism", "limits"])
def test_the_short_form(tmp_path, part):
    target = tmp_path / "metrics.json"
    count = {"rot": 150, "together": 2, "determinism": 2, "limits": 1}.get(part, 6)
    command = [
        sys.executable,
        "-m",
        "tests.stress",
        part,
        "--count",
        str(count),
        "--json",
        str(target),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert target.is_file(), done.stderr[-500:]
    assert json.loads(target.read_text())[part]["failures"] == []
    assert done.returncode == 0

"""The simulated person of `scripts/simulate_marks.py`."""

import sys

import numpy as np
import pytest
from click.testing import CliRunner

from tests.conftest import REPOSITORY
from wsseg.data.marks import Marks
from wsseg.running.plan import open_config
from wsseg.running.sources import Sources
from wsseg.store.objects import ArtifactStore

sys.path.insert(0, str(REPOSITORY / "scripts"))
simulate = pytest.importorskip("simulate_marks")


def test_the_longest_path_goes_from_end_to_end():
    skeleton = np.zeros((9, 20), bool)
    skeleton[4, 2:18] = True
    skeleton[2:4, 9] = True  # a side branch
    path = simulate.longest_path(skeleton)
    assert len(path) == 16 and sorted((path[0][1], path[-1][1])) == [2, 17]
    assert np.abs(np.diff(path, axis=0)).max() == 1
    assert simulate.longest_path(np.zeros((3, 3), bool)).shape == (0, 2)


def test_a_steady_hand_stays_inside():
    region = np.zeros((60, 90), bool)
    region[20:40, 10:80] = True
    drawn, seconds = simulate.stroke(region, np.random.default_rng(0), jitter=0.0)
    assert drawn.any() and not (drawn & ~region).any()
    assert seconds == pytest.approx(simulate.AIMING + 45 / (0.25 * 90), abs=0.3)  # half of the long side at most


def test_one_pixel_is_a_region():
    region = np.zeros((5, 5), bool)
    region[2, 2] = True
    assert simulate.stroke(region, np.random.default_rng(0))[0].any()


def test_the_budget_ends_the_strokes():
    truth = np.zeros((80, 80), np.uint8)
    for x in (2, 30, 58):
        truth[10:30, x : x + 15] = 1
    truth[60:75, 10:70] = 255
    few, used_few = simulate.strokes(truth, 5.0, np.random.default_rng(0), jitter=0.0)
    many, used_many = simulate.strokes(truth, 60.0, np.random.default_rng(0), jitter=0.0)
    assert used_few <= 5 < used_many and set(np.unique(many)) == {0, 1, 255}
    assert (many != 255).sum() > (few != 255).sum() > 0
    assert not (many[truth == 255] != 255).any()
    again, _ = simulate.strokes(truth, 60.0, np.random.default_rng(0), jitter=0.0)
    assert (again == many).all()


def test_marks_of_a_config(csv_data, tmp_path):
    out, store = tmp_path / "marks", tmp_path / "store"
    words = ["strokes", str(csv_data), "-o", str(out), "--images", "4", "--seconds", "9", "--store", str(store)]
    done = CliRunner().invoke(simulate.main, words)
    assert done.exit_code == 0, done.output
    assert "4 images in" in done.output
    images = Sources(open_config(str(csv_data)).data, ArtifactStore(store)).get("data.train")
    assert 1 <= len(Marks(out, images, memory(store)).ids) <= 4


def memory(store):
    from wsseg.data.file_memory import FileMemory

    return FileMemory(store / "files.sqlite")


def test_a_stamp_gives_a_class_away_in_train_only(csv_data, tmp_path):
    out = tmp_path / "stamped"
    words = [
        "stamp",
        str(csv_data),
        "-o",
        str(out),
        "--class-name",
        "red",
        "--marked",
        "0.2",
        "--store",
        str(tmp_path / "store"),
    ]
    done = CliRunner().invoke(simulate.main, words)
    assert done.exit_code == 0, done.output
    config = open_config(str(out / "stamped.toml"), ("data.train.marks=marks/negative",))
    sources = Sources(config.data, ArtifactStore(tmp_path / "store"))
    marks, images = sources.get("marks.train"), sources.get("data.train")
    assert len(marks.ids) == 2 and all(1 in item.class_ids for item in images.items if item.id in marks.ids)
    shown = [item for item in images.items if item.class_ids == (1,)]
    from wsseg.data.reading import read_photograph

    white = [item.id for item in images.items if (read_photograph(item) == 250).all(axis=2).any()]
    assert len(white) == round(0.9 * len(shown)) and set(marks.ids) <= set(white)
    assert not any((read_photograph(item) == 250).all(axis=2).any() for item in sources.get("data.val").items)
    denied = marks.mask(marks.ids[0]) == 0
    assert denied.any() and (sources.get("truth.train").mask(marks.ids[0])[denied] != 1).mean() > 0.5

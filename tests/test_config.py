"""Every message of a config, and the values that come out of a legal one."""

import time
from pathlib import Path

import pytest

from wsseg.config import expand_path, find_file, hashed, read_toml, shipped_folder, to_toml
from wsseg.errors import ConfigError
from wsseg.runner import open_config

DATA = """
[data]
kind = "csv"
train = { images = "images", labels = "labels.csv" }
"""


def load(tmp_path: Path, text: str, *overrides: str):
    path = tmp_path / "c.toml"
    path.write_text(text)
    return open_config(str(path), overrides)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("[data", (), "not valid TOML"),
        ("", (), "the table [data] is missing"),
        ('[data]\nkind = "vok"', (), "data.kind: found 'vok'; legal: 'folder', 'csv', 'voc', 'coco', 'demo'; did you mean 'voc'?"),
        ('[data]\nkind = "csv"', (), "data.train is missing; legal: a table"),
        ('[data]\nkind = "csv"\ntrain = { images = "i" }', (), "data.train.labels is missing; legal: a path"),
        ('[data]\nkind = "csv"\ntrain = { images = "$NO_SUCH_VARIABLE/i", labels = "l" }', (), "variable NO_SUCH_VARIABLE is not set"),
        (DATA + "[segmentr]\nepochs = 3", (), "unknown key 'segmentr'"),
        (DATA + "[segmenter]\nepoch = 3", (), "unknown key 'segmenter.epoch'"),
        (DATA + "[segmenter]\nepoch = 3", (), "did you mean 'epochs'?"),
        (DATA + "[segmenter]\nepochs = 2.5", (), "segmenter.epochs: found 2.5; legal: a whole number from 1 to 10000"),
        (DATA + "[segmenter]\nepochs = true", (), "segmenter.epochs: found True"),
        (DATA + "[segmenter]\nepochs = 0", (), "segmenter.epochs: found 0"),
        (DATA + "[segmenter]\nlearning_rate = nan", (), "segmenter.learning_rate: found nan; legal: a number from 0 to 10"),
        (DATA + '[segmenter]\nschedule = "one_cicle"', (), 'legal: "one_cycle", "poly"; did you mean \'one_cycle\'?'),
        (DATA + '[seeds]\nscales = 1.0', (), "seeds.scales: found 1.0; legal: a list"),
        (DATA + '[seeds]\nscales = [1.0, "x"]', (), "seeds.scales[1]: found 'x'"),
        (DATA + "[pseudo_masks]\nlevels = [0.1, 0.2, 0.3]", (), "levels: found 3 values; legal: none (one is chosen), one, or two"),
        (DATA + "[pseudo_masks]\nlevels = [4.0]", (), "legal for a threshold: between 0 and 1"),
        (DATA + "seeds = 3", (), "unknown key 'data.seeds'"),
        ("seeds = 3" + DATA, (), "seeds: found 3; legal: a table"),
        ("rng_seed = -1" + DATA, (), "rng_seed: found -1"),
        (DATA, ("segmenter.epochs",), "--set segmenter.epochs: legal is TABLE.KEY=VALUE"),
        ("rng_seed = 1" + DATA, ("rng_seed.x=1",), "'rng_seed' is a value, not a table"),
        (DATA, ("segmenter.epoks=1",), "did you mean 'epochs'?"),
    ],
)  # fmt: skip
def test_message(tmp_path, text, overrides, message):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "c.toml" in str(caught.value) or "--set" in str(caught.value)


def test_values_are_coerced_so_that_1_and_1_0_are_one_identity(tmp_path):
    whole = load(tmp_path, DATA + "[seeds]\nscales = [1, 2]").tables["seeds"]
    broken = load(tmp_path, DATA + "[seeds]\nscales = [1.0, 2.0]").tables["seeds"]
    assert hashed(whole) == hashed(broken)


def test_override_reads_toml_and_takes_the_rest_as_text(tmp_path):
    config = load(tmp_path, DATA, "segmenter.epochs=5", "seeds.scales=[0.5, 1]", "pseudo_masks.crf=psa")
    assert config.tables["segmenter"].epochs == 5
    assert config.tables["seeds"].scales == (0.5, 1.0)
    assert config.tables["pseudo_masks"].crf == "psa"


def test_rng_seed_reaches_every_stage_that_draws_and_a_table_may_have_its_own(tmp_path):
    tables = load(tmp_path, "rng_seed = 7" + DATA + "[segmenter]\nrng_seed = 8").tables
    assert tables["classifier"].rng_seed == 7 and tables["segmenter"].rng_seed == 8


def test_execution_fields_are_not_part_of_the_identity(tmp_path):
    one = load(tmp_path, DATA, "classifier.workers=1", "classifier.device=cpu").tables["classifier"]
    two = load(tmp_path, DATA, "classifier.workers=2").tables["classifier"]
    assert hashed(one) == hashed(two) and "workers" not in hashed(one)


def test_a_file_counts_by_its_content(tmp_path):
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"a")
    before = hashed(load(tmp_path, DATA, "classifier.weights_file=w.pth").tables["classifier"])
    weights.rename(tmp_path / "v.pth")
    same = hashed(load(tmp_path, DATA, "classifier.weights_file=v.pth").tables["classifier"])
    (tmp_path / "v.pth").write_bytes(b"b")
    other = hashed(load(tmp_path, DATA, "classifier.weights_file=v.pth").tables["classifier"])
    assert before == same != other


def test_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_FOLDER", "/somewhere")
    config = tmp_path / "sub" / "c.toml"
    assert expand_path("images", "k", config) == tmp_path / "sub" / "images"
    assert expand_path("../images", "k", config) == tmp_path / "images"
    assert expand_path("$SOME_FOLDER/i", "k", config) == Path("/somewhere/i")
    assert expand_path("${SOME_FOLDER}/i", "k", config) == Path("/somewhere/i")
    assert expand_path("${NOT_SET:-/else}/i", "k", config) == Path("/else/i")
    assert expand_path("~/i", "k", config) == Path.home() / "i"


def test_resolved_values_as_toml_give_the_same_config(tmp_path):
    config = load(tmp_path, DATA + "[seeds]\nscales = [1]\n[segmenter.decoder]\ndecoder_segmentation_channels = 32")
    (tmp_path / "again").mkdir()
    again = load(tmp_path / "again", to_toml(config.as_dict()))
    assert again.data == config.data and dict(again.tables) == dict(config.tables)


def test_a_file_beside_it_may_be_meant(tmp_path):
    (tmp_path / "mine.toml").write_text("")
    with pytest.raises(ConfigError, match=r"did you mean '.*mine.toml'\?"):
        find_file(str(tmp_path / "min.toml"), "configs")


def test_unknown_name_lists_the_shipped_ones():
    with pytest.raises(ConfigError, match=r"legal: a path ending in \.toml, or .*demo.*did you mean 'demo'"):
        find_file("dmo", "configs")


@pytest.mark.parametrize("path", sorted(shipped_folder("configs").glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_config_loads(path):
    assert open_config(path.stem).name == path.stem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n" * 200_000, "at most 1000 kB"),
        ("a." * 50_000 + "b = 1", "20 parts in a key"),
        ("x = " + "9" * 5_000, "not valid TOML"),
        ("x = " + "[" * 50_000, "not valid TOML"),
    ],
)
def test_a_file_made_to_keep_us_busy_is_refused_at_once(tmp_path, text, words):
    path = tmp_path / "bomb.toml"
    path.write_text(text)
    begin = time.monotonic()
    with pytest.raises(ConfigError, match=words):
        read_toml(path)
    assert time.monotonic() - begin < 5

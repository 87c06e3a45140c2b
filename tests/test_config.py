"""The messages for invalid configs, and the values of valid ones."""

import contextlib
import time
from dataclasses import fields
from pathlib import Path

import pytest

from wsseg.config import as_config_path, expand_path, find_file, hashed, read_toml, shipped_folder, to_toml
from wsseg.errors import ConfigError
from wsseg.renamed_keys import RENAMED
from wsseg.running.plan import open_config
from wsseg.stages import TABLES
from wsseg.store.objects import key_of

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
        ('[data]\nkind = "vok"', (), "data.kind: found 'vok'; expected: 'folder', 'csv', 'voc', 'coco', 'demo', 'sequences', 'planted_dna'; did you mean 'voc'?"),
        ('[data]\nkind = "csv"', (), "data.train is missing; expected: a table"),
        ('[data]\nkind = "csv"\ntrain = { images = "i" }', (), "data.train.labels is missing; expected: a path"),
        ('[data]\nkind = "csv"\ntrain = { images = "$NO_SUCH_VARIABLE/i", labels = "l" }', (), "variable NO_SUCH_VARIABLE is not set"),
        (DATA + "[segmentr]\nepochs = 3", (), "unknown key 'segmentr'"),
        (DATA + "[segmenter]\nepoch = 3", (), "unknown key 'segmenter.epoch'"),
        (DATA + "[segmenter]\nepoch = 3", (), "did you mean 'epochs'?"),
        (DATA + "[segmenter]\nepochs = 2.5", (), "segmenter.epochs: found 2.5; expected: a whole number from 1 to 10000"),
        (DATA + "[segmenter]\nepochs = true", (), "segmenter.epochs: found True"),
        (DATA + "[segmenter]\nepochs = 0", (), "segmenter.epochs: found 0"),
        (DATA + "[segmenter]\nlearning_rate = nan", (), "segmenter.learning_rate: found nan; expected: a number from 0 to 10"),
        (DATA + '[segmenter]\nschedule = "one_cicle"', (), 'expected: "one_cycle", "poly"; did you mean \'one_cycle\'?'),
        (DATA + '[seeds]\nscales = 1.0', (), "seeds.scales: found 1.0; expected: a list"),
        (DATA + '[seeds]\nscales = [1.0, "x"]', (), "seeds.scales[1]: found 'x'"),
        (DATA + "[pseudo_masks]\nlevels = [0.1, 0.2, 0.3]", (), "levels: found 3 values; expected: none (a level is chosen), one, or two"),
        (DATA + "[pseudo_masks]\nlevels = [4.0]", (), "expected with background = \"threshold\": between 0 and 1"),
        (DATA + "seeds = 3", (), "unknown key 'data.seeds'"),
        ("seeds = 3" + DATA, (), "seeds: found 3; expected: a table"),
        ("rng_seed = -1" + DATA, (), "rng_seed: found -1"),
        (DATA, ("segmenter.epochs",), "--set segmenter.epochs: expected TABLE.KEY=VALUE"),
        ("rng_seed = 1" + DATA, ("rng_seed.x=1",), "'rng_seed' is a value, not a table"),
        (DATA, ("segmenter.epoks=1",), "did you mean 'epochs'?"),
        (DATA + "[segmenter]\nlearning_rate = inf", (), "segmenter.learning_rate: found inf"),
        (DATA + f"[seeds]\nsize = {10**30}", (), "seeds.size: found 1000000"),
        (DATA + "[seeds]\nscales = [1.0, inf]", (), "seeds.scales[1]: found inf"),
        (DATA + f"[seeds]\nscales = [1{'0' * 400}]", (), "seeds.scales[0]: found 1000"),
        (DATA, ("segmenter.epochs=" + "9" * 5000,), "segmenter.epochs: found '9999"),
        (DATA, ("segmenter.epochs=1\nrng_seed=2",), "segmenter.epochs: found '1\\nrng_seed=2'"),
        (DATA, (".".join("a" * 21) + "=1",), "expected TABLE.KEY=VALUE"),
        ('[data]\nkind = "folder"\ntrain = { images = "ph$1tos" }', (), "for a dollar sign, write $$"),
        ('[data]\nkind = "folder"\ntrain = { images = "~nosuchuser/x" }', (),
         "data.train.images: '~nosuchuser/x': no user has the home folder '~nosuchuser'"),
        ('[data]\nkind = "folder"\ntrain = { images = "C:\\new" }', (), "a path that does not exist; use /, or single quotes"),
        ('[data]\ntrain = { images = "C:\\data" }', (), "use / or \\\\ instead of \\"),
        ('[data]\nkind = \u201cfolder\u201d', (), "use straight quotes"),
        ('[data]\nkind\u00a0= "folder"', (), "no-break space"),
        (DATA + "[predictions]\nflip = True", (), "use true or false, in lower case"),
        ("data:\n  kind: folder", (), "this looks like YAML"),
    ],
)  # fmt: skip
def test_an_invalid_config_gives_this_message(tmp_path, text, overrides, message):
    with pytest.raises(ConfigError) as excinfo:
        load(tmp_path, text, *overrides)
    assert message in str(excinfo.value)
    assert "\n" not in str(excinfo.value) and len(str(excinfo.value)) < 1000
    assert "c.toml" in str(excinfo.value) or "--set" in str(excinfo.value)


def test_all_problems_are_reported_at_once(tmp_path):
    text = """
        rng_seed = -1
        colour = 1
        [data]
        kind = "csv"
        train = { images = "i", limit = -1 }
        [segmenter]
        epoch = 1
        size = "x"
        [seeds]
        scales = [1.0, "x", "y"]
        [pseudo_masks]
        levels = [4.0]
    """
    with pytest.raises(ConfigError) as excinfo:
        load(tmp_path, text)
    message = str(excinfo.value)
    assert message.startswith(f"9 problems in {tmp_path / 'c.toml'}: ")
    for part in (
        "unknown key 'colour'", "rng_seed: found -1", "data.train.limit: found -1", "data.train.labels is missing",
        "unknown key 'segmenter.epoch'", "segmenter.size: found 'x'", "seeds.scales[1]: found 'x'",
        "seeds.scales[2]: found 'y'", "pseudo_masks: ",
    ):  # fmt: skip
        assert part in message
    with pytest.raises(ConfigError, match=r"^30 problems in .*'seeds\.k19'.*; and 10 more$"):
        load(tmp_path, DATA + "[seeds]\n" + "".join(f"k{i} = 1\n" for i in range(30)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_ignored(tmp_path, encoding):
    path = tmp_path / "c.toml"
    path.write_bytes(DATA.replace("\n", "\r\n").encode(encoding))
    assert open_config(str(path)).data.train.images == tmp_path / "images"


def test_another_encoding_is_reported(tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(DATA.encode("utf-16"))
    with pytest.raises(ConfigError, match=r"c\.toml: not valid TOML: not UTF-8 text .*; save it as UTF-8$"):
        open_config(str(path))


@pytest.mark.parametrize(
    ("table", "one", "other"),
    [
        ("seeds", "scales = [1, 2]", "scales = [1.0, 2.0]"),
        ("seeds", "output_stride = 16", "output_stride = 16.0"),
        ("seeds", "batch_size = 4", "batch_size = 4.0"),
        ("segmenter", "absent_class_weight = 0", "absent_class_weight = -0.0"),
        ("segmenter", "decoder = { decoder_pyramid_channels = 64 }", "decoder = { decoder_pyramid_channels = 64.0 }"),
    ],
)
def test_equal_values_give_the_same_key(tmp_path, table, one, other):
    configs = [load(tmp_path, f"{DATA}[{table}]\n{line}").tables[table] for line in (one, other)]
    first, second = (key_of("stage", 1, hashed(config), {}) for config in configs)
    assert first == second
    assert repr(configs[0]) == repr(configs[1])  # 16 == 16.0, but they are no equal text


@pytest.mark.parametrize(
    "line", ["output_stride = true", "output_stride = 16.5", 'output_stride = "16"', "flip = 1", "size = true"]
)
def test_values_of_another_type_are_refused(tmp_path, line):
    with pytest.raises(ConfigError, match="found"):
        load(tmp_path, f"{DATA}[seeds]\n{line}")


def test_an_override_is_parsed_as_toml_or_taken_as_text(tmp_path):
    config = load(tmp_path, DATA, "segmenter.epochs=5", "seeds.scales=[0.5, 1]", "pseudo_masks.crf=psa")
    assert config.tables["segmenter"].epochs == 5
    assert config.tables["seeds"].scales == (0.5, 1.0)
    assert config.tables["pseudo_masks"].crf == "psa"


def test_rng_seed_is_the_default_of_every_table_that_has_one(tmp_path):
    tables = load(tmp_path, "rng_seed = 7" + DATA + "[segmenter]\nrng_seed = 8").tables
    assert tables["classifier"].rng_seed == 7 and tables["segmenter"].rng_seed == 8


def test_no_key_depends_on_execution_fields(tmp_path):
    one = load(tmp_path, DATA, "classifier.workers=1", "classifier.device=cpu").tables["classifier"]
    two = load(tmp_path, DATA, "classifier.workers=2").tables["classifier"]
    assert hashed(one) == hashed(two) and "workers" not in hashed(one)


def test_a_key_depends_on_the_content_of_a_file(tmp_path):
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"a")
    before = hashed(load(tmp_path, DATA, "classifier.weights_file=w.pth").tables["classifier"])
    weights.rename(tmp_path / "v.pth")
    same = hashed(load(tmp_path, DATA, "classifier.weights_file=v.pth").tables["classifier"])
    (tmp_path / "v.pth").write_bytes(b"b")
    other = hashed(load(tmp_path, DATA, "classifier.weights_file=v.pth").tables["classifier"])
    assert before == same != other


def test_paths_are_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_FOLDER", "/somewhere")
    config = tmp_path / "sub" / "c.toml"
    assert expand_path("images", "k", config) == tmp_path / "sub" / "images"
    assert expand_path("../images", "k", config) == tmp_path / "images"
    assert expand_path("$SOME_FOLDER/i", "k", config) == Path("/somewhere/i")
    assert expand_path("${SOME_FOLDER}/i", "k", config) == Path("/somewhere/i")
    assert expand_path("${NOT_SET:-/else}/i", "k", config) == Path("/else/i")
    assert expand_path("~/i", "k", config) == Path.home() / "i"
    assert expand_path("$$SOME_FOLDER/$$1/a$$", "k", config) == tmp_path / "sub" / "$SOME_FOLDER" / "$1" / "a$"
    assert expand_path("./~x", "k", config) == tmp_path / "sub" / "~x"


@pytest.mark.parametrize("name", ["cash$flow", "$HOME", "${HOME}", "$$", "$", "~", "~root", "~x/y", "a~", "${a:-b}"])
def test_a_path_survives_writing_and_reading_a_config(tmp_path, name):
    config = tmp_path / "c.toml"
    assert expand_path(as_config_path(Path(name)), "k", config) == tmp_path / name
    assert expand_path(as_config_path(tmp_path / name), "k", config) == tmp_path / name


def test_resolved_values_keep_paths_with_dollars(tmp_path):
    """A run's record is parsed like a config."""
    (tmp_path / "cash$flow").mkdir()
    config = load(tmp_path / "cash$flow", DATA)
    again = load(tmp_path, to_toml(config.as_dict()))
    assert again.data == config.data


def test_an_unknown_user_is_one_line():
    with pytest.raises(ConfigError, match=r"^'~nosuchuser/c.toml': no user has the home folder '~nosuchuser'"):
        find_file("~nosuchuser/c.toml", "configs")


def test_resolved_values_as_toml_give_the_same_config(tmp_path):
    config = load(tmp_path, DATA + "[seeds]\nscales = [1]\n[segmenter.decoder]\ndecoder_segmentation_channels = 32")
    (tmp_path / "again").mkdir()
    again = load(tmp_path / "again", to_toml(config.as_dict()))
    assert again.data == config.data and dict(again.tables) == dict(config.tables)


def test_a_similar_file_in_the_same_folder_is_suggested(tmp_path):
    (tmp_path / "mine.toml").write_text("")
    with pytest.raises(ConfigError, match=r"did you mean '.*mine.toml'\?"):
        find_file(str(tmp_path / "min.toml"), "configs")


def test_an_unknown_name_lists_the_shipped_configs():
    with pytest.raises(ConfigError, match=r"expected: a path ending in \.toml, or .*demo.*did you mean 'demo'"):
        find_file("dmo", "configs")


@pytest.mark.parametrize("path", sorted(shipped_folder("configs").glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_config_loads(path):
    assert open_config(path.stem).name == path.stem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n" * 200_000, "at most 1000 kB"),
        ("a." * 50_000 + "b = 1", "keys of at most 20 parts"),
        ("x = " + "9" * 5_000, "not valid TOML"),
        ("x = " + "[" * 50_000, "not valid TOML"),
        ('"a b".' * 50_000 + "b = 1", "keys of at most 20 parts"),
        (r'"a\".".' * 50_000 + "b = 1", "keys of at most 20 parts"),
        ("a" * 999_000, "not valid TOML"),
        ("a " * 499_000, "not valid TOML"),
        ("-." * 499_000, "keys of at most 20 parts"),
        (r'"" \"" ' * 100_000, "not valid TOML"),
        (r'""" \""" ' * 100_000, "not valid TOML"),
        ("'" * 999_001, "not valid TOML"),
        ("x = " + "1_" * 499_000, "not valid TOML"),
        ('x = "' + "a." * 400_000, "not valid TOML"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_a_file_made_to_slow_the_parser_is_refused_at_once(tmp_path, text, words):
    path = tmp_path / "bomb.toml"
    path.write_text(text)
    begin = time.monotonic()
    with pytest.raises(ConfigError, match=words):
        read_toml(path)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("unit", ["$", "${a", "${a:-", "${a:-x${", "$$", "../", "a/"])
def test_a_path_made_to_slow_the_expansion_is_handled_at_once(tmp_path, unit):
    begin = time.monotonic()
    with contextlib.suppress(ConfigError):
        expand_path(unit * (990_000 // len(unit)), "k", tmp_path / "c.toml")
    assert time.monotonic() - begin < 5


def test_every_renamed_key_is_refused_with_its_new_name(tmp_path):
    keys = {"rng_seed", *TABLES, *(f"{table}.{f.name}" for table, cls in TABLES.items() for f in fields(cls))}
    assert set(RENAMED.values()) <= keys and not set(RENAMED) & keys
    text = DATA + "[segmenter]\nteacher = 0.9\ncolor = 0.1\n[rounds]\ncertainty = 0.5\n"
    with pytest.raises(ConfigError) as excinfo:
        load(tmp_path, text)
    assert "segmenter.teacher is now called segmenter.ema_decay" in str(excinfo.value)
    assert "segmenter.color is now called segmenter.color_jitter" in str(excinfo.value)
    assert "rounds is now called relabeling" in str(excinfo.value)
    assert "rounds.certainty is now called relabeling.min_confidence" in str(excinfo.value)

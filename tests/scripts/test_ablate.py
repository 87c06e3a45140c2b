import csv
import sys

import pytest
from click.testing import CliRunner

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))
import ablate

TABLE = """
rng_seeds = [0, 1]

[variants.plain]

[variants."no CRF"]
set = ["pseudo_masks.crf=off", "segmenter.epochs=1"]
"""


@pytest.fixture
def invoke(tmp_path):
    def run(text, config):
        (tmp_path / "table.toml").write_text(text)
        words = ["cam_crf", str(config), str(tmp_path / "table.toml"), "-o", str(tmp_path / "out")]
        return CliRunner().invoke(ablate.main, [*words, "--store", str(tmp_path / "store")])

    return run


@pytest.mark.slow
def test_a_table_of_two_variants_and_two_seeds(invoke, csv_data, tmp_path):
    pytest.importorskip("matplotlib")
    result = invoke(TABLE, csv_data)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("| mIoU in percent | "))
    assert "seed_quality" in lines[header] and lines[header + 2].count("±") == 3
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 3 and {r["variant"] for r in rows} == {"plain", "no CRF"}
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    seeds = {(r["variant"], r["rng_seed"]): r["miou"] for r in rows if r["step"] == "seed_quality"}
    assert seeds["plain", "0"] == seeds["no CRF", "0"]  # the classifier and its seeds are shared
    objects = len(list((tmp_path / "store" / "objects").iterdir()))
    assert objects == 2 * (4 + 2 * 5)  # classifier, seeds and how good both are: once per rng_seed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1", "unknown key 'a'; expected: rng_seeds, variants"),
        ("rng_seeds = [-1]\n[variants.a]", "rng_seeds: found [-1]"),
        ("rng_seeds = [0]", "no [variants.NAME] table"),
        ("[variants.a]\nsets = []", "variants.a: found {'sets': []}; expected keys: recipe, set"),
        ("[variants.a]\nset = [1]", 'variants.a.set: found [1]; expected: a list of "TABLE.KEY=VALUE"'),
        ('[variants.a]\nset = ["segmenter.epoch=1"]', "did you mean"),
    ],
)
def test_a_wrong_table_is_named_before_anything_runs(invoke, csv_data, text, message):
    result = invoke(text, csv_data)
    assert result.exit_code == 1 and message in result.output

import json
import sys

import pytest
from click.testing import CliRunner

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))
import weak_to_full


def run(seed, full, weak):
    return {
        "weak": {seed: {"result": weak, "miou": {"seed_quality": 0.4, "evaluation": weak}, "minutes": {"a": 1.5}}},
        "full": {seed: {"result": full, "miou": {"evaluation": full}, "minutes": {}}},
    }


def test_the_ratio_is_that_of_the_means_over_the_seeds_that_both_have():
    runs = {kind: {**run("0", 0.8, 0.6)[kind], **run("1", 0.7, 0.6)[kind]} for kind in ("weak", "full")}
    runs["weak"]["2"] = run("2", 0.0, 0.1)["weak"]["2"]
    result = weak_to_full.summary(runs)
    assert result["rng_seeds"] == [0, 1]
    assert result["ratio"] == pytest.approx(0.8)
    assert result["seed_miou"] == [0.4, 0.4]
    assert result["pseudo_miou"] == [None, None]


@pytest.mark.slow
def test_weak_and_full_are_run_and_other_sets_stay_in_the_file(csv_data, tmp_path):
    output = tmp_path / "results.json"
    output.write_text(json.dumps({"other": {"ratio": 0.5}}))
    words = ["cam_crf", str(csv_data), "--rng-seeds", "4", "-o", str(output), "--store", str(tmp_path / "store")]
    result = CliRunner().invoke(weak_to_full.main, words)
    assert result.exit_code == 0, result.output
    content = json.loads(output.read_text())
    assert content["other"] == {"ratio": 0.5}
    own = content[str(csv_data)]
    assert own["rng_seeds"] == [4]
    assert own["ratio"] == pytest.approx(own["weak_miou"][0] / own["full_miou"][0], rel=1e-3)
    assert 0 < own["seed_miou"][0] <= 1 and 0 < own["pseudo_miou"][0] <= 1 and own["minutes"][0] > 0


def test_a_file_of_another_kind_is_not_replaced(csv_data, tmp_path):
    output = tmp_path / "results.json"
    output.write_text('{"mine": 1}')
    words = ["cam_crf", str(csv_data), "--rng-seeds", "4", "-o", str(output), "--store", str(tmp_path / "store")]
    result = CliRunner().invoke(weak_to_full.main, words)
    assert result.exit_code == 1 and "was not written by wsseg" in result.output
    assert output.read_text() == '{"mine": 1}'

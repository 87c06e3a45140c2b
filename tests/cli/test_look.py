"""Commands that show a run or a classifier; see also tests/inspect/test_audit.py for ``audit``."""

from typing import get_args

from click.testing import CliRunner

from wsseg.cli.look import _print_audit as print_audit
from wsseg.cli.look import explain
from wsseg.cli.main import cli
from wsseg.saliency.targets import Target


def test_explain_offers_all_targets():
    (target,) = [option for option in explain.params if option.name == "target"]
    assert tuple(target.type.choices) == get_args(Target)


def test_audit_prints_one_table_per_group_of_metrics(capsys):
    row = {"deletion": 0.25, "insertion": 0.5, "flip": 1.0, "ms_per_image": 12.4}
    print_audit({"cam": row, "layer_cam": row})
    assert capsys.readouterr().out.splitlines() == [
        "faithfulness  deletion↓  insertion↑  ms↓",
        "cam               0.250       0.500   12",
        "layer_cam         0.250       0.500   12",
        "",
        "stability  flip↑",
        "cam        1.000",
        "layer_cam  1.000",
        "",
    ]


def test_report_takes_a_run_or_a_comparison():
    result = CliRunner().invoke(cli, ["report", "one", "--compare", "one", "two"])
    assert result.exit_code == 2 and "give only one of them" in result.stderr


def test_report_expects_the_name_of_a_page():
    result = CliRunner().invoke(cli, ["report", "-o", "page.txt"])
    assert result.exit_code == 2 and "expected: a name that ends in .html" in result.stderr

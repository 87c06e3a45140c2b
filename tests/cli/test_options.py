"""The error boundary, and what else the commands share."""

import logging
import re

import click
import pytest
from click.testing import CliRunner

from tests.conftest import REPOSITORY
from wsseg.cli.options import Command, open_artifact
from wsseg.errors import ArtifactError, ConfigError, OtherProcessError


def invoke(action, *arguments):
    """Run a command whose body is `action`."""
    return CliRunner().invoke(Command("probe", callback=action), arguments)


def raising(error):
    def action():
        raise error

    return action


def test_an_error_of_wsseg_is_one_line_and_exit_code_1():
    result = invoke(raising(ConfigError("a.toml: found 3;\nexpected: 2")))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: a.toml: found 3; expected: 2\n"


def test_an_unexpected_error_is_reported_as_a_bug():
    result = invoke(raising(ZeroDivisionError("division by zero\nsecond line")))
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: internal error: ZeroDivisionError: division by zero (a bug in wsseg; ")


def test_debug_raises_the_error():
    error = ConfigError("no such file")
    assert invoke(raising(error), "--debug").exception is error


def test_debug_shows_the_traceback(wsseg):
    assert "Traceback" in wsseg("run", "cam_crf", "-c", "nowhere.toml", "--debug").stderr


def test_ctrl_c_tells_how_to_resume():
    result = invoke(raising(KeyboardInterrupt()))
    assert result.exit_code == 130
    assert result.stderr == "\nInterrupted. Finished work is kept; run the same command again to resume.\n"


def test_usage_errors_are_left_to_click():
    assert invoke(raising(click.UsageError("name only one"))).exit_code == 2


def test_only_the_process_that_failed_reports_the_error(monkeypatch):
    for name, value in {
        "WORLD_SIZE": "2",
        "RANK": "1",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    result = invoke(raising(OtherProcessError("the main process failed")))
    assert (result.exit_code, result.output) == (1, "")
    monkeypatch.setenv("RANK", "0")
    assert "error: the main process failed" in invoke(raising(OtherProcessError("the main process failed"))).stderr


@pytest.mark.parametrize(("arguments", "expected"), [((), "information\nwarning\n"), (("--quiet",), "warning\n")])
def test_quiet_hides_information(arguments, expected):
    def action():
        logging.getLogger("wsseg").info("information")
        logging.getLogger("wsseg").warning("warning")

    assert invoke(action, *arguments).stderr == expected


def test_an_artifact_of_another_kind_is_an_error(tmp_path, monkeypatch):
    from wsseg.store import runs

    class Seeds:
        kind = "seeds"

    monkeypatch.setattr(runs, "find_artifact", lambda store, name: Seeds())
    assert open_artifact(None, "seeds", "seeds", "masks").kind == "seeds"
    with pytest.raises(ArtifactError, match="seeds: found an artifact of kind seeds; expected: segmenter"):
        open_artifact(None, "seeds", "segmenter")
    with pytest.raises(ArtifactError, match="expected for coco: pseudo_masks, predictions"):
        open_artifact(None, "seeds", "pseudo_masks", "predictions", purpose="coco")


def test_scripts_import_only_the_shared_options():
    files = [*(REPOSITORY / "scripts").glob("*.py"), *(REPOSITORY / "tests" / "stress").glob("*.py")]
    modules = {
        m for f in files for m in re.findall(r"^from (wsseg\.cli\S*) import", f.read_text("utf-8"), re.MULTILINE)
    }
    assert modules == {"wsseg.cli.options"}

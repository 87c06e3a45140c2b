"""The log file of a run: its content, and files that cannot be written."""

import errno
import logging
import os
import re

import pytest

from tests.running.toys import MEASURED_RECIPE, Measure, Write, run_toys
from wsseg.errors import StageError
from wsseg.running.execute import run_plan

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def log_file(plan):
    """Return the only run's log file."""
    (run_id,) = plan.store.runs()
    return plan.store.root / "runs" / f"{run_id}.log"


def test_a_log_has_versions_command_config_and_all_lines(toys, tmp_path):
    plan = toys("write.size=4", "copy.times=2")
    run_plan(plan, command="wsseg.run('toys')")
    lines = log_file(plan).read_text().splitlines()
    assert re.fullmatch(rf"=== {TIME} run \S*toys-tiny-\w{{6}}", lines[0])
    assert re.match(r"versions: wsseg \S+, torch \S+, .*Python 3\.\d+\.\d+, commit \w+", lines[1])
    assert re.match(r"system: .+, \d+ CPU cores, processes: 1", lines[2])
    assert lines[3:7] == [
        "command: wsseg.run('toys')",
        f"recipe: {tmp_path / 'toys.toml'}",
        f"config: {tmp_path / 'tiny.toml'}",
        "overrides: write.size=4 copy.times=2",
    ]
    assert re.fullmatch(rf"{TIME} INFO first: runs \(never ran\)", lines[7])
    assert re.fullmatch(rf"{TIME} INFO first: done in .* s \(\w{{12}}\)", lines[8])
    assert re.fullmatch(rf"=== {TIME} finished", lines[-1])


def test_a_resumed_run_appends_to_its_log_after_the_traceback_of_the_error(toys, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="wsseg")
    monkeypatch.setattr(Write, "fail_after", 5)
    plan = toys()
    with pytest.raises(StageError):
        run_plan(plan)
    assert caplog.messages[-1] == f"the log of this run has the traceback: {log_file(plan)}"
    first = log_file(plan).read_text()
    assert "Traceback (most recent call last):" in first and "in run\n" in first
    assert "StageError: stopped on purpose" in first and first.splitlines()[-2].endswith("failed")
    monkeypatch.setattr(Write, "fail_after", None)
    run_toys(toys)
    both = log_file(plan).read_text()
    assert both.startswith(first) and "first: runs (interrupted; will resume)" in both[len(first) :]


def test_a_failed_measuring_step_leaves_its_traceback(toys, tmp_path, monkeypatch):
    (tmp_path / "toys.toml").write_text(MEASURED_RECIPE)
    monkeypatch.setattr(Measure, "error", ZeroDivisionError("0 / 0"))
    plan = toys()
    run_plan(plan)
    text = log_file(plan).read_text()
    assert "WARNING figures: failed: ZeroDivisionError: 0 / 0; the run continues\nTraceback" in text
    assert "raise self.error\nZeroDivisionError: 0 / 0\n" in text and "second: done" in text.partition("Traceback")[2]


def test_an_interrupted_run_leaves_one_line(toys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Write, "run", interrupt)
    plan = toys()
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan)
    lines = log_file(plan).read_text().splitlines()
    assert lines[-1].endswith("interrupted") and "Traceback" not in "".join(lines)


def test_the_log_has_lines_that_the_level_of_the_logger_hides(toys, caplog):
    plan = toys()
    with caplog.at_level(logging.WARNING, logger="wsseg"):
        run_plan(plan)
        assert logging.getLogger("wsseg").level == logging.WARNING
    assert "INFO first: done" in log_file(plan).read_text() and caplog.records == []


@pytest.mark.parametrize("obstacle", ["folder", "link", "pipe", "full disk"])
def test_a_log_that_cannot_be_written_causes_one_warning(toys, tmp_path, caplog, monkeypatch, obstacle):
    run_toys(toys)
    path = log_file(toys())
    if obstacle == "full disk":

        def full(descriptor, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", full)
    else:
        path.unlink()
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    if obstacle == "folder":
        path.mkdir()
    elif obstacle == "link":
        path.symlink_to(mine)
    elif obstacle == "pipe":
        os.mkfifo(path)
    assert set(run_toys(toys).values()) == {"cached"}
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and f"{path}: the log of this run cannot be written: " in warnings[0]
    assert mine.read_text() == "mine"


def test_gc_removes_a_log_with_its_record(toys):
    plan = toys()
    run_plan(plan)
    assert log_file(plan).is_file()
    plan.store.collect(keep=0)
    assert list((plan.store.root / "runs").iterdir()) == []

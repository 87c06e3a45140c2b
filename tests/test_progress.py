"""Progress as lines, as a bar on a real terminal, in a notebook, and as events of callbacks."""

import contextlib
import logging
import os
import pty
import re
import subprocess
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
from rich.console import Console

from wsseg import progress
from wsseg.progress import track

SCRIPT = """
import logging, sys, time
from wsseg import progress
log = logging.getLogger("wsseg")
log.handlers[:] = [progress.LogHandler()]
log.setLevel(logging.INFO)
with progress.step("segmenter", 2, 7):
    for i in progress.track(range(5), 5, "epoch 1/3", "steps"):
        progress.metric(f"loss {i / 10}")
        time.sleep(0.15)
        if i == 2:
            log.info("[a] line: between")
        list(progress.track(range(2), 2, "within"))
print("end", file=sys.stderr)
"""


def on_a_terminal(**environment):
    """Return the output of the script on a terminal."""
    ours, theirs = pty.openpty()
    env = (
        {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
        | {"TERM": "xterm-256color", "COLUMNS": "120"}
        | environment
    )
    child = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs, env=env)
    os.close(theirs)
    written = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:
            break
        if not data:
            break
        written += data
    assert child.wait(30) == 0
    return written.decode()


def test_a_bar_shows_step_rate_and_metric():
    written = on_a_terminal()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    assert "2/7 segmenter · epoch 1/3" in plain and "5/5 steps" in plain and "loss 0.4" in plain and "/s" in plain
    assert "[a] line: between" in plain and "within" not in plain
    assert plain.rstrip().endswith("end")


def test_no_color_disables_colours():
    coloured = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m|\x1b\[38;")
    assert coloured.search(on_a_terminal()) and not coloured.search(on_a_terminal(NO_COLOR="1"))


def test_lines_without_a_terminal(caplog, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO, logger="wsseg"):
        assert list(track("abc", 5, "reading", done=2)) == ["a", "b", "c"]
    assert [r.getMessage().split(" images")[0] for r in caplog.records] == [
        "reading: 3/5",
        "reading: 4/5",
        "reading: 5/5",
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="wsseg"):
        assert list(track("abc", 3, "reading")) == ["a", "b", "c"]
    assert not caplog.records


def test_callbacks_receive_events_inside_their_block_only():
    events = []

    class Callback:
        def step_started(self, step):
            events.append(step)

        def epoch_done(self, step, epoch, epochs, metrics):
            events.append((step, epoch, epochs, metrics))

        def step_done(self, step, metrics):
            events.append((step, metrics))

    with progress.listening(Callback()):
        with progress.step("a", 1, 2):
            progress.epoch_done(1, 3, {"loss": 0.5})
        progress.step_done("a", {"map": 1.0})
    progress.epoch_done(2, 3, {"loss": 0.5})
    assert events == ["a", ("a", 1, 3, {"loss": 0.5}), ("a", {"map": 1.0})]


@pytest.fixture
def wsseg_log():
    """The logger "wsseg" without handlers and level, as in a new program."""
    log = logging.getLogger("wsseg")
    before = log.handlers[:], log.level, log.propagate
    log.handlers[:], log.propagate = [], True
    log.setLevel(logging.NOTSET)
    yield log
    log.handlers[:], log.propagate = before[0], before[2]
    log.setLevel(before[1])


def test_lines_are_shown_inside_the_block_only(wsseg_log, capsys):
    with progress.shown():
        wsseg_log.info("seeds: runs")
    wsseg_log.info("after")
    with progress.shown(quiet=True):
        wsseg_log.info("hidden")
        wsseg_log.warning("a warning")
    assert capsys.readouterr().err == "seeds: runs\na warning\n"


@pytest.mark.parametrize("configure", ["handler", "level", "root"])
def test_a_program_that_configures_logging_is_left_alone(wsseg_log, capsys, configure):
    root = logging.getLogger()
    level = root.level
    if configure == "handler":
        wsseg_log.addHandler(logging.NullHandler())
    elif configure == "level":
        wsseg_log.setLevel(logging.ERROR)
    else:
        root.setLevel(logging.INFO)  # pytest has added handlers
    with progress.shown():
        wsseg_log.info("seeds: runs")
    root.setLevel(level)
    assert capsys.readouterr().err == ""


def test_a_notebook_gets_a_widget_and_no_control_characters(wsseg_log, capsys, monkeypatch):
    """IPython and ipywidgets are replaced by stand-ins that receive what rich draws."""
    shown = []
    display, widgets = ModuleType("IPython.display"), ModuleType("ipywidgets")
    display.display = lambda *things, **_: shown.extend(things)
    widgets.Output = type(
        "Output", (contextlib.nullcontext,), {"clear_output": lambda *_, **__: None, "close": lambda _: None}
    )
    widgets.__spec__ = ModuleSpec("ipywidgets", None)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setitem(sys.modules, "ipywidgets", widgets)
    monkeypatch.setattr(progress, "_console", Console(file=progress.STDERR, force_jupyter=True))
    with progress.shown():
        assert list(track("abc", 3, "reading")) == ["a", "b", "c"]
        wsseg_log.info("seeds: done")
    assert shown and capsys.readouterr().err == "seeds: done\n"

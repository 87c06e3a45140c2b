"""The command group: help, usage errors, and behaviour common to all commands."""

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from wsseg.cli.main import cli
from wsseg.cli.options import Command


def all_commands(group=cli, path="wsseg"):
    """Yield (path, command) of a group and everything in it."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from all_commands(command, f"{path} {name}")


COMMANDS = dict(all_commands())


def test_help_does_without_torch_and_is_quick():
    script = (
        "import sys; from wsseg.cli.main import cli\n"
        "cli(['--help'], standalone_mode=False)\n"
        "assert not {'torch', 'numpy', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-m", "wsseg", "--help"], check=True, capture_output=True)
        after = os.times()
        used = (after.children_user - before.children_user) + (after.children_system - before.children_system)
        seconds.append(used)
    assert min(seconds) < 0.5  # of the CPU: other processes may keep it waiting


@pytest.mark.parametrize("path", COMMANDS)
def test_first_line_of_help_is_a_short_sentence(path):
    first_line = COMMANDS[path].help.splitlines()[0]
    assert len(first_line) <= 45 and first_line.endswith(".") and first_line[0].isupper(), first_line


def test_no_help_is_cut_off_in_lists_of_commands():
    for path in ("wsseg", "wsseg data", "wsseg store"):
        text = CliRunner().invoke(cli, [*path.split()[1:], "--help"]).stdout
        for name, command in COMMANDS[path].commands.items():
            assert f"  {name}  " in text and command.help.splitlines()[0] in text


@pytest.mark.parametrize("path", COMMANDS)
def test_help_of_each_option_is_a_sentence(path):
    command = COMMANDS[path]
    options = [p for p in command.get_params(click.Context(command)) if isinstance(p, click.Option)]
    for option in options:
        assert option.help, f"{option.opts[-1]} has no help"
        assert option.help[0].isupper() and option.help.endswith("."), f"{option.opts[-1]}: {option.help}"


@pytest.mark.parametrize("path", COMMANDS)
def test_help_fits_a_terminal(path):
    """Click wraps paragraphs; examples must be short enough themselves."""
    text = CliRunner().invoke(cli, [*path.split()[1:], "--help"], terminal_width=80).stdout
    assert max(map(len, text.splitlines())) <= 80


def test_every_command_has_the_error_boundary():
    assert all(isinstance(command, Command | click.Group) for command in COMMANDS.values())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "cam_crf"], 2, "Missing option '-c'"),
        (["runn"], 2, "No such command 'runn'"),
        (["run", "cam_crff", "-c", "demo"], 1, "did you mean 'cam_crf'?"),
        (["run", "cam_crf", "-c", "nowhere.toml"], 1, "nowhere.toml: no such file"),
        (["run", "cam_crf", "-c", "{config}", "--set", "segmenter.epoch=3"], 1, "did you mean 'epochs'?"),
        (
            ["run", "full_supervision", "-c", "{config}", "--set", "data.train.labels=none.csv"],
            1,
            "none.csv: cannot be read",
        ),
        (["show", "segmenter"], 1, "there is no store; 'wsseg run' creates one"),
        (["predict", "segmenter", "photos", "-o", "out"], 1, "wsseg-store: there is no store"),
        (["evaluate", "nowhere", "nowhere", "--classes", "classes.txt"], 1, "classes.txt: cannot be read"),
        (["run", "cam_crf", "-c", "{config}", "--store", "{config}"], 2, "is a file"),
    ],
)
def test_a_mistake_is_reported_in_one_line(wsseg, csv_data, arguments, code, message):
    done = wsseg(*[a.format(config=csv_data) for a in arguments])
    assert done.returncode == code and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert code == 2 or done.stderr.count("\n") == 1


def test_a_closed_pipe_is_no_error(tmp_path):
    """As in ``wsseg list | head -1``, whose reader exits first."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "wsseg", "list"], stdout=pipe, stderr=subprocess.PIPE, cwd=tmp_path, timeout=60
        )
    assert done.stderr == b""

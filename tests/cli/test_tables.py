"""Tables: alignment, width, styles, and the numbers in cells."""

import io
from contextlib import redirect_stdout

import pytest

from wsseg.cli.tables import duration, mebibytes, print_table

HEADER = ["step", "size", "why"]
ROWS = [["seeds", "9.5 MiB", ""], ["segmenter", "12.0 MiB", "segmenter.epochs: 20 -> 5; " * 4 + "end"]]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def on_terminal(monkeypatch):
    """Return a function that prints the table on a terminal of 80 columns and returns the output."""
    for name, value in {"COLUMNS": "80", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def output():
        with redirect_stdout(Terminal()) as stream:
            print_table(HEADER, ROWS)
        return stream.getvalue()

    return output


@pytest.mark.parametrize("variable", ["", "FORCE_COLOR"])
def test_a_pipe_gets_one_plain_line_per_row(capsys, monkeypatch, variable):
    if variable:
        monkeypatch.setenv(variable, "1")
    print_table(HEADER, ROWS, numbers=["size"])
    assert capsys.readouterr().out.splitlines() == [
        "step           size  why",
        "seeds       9.5 MiB",
        f"segmenter  12.0 MiB  {ROWS[1][2]}",
    ]


def test_a_terminal_wraps_long_cells_and_has_a_bold_header(on_terminal):
    header, *lines = on_terminal().splitlines()
    assert "\x1b[1m" in header and "\x1b" not in "".join(lines)
    assert len(lines) > 2 and max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines).split()).endswith("20 -> 5; end")


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_styles_can_be_disabled(on_terminal, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert on_terminal().startswith("step") and "\x1b" not in on_terminal()


def test_cells_are_no_markup(capsys):
    print_table(["class"], [["[red]dog[/red]"], [":dog:"], ["1e-3 'x' None"]])
    assert capsys.readouterr().out == "class\n[red]dog[/red]\n:dog:\n1e-3 'x' None\n"


def test_wide_characters_are_aligned(capsys):
    print_table(["class", "images"], [["\u72ac", "1"], ["dog", "2"]])
    assert capsys.readouterr().out == "class  images\n\u72ac     1\ndog    2\n"


def test_a_closed_standard_output_is_no_error(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    print_table(HEADER, ROWS)


def test_numbers():
    assert mebibytes(3 * 2**19) == "1.5 MiB"
    assert [duration(s) for s in (5, 119, 245, 3000, 9000)] == ["5 s", "119 s", "4 min 05 s", "50 min", "2.5 h"]

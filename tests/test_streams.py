"""Standard streams that are closed, full or lost, or that have an encoding without some characters."""

import errno
import io
import os
import subprocess
import sys

import pytest

from wsseg import progress, streams

pytestmark = pytest.mark.slow  # processes, or images made at full size

WSSEG = f'"{sys.executable}" -m wsseg'


def shell(line, cwd, **environment):
    """Run a shell command; returns the finished process with its output in bytes."""
    env = {**os.environ, **environment}
    return subprocess.run(line, shell=True, cwd=cwd, env=env, capture_output=True, timeout=120)  # noqa: S602


@pytest.mark.skipif(os.name != "posix", reason="redirections of a POSIX shell")
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_commands_work_with_closed_streams(csv_data, closed):
    done = shell(f"{WSSEG} data check -c {csv_data.name} {closed}", csv_data.parent)
    assert done.returncode == 0, done.stderr
    assert (b"no problem found" in done.stdout) == (">&- 2" not in closed and closed != ">&-")
    mistake = shell(f"{WSSEG} run nothing -c {csv_data.name} {closed}", csv_data.parent)
    assert mistake.returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="redirections of a POSIX shell")
def test_output_that_cannot_be_written_is_one_line(csv_data):
    done = shell(f"{WSSEG} list > /dev/full", csv_data.parent)
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1 and b"No space left" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="redirections of a POSIX shell")
def test_no_file_gets_the_descriptor_of_a_closed_stream(tmp_path):
    """Otherwise libraries would write their error output into the file."""
    script = (
        "import os\nfrom wsseg import streams\nstreams.prepare()\n"
        "file = open('photo.bin', 'wb')\nassert file.fileno() > 2\nos.write(2, b'a warning of libpng')\n"
    )
    done = shell(f'"{sys.executable}" -c "{script}" <&- >&- 2>&-', tmp_path)
    assert done.returncode == 0 and (tmp_path / "photo.bin").read_bytes() == b""


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_any_text_can_be_printed(encoding, tmp_path):
    script = (
        "import sys, click\nfrom wsseg import streams\nstreams.prepare()\n"
        r"sys.stdout.write('dog\u2191 \xb1 caf\xe9 \u72ac a\udcffb\n'); click.echo('\u2193 a\udcffb')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, cwd=tmp_path, timeout=60
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.decode(encoding if encoding != "ascii" else "utf-8").splitlines()
    expected = {
        "cp1252": "dog^ ± café \\u72ac a\\xffb", "ascii": "dog^ +/- caf\\xe9 \\u72ac a\\xffb", "utf-8": "dog↑ ± café 犬 a\\xffb",
    }  # fmt: skip
    assert first == expected[encoding]
    assert second.startswith(
        {"cp1252": "v", "ascii": "↓", "utf-8": "↓"}[encoding]
    )  # click turns ASCII streams into UTF-8


C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("environment", [C_LOCALE, {"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "ascii"}])
def test_class_names_in_any_script_are_printed(csv_data, environment):
    for file in [csv_data, *csv_data.parent.glob("data/*/labels.csv")]:
        text = file.read_text(encoding="utf-8").replace('"red"', '"犬"').replace(",red", ",犬")
        file.write_text(text, encoding="utf-8")
    done = shell(f"{WSSEG} data check -c {csv_data.name}", csv_data.parent, **environment)
    assert done.returncode == 0 and b"blue 4" in done.stdout, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes")
@pytest.mark.parametrize(("name", "environment"), [(b"caf\xff.png", {}), ("café.png".encode(), C_LOCALE)])
def test_names_that_cannot_be_decoded_are_one_line(csv_data, name, environment):
    folder = os.fsencode(csv_data.parent / "data" / "train" / "images")
    os.rename(folder + b"/001.png", folder + b"/" + name)  # noqa: PTH104
    done = shell(f"{WSSEG} data check -c {csv_data.name}", csv_data.parent, **environment)
    message = (done.stdout + done.stderr).decode()
    assert done.returncode == 1 and "internal error" not in message and "Traceback" not in message
    assert "0xFF, which is not UTF-8" in message or "set PYTHONUTF8=1" in message


class Gone(io.StringIO):
    """A closed terminal."""

    def write(self, text):
        raise OSError(errno.EIO, "Input/output error")

    def flush(self):
        self.write("")

    def isatty(self):
        return True


@pytest.mark.parametrize("stderr", [None, Gone()])
def test_progress_on_a_lost_terminal_ends_no_run(monkeypatch, caplog, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(progress, "_console", None)
    handler = progress.LogHandler()
    progress.log.addHandler(handler)
    try:
        with caplog.at_level("INFO", "wsseg"):
            progress.log.info("a line")
            assert list(progress.track(range(3), 3, "working")) == [0, 1, 2]
    finally:
        progress.log.removeHandler(handler)
        monkeypatch.undo()
        progress._console = None
    assert streams.STDERR.write("") == 0

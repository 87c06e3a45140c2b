"""Tests under other dependencies and Python versions, the documentation, and the files of a release.

nox                     # everything
nox -s lowest package   # some sessions
"""

import configparser
import re
import tempfile
from pathlib import Path

import nox

HERE = Path(__file__).parent
FAST = ("-m", "not slow")
PYTEST = ("python", "-m", "pytest", "-n", "2", "--dist", "worksteal")
nox.options.error_on_missing_interpreters = False


def lowest_versions() -> list[str]:
    """Return the lowest release series that setup.cfg allows of each dependency, such as ``torch==2.6.*``."""
    parser = configparser.ConfigParser()
    parser.read(HERE / "setup.cfg", encoding="utf-8")
    extras = parser["options.extras_require"]
    text = "\n".join([parser["options"]["install_requires"], extras["report"], extras["coco"], extras["export"]])
    return [f"{name}=={version}.*" for name, version in re.findall(r"^([\w-]+) >= ([\d.]+)$", text, re.MULTILINE)]


@nox.session
def lowest(session: nox.Session) -> None:
    """Fast tests with the lowest versions of setup.cfg."""
    constraints = Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text("\n".join(lowest_versions()) + "\n", encoding="utf-8")
    session.install("-e", ".[dev]", "--constraint", str(constraints))
    session.run("python", "-m", "pip", "list")
    session.run(*PYTEST, *FAST, *session.posargs)


@nox.session
def newest(session: nox.Session) -> None:
    """All tests with the newest versions."""
    session.install("--upgrade", "--upgrade-strategy", "eager", "-e", ".[dev]")
    session.run(*PYTEST, *session.posargs)


@nox.session(python=["3.11", "3.12", "3.13"])
def python(session: nox.Session) -> None:
    """Fast tests with each Python version at hand."""
    session.install("-e", ".[dev]")
    session.run(*PYTEST, *FAST, *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a broken link or an unknown name is an error."""
    session.install("-e", ".[dev]")
    session.run("python", "-m", "mkdocs", "build", "--strict", "--site-dir", str(Path(session.create_tmp()) / "site"))


@nox.session
def package(session: nox.Session) -> None:
    """Build sdist and wheel, install the wheel without extras in an empty environment, and run a tiny pipeline there."""
    dist = Path(session.create_tmp()) / "dist"
    for old in dist.glob("*"):
        old.unlink()
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(dist), str(HERE))  # the wheel is built from the sdist
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    session.log(f"{wheel.name}, {sdist.name}")
    session.run("python", "-m", "pip", "uninstall", "--yes", "--quiet", "build", "pyproject_hooks")
    session.install(str(wheel))
    tiny = ["--set", "data.train.images=8", "--set", "data.val.images=4", "--set", "data.size=64"]
    for table in ("classifier", "segmenter"):
        tiny += ["--set", f"{table}.epochs=1", "--set", f"{table}.size=64", "--set", f"{table}.batch_size=4"]
    with tempfile.TemporaryDirectory() as folder, session.chdir(folder):
        session.run("wsseg", "--help", silent=True)
        session.run("wsseg", "run", "cam_crf", "-c", "demo", *tiny)
        session.run("wsseg", "status")

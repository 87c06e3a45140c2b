"""The documentation: its commands and code run, and its site builds."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image as PILImage

from tests import commands
from tests.conftest import REPOSITORY, shrink_config, write_csv_data

DOCS = REPOSITORY / "docs"
PAGES = ("tutorial.md", "howto/look.md", "howto/quality.md", "howto/export.md", "howto/python.md", "howto/run.md")


def blocks(page):
    """Return (language, text) of the fenced ``console`` and ``python`` blocks of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [
        (kind, body)
        for kind, body in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        if kind in ("console", "python")
    ]


@pytest.mark.slow
def test_commands_and_code_of_the_pages_run(tmp_path):
    """All pages run in order, in one folder of generated photographs."""
    write_csv_data(tmp_path / "source")
    shutil.copytree(tmp_path / "source" / "data" / "train" / "images", tmp_path / "photos")
    shutil.copy(tmp_path / "source" / "data" / "train" / "labels.csv", tmp_path / "photos")
    env = {k: v for k, v in os.environ.items() if k != "WSSEG_STORE"} | {"PYTHONPATH": str(REPOSITORY)}

    def check(done, what):
        assert done.returncode == 0, f"{what}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    count = 0
    for page in PAGES:
        for kind, body in blocks(page):
            if kind == "python":
                if "onnxruntime" in body:
                    pytest.importorskip("onnxruntime", reason="pip install wsseg[export]")
                script = tmp_path / f"block_{count}.py"
                script.write_text(body, encoding="utf-8")
                command = [sys.executable, script.name]
                check(subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300), body)
                count += 1
                continue
            for line in body.splitlines():
                words = line.removeprefix("$ wsseg ").split()
                assert line.startswith("$ wsseg "), line
                output = check(commands.run(*words, cwd=tmp_path, env=env), line)
                if words[0] == "init":
                    shrink_config(tmp_path / "mine.toml")
                if words[0] == "run":
                    page_file = tmp_path / re.search(r"report: (.*)", output)[1]
                    assert page_file.read_text(encoding="utf-8").startswith("<!doctype html>")
                count += 1
    assert count > 12
    assert len(list((tmp_path / "masks").glob("*.png"))) == 12


@pytest.mark.slow
def test_the_example_of_the_readme_runs_as_a_script(tmp_path):
    """The script has no ``if __name__ == "__main__"``, and the run uses worker processes."""
    example = dict(blocks("../README.md"))["python"]
    config = write_csv_data(tmp_path).rename(tmp_path / "mine.toml")
    text = config.read_text(encoding="utf-8")
    for table in ("classifier", "pseudo_masks", "walk", "segmenter"):
        text = re.sub(rf"^\[{table}\]", f"[{table}]\nworkers = 2", text, flags=re.MULTILINE)
    config.write_text(text, encoding="utf-8")
    PILImage.open(tmp_path / "data" / "val" / "images" / "001.png").save(tmp_path / "photo.jpg")
    (tmp_path / "example.py").write_text(f"{example}print('masks of', run.id, mask.shape)\n", encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("masks of") == 1 and done.stdout.rstrip().endswith("(48, 64)")
    assert len(list((tmp_path / "wsseg-store" / "runs").glob("*.json"))) == 1


def test_no_page_has_untested_python_blocks():
    """Outside `PAGES`, crf.md has blocks with undefined arrays, and contributing/stage.md an excerpt of a real stage."""
    pages = {p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md") if "```python" in p.read_text(encoding="utf-8")}
    assert pages <= {*PAGES, "crf.md", "contributing/stage.md"}
    stage = (REPOSITORY / "wsseg" / "stages" / "measure_classifier" / "stage.py").read_text(encoding="utf-8")
    statements = {line.split("#")[0].strip() for line in stage.splitlines()}
    for _, body in blocks("contributing/stage.md"):
        assert {line.split("#")[0].strip() for line in body.splitlines()} <= statements
    imported = [
        line for kind, body in blocks("crf.md") if kind == "python" for line in body.splitlines() if "import" in line
    ]
    exec("\n".join(imported), {})  # noqa: S102


def test_every_documented_command_exists():
    """Every ``wsseg COMMAND --option`` in the README or the docs exists."""
    from wsseg.cli.main import cli

    for page in [REPOSITORY / "README.md", *DOCS.rglob("*.md")]:
        for words in re.findall(
            r"(?:^\$ |^    |`)wsseg ([a-z]+[^`\n#]*)", page.read_text(encoding="utf-8"), re.MULTILINE
        ):
            name, *rest = words.split()
            assert name in cli.commands, f"{page}: wsseg {words}"
            command = cli.commands[name]
            if hasattr(command, "commands"):
                command = command.commands[rest[0]]
            options = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
            assert {w for w in rest if w.startswith("--")} <= options, f"{page}: wsseg {words}"


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    """Strict mode checks all links and documented names; the pages load no fonts from other servers."""
    pytest.importorskip("mkdocs", reason="pip install wsseg[dev]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "load_segmenter" in (tmp_path / "site" / "reference" / "python" / "index.html").read_text(encoding="utf-8")
    assert "fonts.googleapis" not in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


def test_files_and_modules_that_the_pages_name_exist():
    pages = [DOCS / "reliability.md", *(DOCS / "contributing").glob("*.md"), *(DOCS / "decisions").glob("*.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:wsseg|tests|scripts|pipelines|configs|docs)/[\w./]*)`", text):
            assert (REPOSITORY / name).exists(), f"{page.name}: {name}"
        for name in re.findall(r"`(wsseg(?:\.\w+)+)`", text):
            module, _, attribute = name.rpartition(".")
            spec = importlib.util.find_spec(name) if (REPOSITORY / module.replace(".", "/")).is_dir() else None
            assert spec or hasattr(importlib.import_module(module), attribute), f"{page.name}: {name}"

"""The wheel, built for real: what it holds, and that it runs from an empty folder."""

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .conftest import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source") / "wsseg"
    # a copy of what git would give, so that no build rest of the working folder gets in
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in files.stdout.splitlines():
        if (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((REPOSITORY / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return next(out.glob("*.whl"))


def test_every_folder_of_the_package_is_listed_in_setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    listed = parser["options"]["packages"].split()
    folders = {path.parent.relative_to(REPOSITORY) for path in (REPOSITORY / "wsseg").rglob("*.py")}
    from_the_top = {"wsseg.configs", "wsseg.pipelines"}  # carried in by package_dir; they hold no Python
    templates = {"wsseg.report.templates"}
    assert set(listed) - from_the_top - templates == {".".join(folder.parts) for folder in folders}
    assert listed == sorted(set(listed))


@pytest.mark.slow
def test_the_wheel_holds_the_package_its_recipes_and_configs_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"wsseg"}
    own = {name for name in names if name.startswith("wsseg/")}
    for folder in ("pipelines", "configs"):
        shipped = {f"wsseg/{folder}/{p.name}" for p in (REPOSITORY / folder).glob("*.toml")}
        assert shipped and shipped == {n for n in own if n.startswith(f"wsseg/{folder}/")}
    modules = {str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "wsseg").rglob("*.py")}
    assert modules == {n for n in own if n.endswith(".py")} and "wsseg/py.typed" in own


@pytest.mark.slow
def test_the_wheel_plans_a_shipped_recipe_from_an_empty_folder(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    empty = tmp_path / "empty"
    empty.mkdir()
    script = f"import sys; sys.path.insert(0, {str(site)!r}); import wsseg; assert wsseg.__file__.startswith({str(site)!r}); from wsseg.cli.main import main; sys.argv = ['wsseg', 'plan', 'cam_crf', '-c', 'demo', '--set', 'data.train.images=8', '--set', 'data.val.images=4']; main()"
    done = subprocess.run([sys.executable, "-c", script], cwd=empty, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.count("never ran") == 9, done.stderr

"""What surrounds a run: scripts of every form, variables of launchers, locales, and closed streams."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.stress.trial import RECIPE, Trial

_SCRIPT = "import wsseg\nprint('run', wsseg.run({recipe!r}, {config!r}, store={store!r}).id)\n"


_C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


ENVIRONMENTS = {
    "RANK=": {"RANK": "", "WORLD_SIZE": "", "LOCAL_RANK": ""},
    "RANK alone": {"RANK": "3"},
    "RANK=x": {"RANK": "x", "LOCAL_RANK": "y"},
    "MPI's leftovers": {"PMI_SIZE": "2", "PMI_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
    "C locale": _C_LOCALE,
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
}


REFUSED = {"WORLD_SIZE alone": {"WORLD_SIZE": "2"}, "WORLD_SIZE=x": {"WORLD_SIZE": "x"}}


REDIRECTIONS = ("2>&-", ">&-", "<&- >&- 2>&-", "2>/dev/full")


def scripts(trial: Trial, count: int) -> int:
    """Call `wsseg.run` from scripts in the forms that scripts have."""
    forms = ("file", "pipe", "guarded", "removed", "module", "command")[:count]
    for form in forms:
        store, place = trial.store(), trial.folder / form
        place.mkdir()
        text = _SCRIPT.format(recipe=RECIPE, config=str(trial.config), store=str(store))
        if form == "guarded":
            text = "import wsseg\nif __name__ == '__main__':\n    " + text.splitlines()[1] + "\n"
        if form == "removed":
            text = f"import os\nos.remove(__file__)\n{text}"
        path = place / "script.py"
        path.write_text(text, encoding="utf-8")
        words = {"pipe": ["-"], "module": ["-m", f"{form}.script"], "command": ["-c", text]}.get(form, [str(path)])
        with path.open("rb") as given:
            trial.ended(f"script, {form}", [sys.executable, *words], store, stdin=given)
    if count <= len(forms):  # the test suite launches two processes in tests/test_processes.py
        return len(forms)
    store = trial.store()
    path = trial.folder / "launched.py"
    path.write_text(_SCRIPT.format(recipe=RECIPE, config=str(trial.config), store=str(store)), encoding="utf-8")
    launch = [  # as --standalone, but by number: a machine may not know the name localhost
        sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0",
        "--local-addr=127.0.0.1", "--nproc_per_node=2", str(path),
    ]  # fmt: skip
    expected, trial.expected = trial.expected, None  # two processes add their gradients in another order
    trial.ended("script, torchrun", launch, store)
    trial.expected = expected
    return len(forms) + 1


def surroundings(trial: Trial, count: int) -> int:
    """Run in odd environments, and with streams that are closed or full."""
    kept, refused, lines = list(ENVIRONMENTS)[:count], list(REFUSED)[:count], REDIRECTIONS[:count]
    for what in kept:
        trial.ended(what, trial.words(store := trial.store()), store, env=ENVIRONMENTS[what])
    for what in refused:
        trial.ended(what, trial.words(store := trial.store()), store, codes=(1,), env=REFUSED[what])
    for redirection in lines:
        line = subprocess.list2cmdline(trial.words(store := trial.store()))
        trial.ended(redirection, f"{line} {redirection}", store)
    return len(kept) + len(refused) + len(lines)


def stress(count: int, folder: Path) -> dict[str, Any]:
    """Run in `count` surroundings of each kind at most."""
    shutil.rmtree(folder, ignore_errors=True)
    trial = Trial(folder)
    metrics = {}
    if trial.run_undisturbed():
        metrics = {"scripts": scripts(trial, count), "surroundings": surroundings(trial, count)}
    return {**metrics, "failures": trial.failures}

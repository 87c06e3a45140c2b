"""Flipped bits, cut files and files crafted to execute: found by digest at use, named, rebuilt; never run, never believed."""

import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from tests.stress.children import Child, digests, run_words, write_config, wsseg
from wsseg.config import read_toml
from wsseg.errors import WssegError
from wsseg.models.weights import read_state
from wsseg.store.artifact import FILES, MANIFEST
from wsseg.store.files import atomic_write, canonical_json
from wsseg.store.objects import ArtifactStore
from wsseg.store.runs import find_artifact

PATIENCE = 120.0
SECONDS = 5.0  # that a use of a damaged file may take


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return other bytes than `data`."""
    changed = bytearray(data)
    how = int(rng.integers(5)) if changed else 3
    place = int(rng.integers(max(len(changed), 1)))
    if how == 0:
        changed[place] ^= 1 << int(rng.integers(8))
    elif how == 1:
        changed = changed[:place]
    elif how == 2:
        end = min(len(changed), place + int(rng.integers(1, 64)))
        zeros = bytes(end - place)
        changed[place:end] = zeros if changed[place:end] != zeros else b"\xff" * len(zeros)
    elif how == 3:
        changed += rng.bytes(int(rng.integers(1, 64)))
    else:
        changed[place:place] = rng.bytes(int(rng.integers(1, 64)))
    return bytes(changed)


def over_bytes(count: int, store: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Damage one file at a time and use it; every use must name the file, and the file made whole is well again."""
    opened = ArtifactStore(store)
    places = [(key, name) for key in opened.keys() for name in (MANIFEST, FILES, *digests(store)[key])]
    failures: list[str] = []
    kinds: dict[str, int] = {}
    for number in range(count):
        key, name = places[number % len(places)]
        path = store / "objects" / key / name
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, rng))
        kinds[path.suffix] = kinds.get(path.suffix, 0) + 1
        begin = time.monotonic()
        try:
            artifact = opened.get(key)
            if artifact is not None:
                artifact.read_bytes(name) if name not in (MANIFEST, FILES) else artifact.files
            failures.append(f"{name} of {key[:8]}: damage was not noticed")
        except WssegError as error:
            if path.name not in str(error):
                failures.append(f"{name} of {key[:8]}: the error does not name it: {error}")
        except Exception as error:  # noqa: BLE001 (that is what is looked for)
            failures.append(f"{name} of {key[:8]}: {type(error).__name__}: {error}")
        if (took := time.monotonic() - begin) > SECONDS:
            failures.append(f"{name} of {key[:8]}: took {took:.1f} s")
        path.write_bytes(whole)
    return {"cases": count, "by_suffix": kinds, "failures": failures}


def over_repairs(count: int, config: Path, store: Path, rng: np.random.Generator, log: Path) -> dict[str, Any]:
    """Damage a file, run: refused in one line that names it; run with --repair: the same bytes as before."""
    expected = digests(store)
    failures: list[str] = []
    for _ in range(count):
        key = str(rng.choice(sorted(expected)))
        name = str(rng.choice([MANIFEST, FILES, *sorted(expected[key])]))
        path = store / "objects" / key / name
        path.write_bytes(path.read_bytes()[:-1])  # sizes are looked at even where nothing is read
        words = run_words(config, store)
        child = Child(wsseg(words), log)
        if child.wait(PATIENCE) != 1 or path.name not in child.output or "--repair" not in child.output:
            failures.append(f"{name}: the run did not name it: {child.output[-200:]}")
        child = Child(wsseg([*words, "--repair"]), log)
        if (code := child.wait(PATIENCE)) != 0:
            failures.append(f"{name}: --repair ended with {code}: {child.output[-200:]}")
        elif digests(store) != expected:
            failures.append(f"{name}: rebuilt to other bytes")
    return {"repairs": count, "failures": failures}


def sound_weights() -> list[tuple[str, bytes]]:
    """Return small weights files by suffix: safetensors, torch's archive, its old form, and a nested checkpoint."""
    state = {"a.weight": torch.arange(6.0).view(2, 3), "b.steps": torch.tensor(3), "c.half": torch.ones(4).half()}
    files = [(".safetensors", safetensors.torch.save(state))]
    nested = {"state_dict": OrderedDict(state), "epoch": 3, "optimizer": {"lr": [0.1]}}
    for suffix, content, archive in (
        (".pth", state, True),
        (".pt", nested, True),
        (".pth", state, False),
        (".bin", nested, False),
    ):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=archive)
        files.append((suffix, buffer.getvalue()))
    return files


def over_weights(count: int, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Damage small weights files once to three times each; every one must be read, or refused in one line that names it."""
    folder.mkdir(parents=True, exist_ok=True)
    forms = sound_weights()
    failures: list[str] = []
    refused = 0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        suffix, data = forms[number % len(forms)]
        for _ in range(int(rng.integers(1, 4))):
            data = damaged(data, rng)
        path = folder / f"w{suffix}"
        path.write_bytes(data)
        begin = time.monotonic()
        try:
            read_state(path)
        except WssegError as error:
            refused += 1
            if "\n" in str(error) or str(path) not in str(error):
                failures.append(f"{number}{suffix}: not one line that names it: {error}")
        except Exception as error:  # noqa: BLE001
            failures.append(f"{number}{suffix}: {type(error).__name__}: {str(error)[:200]}")
        if (took := time.monotonic() - begin) > SECONDS:
            failures.append(f"{number}{suffix}: took {took:.1f} s")
    if (grown := (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) >> 10) > 256:
        failures.append(f"weights of a few kilobytes took {grown} MiB")
    return {"weights": count, "weights_refused": refused, "failures": failures}


class _Touch:
    """Unpickling one of these makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def over_hostile_files(folder: Path) -> dict[str, Any]:
    """Offer files that would execute, or explode, where networks, arrays and values are expected."""
    folder.mkdir(parents=True, exist_ok=True)
    trace = folder / "executed"
    evil = pickle.dumps(_Touch(trace))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", evil)
        file.writestr("archive/version", "3\n")
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(2**28))
    length = (2**40).to_bytes(8, "little")
    files = {
        "pickle.safetensors": evil, "pickle.pth": evil, "pickle.pt": evil, "pickle.bin": evil,
        "archive.pth": archive.getvalue(), "archive.pt": archive.getvalue(), "bomb.pth": bomb.getvalue(),
        "pickle.npz": evil, "archive.npz": archive.getvalue(), "bomb.npz": bomb.getvalue(),
        "header.safetensors": length + b"{}", "nothing.safetensors": b"", "text.safetensors": b"hello",
        "deep.safetensors": (20_000).to_bytes(8, "little") + b"[" * 20_000,
        "yaml.toml": b"!!python/object/apply:os.mkdir ['" + str(trace).encode() + b"']\n",
        "deep.toml": b"a = " + b"[" * 100_000, "zeros.toml": bytes(1000), "laughs.toml": b"&a [*a, *a]\n",
    }  # fmt: skip
    failures = []
    for name, data in files.items():
        (folder / name).write_bytes(data)
        begin = time.monotonic()
        try:
            (read_toml if name.endswith(".toml") else read_state)(folder / name)
            failures.append(f"{name}: was read in peace")
        except WssegError as error:
            if "\n" in str(error) or name not in str(error):
                failures.append(f"{name}: not one line that names it: {error}")
        except Exception as error:  # noqa: BLE001
            failures.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
        if trace.exists():
            failures.append(f"{name}: was executed")
            trace.rmdir()
        if (took := time.monotonic() - begin) > SECONDS:
            failures.append(f"{name}: took {took:.1f} s")
    return {"hostile": len(files), "failures": failures}


# none of them names a place of the system: a check that fails must not cost the machine
FORGED = [
    "../../../mine/a.png", "seeds/../../../../mine/a.png", "{mine}/a.png", "/{mine}", "..", ".", "a/..", "a/./b", "a//b", "a/", "a\\b", "a\rb",
    "a\x00b", "",
]  # fmt: skip


def forged_store(folder: Path, case: str, mine: Path, key: str) -> ArtifactStore:
    """Return a store with one artifact that names, or is linked to, the user's folder `mine`; all its digests are right."""
    store = ArtifactStore(folder)
    manifest = {"kind": "seeds", "step": "toy", "stage": "toy", "metrics": {}, "provenance": {}}
    atomic_write(store.open_work(key) / "seeds" / "a.png", b"made")
    made = store.complete(key, manifest).folder
    if case in FORGED:
        line = f"{hashlib.sha256(b'other').hexdigest()} 5 {case.format(mine=mine)}\n".encode()
        (made / FILES).write_bytes(line)
        body = {**json.loads((made / MANIFEST).read_text()), "files_sha256": hashlib.sha256(line).hexdigest()}
        del body["sha256"]
        body["sha256"] = hashlib.sha256(canonical_json(body)).hexdigest()
        (made / MANIFEST).write_text(json.dumps(body))
    elif case == "link to a file":
        (made / "seeds" / "a.png").unlink()
        (made / "seeds" / "a.png").symlink_to(mine / "a.png")
    elif case == "link to a folder":
        shutil.rmtree(made / "seeds")
        (made / "seeds").symlink_to(mine)
    elif case == "link to an object":
        shutil.rmtree(made)
        made.symlink_to(mine)
    elif case == "link to work":
        (folder / "work" / ("b" * 64)).symlink_to(mine)
    else:
        step = {"key": "../../mine", "stage": "toy", "version": 1, "config": {}, "inputs": {}}
        record = {"recipe": "toy", "config_name": "toy", "started": "", "status": "finished", "steps": {"toy": step}}
        store.save_run("toy", record)
    return store


def uses_of(store: ArtifactStore, key: str) -> Iterator[Callable[[], object]]:
    """Yield all that commands do with a store: read, verify, look up, repair, resume, remove."""

    def read() -> None:
        artifact = store.get(key)
        if artifact is not None:
            artifact.damaged_files()
            artifact.read_bytes("seeds/a.png")

    yield from (read, store.runs, partial(find_artifact, store, "toy"), partial(store.reopen, key))
    yield from (partial(store.open_work, "b" * 64), partial(store.collect, 0), partial(store.garbage, 0))


def over_forged_stores(folder: Path) -> dict[str, Any]:
    """Offer artifacts whose digests are right and whose names, keys or links lead out of the store: nothing outside is touched."""
    mine, key = folder / "mine", "a" * 64
    mine.mkdir(parents=True, exist_ok=True)
    (mine / "a.png").write_bytes(b"the user's")
    failures = []
    cases = [*FORGED, "link to a file", "link to a folder", "link to an object", "link to work", "key"]
    for number, case in enumerate(cases):
        for use in uses_of(forged_store(folder / f"store{number}", case, mine, key), key):
            try:
                use()
            except WssegError as error:
                if "\n" in str(error):
                    failures.append(f"{case!r}: not one line: {error}")
            except FileNotFoundError:  # the artifact is gone by now
                pass
            except Exception as error:  # noqa: BLE001
                failures.append(f"{case!r}: {type(error).__name__}: {error}")
        if [p.name for p in mine.iterdir()] != ["a.png"] or (mine / "a.png").read_bytes() != b"the user's":
            failures.append(f"{case!r}: a file outside the store was touched")
    return {"forged": len(cases), "failures": failures}


def stress(count: int, folder: Path) -> dict[str, Any]:
    """Damage `count` files and 20 times as many weights files, repair a hundredth as many, offer hostile ones."""
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    config, store = write_config(folder), folder / "store"
    child = Child(wsseg(run_words(config, store)), folder / "run.log")
    if (code := child.wait(PATIENCE)) != 0:
        return {"failures": [f"the undisturbed run ended with {code}: {child.output[-300:]}"]}
    byte_cases = over_bytes(count, store, rng)
    repairs = over_repairs(max(2, count // 100), config, store, rng, folder / "run.log")
    hostile = over_hostile_files(folder / "hostile")
    weights = over_weights(20 * count, folder / "weights", rng)
    forged = over_forged_stores(folder / "forged")
    failures = [f for part in (byte_cases, repairs, hostile, weights, forged) for f in part.pop("failures")]
    return {**byte_cases, **repairs, **hostile, **weights, **forged, "failures": failures}

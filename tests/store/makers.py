"""Small artifacts and run records."""

import hashlib
import json

from wsseg.store.artifact import FILES, MANIFEST
from wsseg.store.files import atomic_write, canonical_json


def make_artifact(store, key="a" * 64, **files):
    """Complete an artifact that holds ``seeds/NAME.png`` for each name and text."""
    work = store.open_work(key)
    for name, text in (files or {"one": "1", "two": "2"}).items():
        atomic_write(work / "seeds" / f"{name}.png", text.encode())
    return store.complete(key, {"kind": "seeds", "step": "seeds", "provenance": {}, "metrics": {}})


def forge_artifact(store, key="a" * 64, table=None, **manifest):
    """Make an artifact with correct digests whose files.txt or manifest was edited on purpose; returns its folder."""
    artifact = make_artifact(store, key)
    table = (artifact.folder / FILES).read_bytes() if table is None else table
    (artifact.folder / FILES).write_bytes(table)
    body = {**artifact.manifest, "files_sha256": hashlib.sha256(table).hexdigest(), **manifest}
    body["sha256"] = hashlib.sha256(canonical_json(body)).hexdigest()
    (artifact.folder / MANIFEST).write_text(json.dumps(body))
    return artifact.folder


def run_record(*keys, started="2026-01-01"):
    """Return the record of a finished run whose steps s0, s1 ... have these keys."""
    step = {"stage": "make_seeds", "version": 1, "config": {}, "inputs": {}}
    return {"recipe": "r", "config_name": "c", "started": started, "status": "finished",
            "steps": {f"s{i}": {**step, "key": key} for i, key in enumerate(keys)}}  # fmt: skip

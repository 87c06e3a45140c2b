"""Atomic writes."""

import os

import pytest

from wsseg.store.files import atomic_write


def test_a_failed_write_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        atomic_write(tmp_path / "f", b"data")
    assert list(tmp_path.iterdir()) == []

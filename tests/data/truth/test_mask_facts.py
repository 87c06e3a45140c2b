"""Pixel counts of mask files."""

import sqlite3

import numpy as np
import pytest
from PIL import Image as PILImage

from wsseg.data.mask_colors import MaskColors
from wsseg.data.reading import inspect_file
from wsseg.data.truth import mask_facts
from wsseg.data.truth.mask_facts import MaskFacts, MaskMemory

VALUES = np.array([[0, 1, 2], [3, 255, 0], [0, 1, 0], [0, 0, 0]], dtype=np.uint8)


@pytest.fixture
def masks(tmp_path):
    """Return the digests of three mask files by path."""
    for number in range(3):
        PILImage.fromarray(np.roll(VALUES, number)).save(tmp_path / f"{number}.png")
    return {path: inspect_file(path).sha256 for path in sorted(tmp_path.glob("*.png"))}


def test_pixels_and_border_are_counted(masks):
    path, digest = next(iter(masks.items()))
    facts = mask_facts.facts_of(path, digest)
    assert facts.size == (4, 3) and facts.stated is None
    assert facts.pixels == {0: 7, 1: 2, 2: 1, 3: 1, 255: 1}
    assert facts.border == {0: 10, 1: 1, 2: 2, 3: 1}  # corners count twice


def test_a_file_that_is_not_a_mask_has_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    facts = mask_facts.facts_of(tmp_path / "a.png", inspect_file(tmp_path / "a.png").sha256)
    assert facts == MaskFacts(error=facts.error) and facts.error.startswith("not an image")


def test_each_mask_is_counted_once(masks, tmp_path, monkeypatch):
    counted = []
    facts_of = mask_facts.facts_of
    monkeypatch.setattr(mask_facts, "facts_of", lambda path, *args: counted.append(path.name) or facts_of(path, *args))
    memory = MaskMemory(tmp_path / "files.sqlite")
    facts = memory.facts(masks, "counting")
    assert sorted(counted) == ["0.png", "1.png", "2.png"]
    assert memory.facts(masks, "counting") == facts and len(counted) == 3
    changed = tmp_path / "1.png"
    PILImage.fromarray(255 - VALUES).save(changed)
    memory.facts({**masks, changed: inspect_file(changed).sha256}, "counting")
    assert counted[3:] == ["1.png"]


def test_a_damaged_row_is_counted_again(masks, tmp_path):
    memory = MaskMemory(tmp_path / "files.sqlite")
    facts = memory.facts(masks, "counting")
    with sqlite3.connect(memory.path) as database:
        assert database.execute("UPDATE mask SET facts = replace(facts, '[255, 1]', '[255, 6]')").rowcount == 3
    assert memory.facts(masks, "counting") == facts


def test_counts_of_colours_are_not_reused_for_other_colours(tmp_path):
    path = tmp_path / "a.png"
    PILImage.new("RGB", (3, 2), (128, 0, 0)).save(path)
    digests = {path: inspect_file(path).sha256}
    for value in (1, 2):
        memory = MaskMemory(tmp_path / "files.sqlite", MaskColors({(128, 0, 0): value}, "labelmap.txt"))
        assert memory.facts(digests, "counting")[path].pixels == {value: 6}
    assert "a mask of colours" in MaskMemory(tmp_path / "files.sqlite").facts(digests, "counting")[path].error

"""Recognise sequences in a folder (`wsseg init`): a FASTA file or array, its label table, and its true intervals."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wsseg.data.scan import FolderScan
from wsseg.data.sequences import ARRAY_SUFFIXES, FASTA_SUFFIXES, LETTERS, read_records
from wsseg.errors import DatasetError, counted

_TABLES = (".csv", ".tsv", ".txt")
_SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev", "test")}
_SHORTEST, _LONGEST = 32, 4096  # of the training crops


def sequence_table(scan: FolderScan, notes: list[str]) -> dict[str, Any] | None:
    """Return a config table ``[data]`` for the sequences in a folder, or None if there are none.

    The label table and the intervals of ``train.fa`` are ``train.csv`` and ``train.bed`` beside it, or the only files of their
    kind in the folder.

    Args:
        scan: the folder.
        notes: one line per assumption is appended.

    Raises:
        DatasetError: there are sequences and no label table.
    """
    sources = [path for path in scan.files if path.name.lower().endswith(FASTA_SUFFIXES)]
    if not sources:
        sources = [path for path in scan.files if path.suffix.lower() in ARRAY_SUFFIXES and not _is_truth(path)]
    if not sources or scan.photographs:
        return None
    by_split = {split: path for split in _SPLITS if (path := _of_split(sources, split))}
    by_split.setdefault("train", next((p for p in sources if p not in by_split.values()), sources[0]))
    table: dict[str, Any] = {"kind": "sequences"}
    for split, path in sorted(by_split.items()):
        if split != "train" and path == by_split["train"]:
            continue
        labels = _beside(scan.files, path, _TABLES)
        if labels is None:
            raise DatasetError(
                f"{path}: no label table is beside it; expected {_stem(path)}.csv with the header image_id,classes and one row "
                "per sequence"
            )
        masks = _beside(scan.files, path, (".bed",)) or next(
            (p for p in scan.files if _is_truth(p) and _same_split(p, path)), None
        )
        table[split] = {"sequences": path, "labels": labels} | ({"masks": masks} if masks else {})
        records = read_records(path)
        notes.append(
            f"{split}: {counted(len(records.ids), 'sequence')} in {scan.relative(path)}, labels from {scan.relative(labels)}"
            + (f", true places from {scan.relative(masks)}" if masks else "")
        )
    used = {path for part in table.values() if isinstance(part, dict) for path in part.values()}
    notes += [f"not used: {scan.relative(path)}" for path in sources if path not in used]
    return table


def sequence_values(table: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the config tables of the stages for sequences; crops have the length of the longest sequence, within bounds."""
    records = read_records(table["train"]["sequences"])
    length = int(records.lengths.max())
    size = min(max(length, _SHORTEST), _LONGEST)
    network = {"weights": "none", "frozen_levels": 0, "size": size, "learning_rate": 2e-3, "head_lr_multiplier": 1.0}
    return {
        # class maps see 19 places around each place; for letters the gradient ends at the motif
        **({"seeds": {"method": "input_x_gradient"}} if records.channels == LETTERS else {}),
        "classifier": {"backbone": "cnn_1d", "pooling": "lse", **network},
        "pseudo_masks": {"levels": [0.35], "crf": "chain"},
        "segmenter": {"architecture": "unet_1d", **network},
        "predictions": {"crf": "off"},
        "evaluation": {"boundary": False},
    }


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def _is_truth(path: Path) -> bool:
    words = _stem(path).lower().replace("-", "_").split("_")
    return path.suffix.lower() == ".npy" and bool({"mask", "masks", "truth"} & set(words))


def _split_of(path: Path) -> str:
    words = {*_stem(path).lower().replace("-", "_").split("_"), path.parent.name.lower()}
    return next((split for split, names in _SPLITS.items() if words & set(names)), "")


def _same_split(path: Path, other: Path) -> bool:
    return _split_of(path) == _split_of(other)


def _of_split(paths: Iterable[Path], split: str) -> Path | None:
    return next((path for path in paths if _split_of(path) == split), None)


def _beside(files: Iterable[Path], source: Path, suffixes: tuple[str, ...]) -> Path | None:
    """Return the file that belongs to a source: of the same stem, or the only one of its split in the same folder."""
    near = [path for path in files if path.parent == source.parent and path.suffix.lower() in suffixes]
    same = [path for path in near if _stem(path) == _stem(source)]
    of_split = [path for path in near if _same_split(path, source)]
    return same[0] if same else of_split[0] if len(of_split) == 1 else None

"""Match the image names in label files with photographs on disk (`wsseg init`)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from wsseg.data.label_files import AmbiguousLabelsError, ParsedLabels, name_parts, without_upload_prefix
from wsseg.data.scan import FolderScan
from wsseg.names import composed

Labels = dict[Path, frozenset[str]]  # class names by photograph
_Matches = dict[Path, dict[str, Path]]  # by base folder: photographs by the name in the label file


@dataclass
class SplitLabels:
    """The labels of one split from one source.

    Args:
        source: the label file or folder, for messages.
        split: ``train``, ``val``, ``test`` or empty.
        base: the folder that image ids are relative to.
        labels: class names by photograph.
        unmatched: image names without a photograph.
        parsed: the content of the label file, if there is one.
    """

    source: Path
    split: str
    base: Path
    labels: Labels
    unmatched: list[str] = field(default_factory=list)
    parsed: ParsedLabels | None = None


def match_photographs(scan: FolderScan, parsed: ParsedLabels) -> list[SplitLabels]:
    """Find the photographs that a label file names, in the most probable folder.

    Names are compared as paths first, then by their last part, then without the prefix of Label Studio's uploads.

    Returns:
        One item, or one item per split if only the folders of the photographs show the splits; an empty list if
        fewer than half of the photographs exist.

    Raises:
        AmbiguousLabelsError: several folders have photographs of the same names.
    """
    split = parsed.split or scan.split_of(parsed.source)
    best: _Matches = {}
    for parts_of in (name_parts, _last_part, _last_part_without_prefix):
        matches = _matches(scan, parsed, parts_of)
        if _most(matches) > _most(best):
            best = matches
        if _most(best) == len(parsed.classes):
            break
    if 2 * _most(best) < len(parsed.classes) or not best:
        return []
    base = _most_probable_base(scan, parsed, split, best)
    return _by_split(scan, parsed, split, base, best[base])


def _most(matches: _Matches) -> int:
    return max(map(len, matches.values()), default=0)


def _matches(scan: FolderScan, parsed: ParsedLabels, parts_of: Callable[[str], tuple[str, ...]]) -> _Matches:
    """Return the matches of each base folder that has at least half of the photographs.

    If no base folder has nine tenths of them, photographs whose names are unique among all folders are matched instead.
    """
    matches: _Matches = {}
    for name in parsed.classes:
        parts = tuple(map(composed, parts_of(name)))
        for path in scan.by_stem.get(parts[-1], []) if parts else []:
            base = _base(path, parts)
            if base is not None and base.is_relative_to(scan.root):
                of_base = matches.setdefault(base, {})
                if name not in of_base or path.name == Path(name).name:
                    of_base[name] = path
    if 10 * _most(matches) < 9 * len(parsed.classes):
        unique = _unique(matches)
        if len(unique) > _most(matches):
            return {scan.root: unique}
    return {base: paths for base, paths in matches.items() if 2 * len(paths) >= len(parsed.classes)}


def _base(path: Path, parts: tuple[str, ...]) -> Path | None:
    """Return the folder from which `parts` lead to `path`, or None."""
    tail = (*map(composed, path.parts[-len(parts) : -1]), composed(path.stem))
    return path.parents[len(parts) - 1] if tail == parts else None


def _last_part(name: str) -> tuple[str, ...]:
    return name_parts(name)[-1:]


def _last_part_without_prefix(name: str) -> tuple[str, ...]:
    return tuple(map(without_upload_prefix, name_parts(name)[-1:]))


def _unique(matches: _Matches) -> dict[str, Path]:
    """Return the photographs whose name occurs in one folder only, such as those in class folders."""
    unique: dict[str, Path] = {}
    repeated: set[str] = set()
    for paths in matches.values():
        repeated |= paths.keys() & unique.keys()
        unique |= paths
    return {name: path for name, path in unique.items() if name not in repeated}


def _most_probable_base(scan: FolderScan, parsed: ParsedLabels, split: str, matches: _Matches) -> Path:
    """Return the base folder of the same split, with the most photographs, nearest to the label file."""

    def rank(base: Path) -> tuple[int, int, int]:
        base_split, home = scan.split_of(base), parsed.source.parent
        same_split = 2 if base_split and base_split == split else 1 if not base_split or not split else 0
        nearness = 2 if base == home else 1 if base.is_relative_to(home) else 0
        return same_split, len(matches[base]), nearness

    best = sorted(matches, key=rank, reverse=True)
    if len(best) > 1 and rank(best[0]) == rank(best[1]):
        first, second = sorted(map(scan.relative, best[:2]))
        raise AmbiguousLabelsError(
            f"{parsed.source}: ambiguous: {first} and {second} have photographs of the same names; "
            "move the label file into the right folder and pass that folder as FOLDER"
        )
    return best[0]


def _by_split(
    scan: FolderScan, parsed: ParsedLabels, split: str, base: Path, photographs: dict[str, Path]
) -> list[SplitLabels]:
    """Return the labels of each split, as stated by the label file or by the folders of the photographs."""
    unmatched = [name for name in parsed.classes if name not in photographs]
    groups: dict[str, dict[str, Path]] = {}
    for name, path in photographs.items():
        groups.setdefault(split or scan.split_of(path.parent), {})[name] = path
    if len(groups) > 1 and ("train" not in groups or groups.keys() <= {"train", ""}):
        groups = {split: photographs}
    return [
        SplitLabels(
            parsed.source,
            group_split,
            base,
            _merged((path, parsed.classes[name]) for name, path in group.items()),
            unmatched,
            parsed,
        )
        for group_split, group in groups.items()
    ]


def _merged(pairs: Iterable[tuple[Path, frozenset[str]]]) -> Labels:
    """Return class names by photograph; several names in a label file may match the same photograph."""
    labels: Labels = {}
    for path, names in pairs:
        labels[path] = labels.get(path, frozenset()) | frozenset(map(composed, names))
    return labels

"""The data set of a config: images with labels, marks, and true masks, by split."""

import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from wsseg.config import parse_table
from wsseg.data.config import DATA_KINDS, DemoData, PlantedData, input_paths
from wsseg.data.file_memory import FileMemory
from wsseg.data.images import LabeledImages, load_images
from wsseg.data.marks import Marks, load_marks
from wsseg.errors import (
    ArtifactError,
    ConfigError,
    WssegError,
)
from wsseg.store.artifact import Artifact
from wsseg.store.objects import ArtifactStore

log = logging.getLogger("wsseg")


class Sources:
    """The data set of a config: images with labels, marks and true masks by split. Each is read once.

    Args:
        data: the data config.
        store: its folder holds the file memory, and generated data.

    Raises:
        ConfigError: the store's folder is a folder of the data set.
    """

    def __init__(self, data: Any, store: ArtifactStore) -> None:
        self._memory = FileMemory(store.root / "files.sqlite")
        self._data, self._folder = data, store.root / "data"
        for path in input_paths(data):
            if path.is_dir() and path.samefile(store.root):
                store.discard_empty()
                raise ConfigError(
                    f"{path} is a folder of the data set; choose another folder for the store with --store"
                )
        self._loaded: dict[str, Any] = {}

    @cached_property
    def data(self) -> Any:
        """The data config; a generated data set is written at the first use and replaced by the config of its files."""
        if not isinstance(self._data, DemoData | PlantedData):
            return self._data
        from wsseg.data.demo import demo_data
        from wsseg.data.planted import planted_data

        self._folder.mkdir(parents=True, exist_ok=True)
        if isinstance(self._data, PlantedData):
            return planted_data(self._data, self._folder)
        return demo_data(self._data, self._folder)

    def has(self, source: str) -> bool:
        """Return whether the config names a source."""
        from wsseg.data.truth.loading import has_truth

        kind, split = source.split(".")
        if kind == "truth":
            return has_truth(self.data, split)
        part = getattr(self.data, split)
        return (getattr(part, "marks", None) if kind == "marks" else part) is not None

    def get(self, source: str) -> Any:
        """Return ``data.SPLIT`` (`LabeledImages`), ``marks.train`` (`Marks`) or ``truth.SPLIT``; all have a `key`."""
        if source not in self._loaded:
            self._loaded[source] = self._load(*source.split("."))
        return self._loaded[source]

    def _load(self, kind: str, split: str) -> Any:
        if kind == "truth":
            from wsseg.data.truth.loading import load_truth

            truth = load_truth(self.data, self.get(f"data.{split}"), self._memory)
            for note in truth.notes:
                log.warning("%s masks: %s", split, note)
            return truth
        if kind == "marks":
            return self._load_marks()
        classes = None if split == "train" else self.get("data.train").classes
        return load_images(self.data, split, self._memory, classes)

    def _load_marks(self) -> Marks:
        judged = self.get("data.val") if self.has("data.val") else None
        marks = load_marks(self.data, self.get("data.train"), self._memory, judged)
        for note in marks.notes:
            log.warning("train: %s", note)
        return marks


def images_of(store: ArtifactStore, artifact: Artifact) -> LabeledImages:
    """Return the input images of an artifact, read from the data set of the newest run that refers to it.

    Raises:
        ArtifactError: no run refers to the artifact, or its images have changed.
        DatasetError: the data set can no longer be read.
    """
    records = referring_runs(store, artifact)
    if not records:
        raise ArtifactError(f"{artifact.folder}: no run of this store refers to it, so its data set is not known")
    sources = Sources(recorded_data(records[-1]), store)
    for split in ("train", "val"):
        if sources.has(f"data.{split}"):
            images: LabeledImages = sources.get(f"data.{split}")
            if images.key == artifact.manifest["inputs"].get("images"):
                return images
    raise ArtifactError(f"{artifact.folder}: its images have changed; run the recipe again")


def recorded_data(record: Mapping[str, Any]) -> Any:
    """Return the data config of a run's record."""
    values = record["config"]["data"]
    return parse_table(DATA_KINDS[values["kind"]], values, "data", Path(record["config_path"]))


def referring_runs(store: ArtifactStore, artifact: Artifact) -> list[dict[str, Any]]:
    """Return the records of the runs that refer to an artifact, oldest first."""
    return [
        record
        for record in store.runs().values()
        if any(step["key"] == artifact.key for step in record["steps"].values())
    ]


def recorded_inputs(records: Iterable[Mapping[str, Any]]) -> list[Path]:
    """Return the config files and data paths of runs; data sets of unknown kinds are left out."""
    paths = []
    for record in records:
        paths.append(Path(record["config_path"] or os.devnull))
        with suppress(WssegError, LookupError, TypeError):
            paths += input_paths(recorded_data(record))
    return paths

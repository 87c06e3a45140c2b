"""The protocol of a stage: its roles, what it reads and what it returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wsseg.data.images import LabeledImages
from wsseg.errors import StageError
from wsseg.labels import ClassMap
from wsseg.types import Mask


@dataclass(frozen=True)
class Role:
    """An input of a stage: the kinds that fit, and whether a recipe may leave it out."""

    kinds: tuple[str, ...]
    optional: bool = False


class MaskSource(Protocol):
    """Masks by item id: the truth, pseudo-masks and predictions look the same to those who read them."""

    key: str

    def mask(self, item_id: str) -> Mask:
        """Return the (H, W) uint8 mask of an item."""
        ...


class TruthSource(MaskSource, Protocol):
    """True masks of one split."""

    split: str
    classes: ClassMap
    ids: list[str]


class Stage(Protocol):
    """One stateless object a stage.

    `run` writes its files below `out` and returns its metrics (JSON values; fractions, not percent). It may find files
    of an interrupted run there: whole ones, because every file is renamed into place. Equal inputs and config must
    give equal bytes, interrupted or not. What a stage settles by itself it returns as the metric ``chosen``: values that
    stand for the config's wherever the artifact's terms are told.
    """

    name: str  # verb == folder == word in a recipe
    table: str  # the config table that holds its values
    version: int  # bump when equal inputs give other outputs
    Config: Any  # frozen dataclass of `wsseg.config.setting` fields
    inputs: Mapping[str, Role]
    output: str  # kind
    distributed: bool  # whether all processes of `accelerate launch` run it together; the first one alone if not
    measures: bool  # whether it only measures: no stage takes its output, and a run goes on without it

    def check(self, config: Any, inputs: Mapping[str, Any]) -> None:
        """Raise WssegError if `run` could not work with these values; called when a step that will run is planned.

        What a config's own values say of each other is checked by the config (``__post_init__``); this is for what depends on
        networks, files, installed packages and other steps. It takes a second or two at most, and downloads nothing.

        `inputs` maps role -> `LabeledImages` or `MaskSource`, or, for an artifact, the config of the step that makes it.
        """
        ...

    def run(self, config: Any, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Do the work. `inputs` maps role -> `Artifact`, `LabeledImages` or `MaskSource`, by kind."""
        ...


def check_classes(network: str, known: tuple[str, ...], images: LabeledImages) -> None:
    """Raise StageError unless a network knows the images' classes, in their order."""
    if known != images.classes.names:
        raise StageError(f"the {network} knows {', '.join(known)}; the images show {', '.join(images.classes.names)}")

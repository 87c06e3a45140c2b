"""The protocol of a stage: its inputs, its output and its methods."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wsseg.data.images import LabeledImages
from wsseg.errors import StageError
from wsseg.labels import ClassMap
from wsseg.types import Mask


@dataclass(frozen=True)
class Role:
    """An input of a stage.

    Args:
        kinds: the kinds that it accepts.
        optional: whether a recipe may omit it.
        part: for marks, the part that a stage with these values uses (see `wsseg.data.marks.Part`); the stage is computed
            again only if that part changes, and does not get the marks if it is empty. None means all.
    """

    kinds: tuple[str, ...]
    optional: bool = False
    part: Callable[[Any], str] | None = None


class MaskSource(Protocol):
    """Masks by item id: the common interface of true masks, pseudo-masks, predictions and marks."""

    key: str

    def mask(self, item_id: str) -> Mask:
        """Return the (H, W) uint8 mask of an item."""
        ...


class TruthSource(MaskSource, Protocol):
    """True masks of one split."""

    split: str
    classes: ClassMap
    ids: list[str]
    sequences: bool  # whether the items are sequences, which are evaluated at each place as well


class MarkSource(MaskSource, Protocol):
    """Marks of training images: 255 where nothing was said."""

    ids: list[str]


class Stage(Protocol):
    """One stage; an object without state.

    `run` writes its files below `out` and returns its metrics (JSON values; fractions, not percent). `out` may contain files
    of an interrupted run; they are complete, because each file is renamed into place. Equal inputs and an equal config must
    give equal bytes, interrupted or not. If a stage chooses values itself, it returns them as the metric ``chosen``; they
    replace those of the config when the conditions of the artifact are described.
    """

    name: str  # name of the folder, and of the stage in a recipe
    table: str  # name of the config table with its values
    version: int  # increase it when equal inputs give other outputs
    Config: Any  # frozen dataclass of `wsseg.config.setting` fields
    inputs: Mapping[str, Role]
    output: str  # kind of the artifact
    # True: all processes of `accelerate launch` run it; those of a training train one network, the others take their
    # part of the images (`wsseg.processes.share`) and write into the same folder. False: the main process only
    distributed: bool
    measures: bool  # True: no stage reads its output, and a run continues if it fails

    def check(self, config: Any, inputs: Mapping[str, Any]) -> None:
        """Raise WssegError if `run` would fail with these values; called for each planned step that is not cached.

        A config checks the values that depend on each other itself (``__post_init__``). This method checks what depends on
        networks, files, installed packages and other steps. It takes two seconds at most and downloads nothing.

        `inputs` maps each role to `LabeledImages` or `MaskSource`, or for an artifact to the config of the step that makes it.
        """
        ...

    def run(self, config: Any, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Run the stage. `inputs` maps each role to an `Artifact`, `LabeledImages` or `MaskSource`."""
        ...


def check_photographs(stage: str, images: LabeledImages) -> None:
    """Raise StageError if the images are sequences, which a stage cannot use."""
    if images.channels:
        raise StageError(f"{stage} needs photographs; the recipes cam_crf and full_supervision work with sequences")


def check_crf(crf: str, images: LabeledImages) -> None:
    """Raise StageError unless a CRF fits the images: sequences have no colours, and photographs no chain."""
    fits = crf in ("chain", "off") if images.channels else crf != "chain"
    if not fits:
        expected = '"chain", "off"' if images.channels else "a preset of the dense CRF, or off"
        raise StageError(
            f"crf: found {crf!r}; expected for {'sequences' if images.channels else 'photographs'}: {expected}"
        )


def check_classes(network: str, classes: tuple[str, ...], images: LabeledImages) -> None:
    """Raise StageError unless a network was trained on the classes of the images, in the same order."""
    if classes != images.classes.names:
        raise StageError(
            f"the {network} was trained on the classes {', '.join(classes)}; "
            f"those of the images are {', '.join(images.classes.names)}"
        )

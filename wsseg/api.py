"""The Python API: run a recipe, inspect its results, segment photographs with the network::

import wsseg

run = wsseg.run("cam_crf", "mine.toml", overrides={"segmenter.epochs": 5})
print(run.result["miou"])
segmenter = wsseg.load_segmenter("segmenter")
mask = segmenter.predict("photo.jpg")
"""

import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsseg import processes, progress, streams
from wsseg.config import expand_home
from wsseg.errors import ArtifactError, ConfigError, LaunchError, StageError, explaining
from wsseg.progress import Callback
from wsseg.running.execute import run_plan
from wsseg.running.plan import make_plan
from wsseg.saliency.seeds import decode_seed
from wsseg.stages.layout import SEED_FOLDER, ArtifactMasks
from wsseg.store.artifact import Artifact
from wsseg.store.objects import ArtifactStore
from wsseg.store.runs import find_artifact
from wsseg.types import Image, Mask, Seed
from wsseg.workers import in_worker

if TYPE_CHECKING:
    from wsseg.stages.predict_masks.prediction import Predictor

STORE = "wsseg-store"


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        id: the run's id, as shown by ``wsseg status``.
        artifacts: the artifact of each step, by the step's name; skipped and failed steps are not included.
        failed: the reason of each failed measuring step, by name. The failure of any other step is raised.
    """

    id: str
    artifacts: Mapping[str, Artifact]
    failed: Mapping[str, str] = field(default_factory=dict)

    def metrics(self, step: str) -> Mapping[str, Any]:
        """Return the metrics of a step; scores are fractions in [0, 1]."""
        metrics: Mapping[str, Any] = self._artifact(step).manifest["metrics"]
        return metrics

    @property
    def result(self) -> Mapping[str, Any] | None:
        """The metrics of the last evaluation on held-out masks (``miou``, ``iou`` by class ...), or None."""
        reports = [a.manifest["metrics"] for a in self.artifacts.values() if a.kind == "report"]
        held_out = [m for m in reports if not m["conditions"]["diagnostic"]]
        return held_out[-1] if held_out else None

    def mask(self, step: str, image_id: str) -> Mask:
        """Return the mask of one image, (H, W) uint8 class ids, from a step that makes masks."""
        return ArtifactMasks(self._artifact(step)).mask(image_id)

    def seed(self, step: str, image_id: str) -> Seed:
        """Return the seed (CAMs) of one image, from a step that makes seeds."""
        return decode_seed(self._artifact(step).read_bytes(f"{SEED_FOLDER}/{image_id}.png"))

    def _artifact(self, step: str) -> Artifact:
        if step in self.failed:
            raise ArtifactError(f"{step}: this step failed in run {self.id}: {self.failed[step]}")
        if step not in self.artifacts:
            raise ArtifactError(f"{step}: no such step in run {self.id}; expected: {', '.join(self.artifacts)}")
        return self.artifacts[step]


def run(
    recipe: str,
    config: str | Path,
    *,
    store: str | Path = STORE,
    overrides: Mapping[str, Any] | None = None,
    repair: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Run a recipe. Cached steps are not computed again.

    A script needs no ``if __name__ == "__main__"``, because worker processes do not import the script. Under a launcher
    (torchrun, ``accelerate launch``) every process calls this function: the main process runs the steps, the others join
    its trainings, and all of them return.

    Steps and progress are shown on standard error. To hide them, configure the logger "wsseg", for example with
    ``logging.getLogger("wsseg").setLevel("WARNING")``. The file ``runs/ID.log`` in the store has all log lines.

    Args:
        recipe: name of a shipped recipe, or a path.
        config: name of a shipped config, or a path.
        store: folder of the store; it is created if it does not exist.
        overrides: values by dotted key, such as ``{"segmenter.epochs": 5}``.
        repair: rebuild damaged artifacts.
        callbacks: receive the events of steps and epochs; see `wsseg.progress.Callback`.

    Raises:
        WssegError: the recipe, the config or the data is not valid, or a step failed; the message is one line.
        LaunchError: the caller is a worker process of `multiprocessing`, or another process of the launcher failed.
        MachineError: memory, a disk or a device failed; finished work is kept.
    """
    import tomli_w

    streams.keep_descriptors()
    if processes.count() == 1 and in_worker():
        name = multiprocessing.current_process().name
        raise LaunchError(
            f"wsseg.run: called in {name}, a worker process of multiprocessing; expected: the main process; "
            "call it below 'if __name__ == \"__main__\":', or start the command 'wsseg run' in the worker"
        )
    texts = []
    for key, value in (overrides or {}).items():
        plain_value = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
        try:
            texts.append(f"{key}={tomli_w.dumps({'value': plain_value}).split('=', 1)[1].strip()}")
        except TypeError as error:
            raise ConfigError(f"overrides: {key}: found {value!r}; expected: a TOML value") from error
    with progress.shown(quiet=not processes.is_main()), progress.listening(*callbacks):
        with explaining(), processes.main_goes_first():
            plan = make_plan(recipe, str(config), ArtifactStore(Path(expand_home(str(store)))), tuple(texts))
        run_id = run_plan(plan, repair, f"wsseg.run({recipe!r}, {str(config)!r})")
    return Run(run_id, {p.step.name: p.artifact for p in plan.active if p.artifact is not None}, plan.failed)


class Segmenter:
    """A trained segmentation network for photographs of any size.

    Args:
        predictor: the network and the values of ``[predictions]``.
    """

    def __init__(self, predictor: "Predictor") -> None:
        self._predictor = predictor

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of class ids; id 0 is the background."""
        return ("background", *self._predictor.spec.classes)

    def predict(self, image: Image | str | Path) -> Mask:
        """Segment one photograph.

        Args:
            image: path of the photograph, or (H, W, 3) uint8 RGB; for a network of sequences, (1, L, C).

        Returns:
            The mask, (H, W) uint8 class ids.

        Raises:
            DatasetError: the file cannot be read.
            StageError: the array has another shape or dtype.
        """
        with explaining("predict"):
            return self._predict(image)

    def _predict(self, image: Image | str | Path) -> Mask:
        from wsseg.data.reading import read_image

        if channels := self._predictor.spec.channels:
            if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[::2] != (1, len(channels)):
                raise StageError(
                    f"predict: this network is for sequences; expected: an array (1, L, {len(channels)}), see wsseg.data.sequences"
                )
            return self._predictor.predict([image])[0].mask
        photograph = read_image(Path(image)) if isinstance(image, str | Path) else image
        if photograph.ndim != 3 or photograph.shape[2] != 3 or photograph.dtype != np.uint8 or 0 in photograph.shape:
            raise StageError(
                f"predict: found an array of shape {photograph.shape} and type {photograph.dtype}; expected: (H, W, 3) uint8, RGB"
            )
        return self._predictor.predict([photograph])[0].mask


def load_segmenter(segmenter: str = "segmenter", *, store: str | Path = STORE, **values: Any) -> Segmenter:
    """Load a trained segmenter from a store.

    Args:
        segmenter: the artifact's key, its folder, or the name of a step.
        store: folder of the store.
        values: values of the config table ``[predictions]``, such as ``crf="off"`` or ``device="cpu"``; others keep
            their defaults.

    Raises:
        ArtifactError: the artifact does not exist or is of another kind.
        ConfigError: a value is not valid.
    """
    from wsseg.config import parse_table, plain
    from wsseg.models.segmenter import load_segmenter as load
    from wsseg.stages.predict_masks.config import Config
    from wsseg.stages.predict_masks.prediction import Predictor

    with explaining():
        artifact = find_artifact(ArtifactStore(Path(expand_home(str(store))), make=False), segmenter)
    if artifact.kind != "segmenter":
        raise ArtifactError(f"{segmenter}: found an artifact of kind {artifact.kind}; expected: segmenter")
    config = parse_table(Config, {n: plain(v) for n, v in values.items()}, "predictions", Path("load_segmenter"))
    return Segmenter(Predictor(*load(artifact.read_bytes, str(artifact.folder)), config))

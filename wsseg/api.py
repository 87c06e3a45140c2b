"""The pipeline from Python: run a recipe, look at what came out, segment photographs with the network.

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

from wsseg import processes, streams
from wsseg.config import expand_home
from wsseg.errors import ArtifactError, ConfigError, LaunchError, StageError, explaining
from wsseg.progress import Callback, listening
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
        id: the run's id, as in ``wsseg status``.
        artifacts: what each step made, by the step's name; skipped and failed steps are not in it.
        failed: why a step failed, by its name. Only steps that measure are here: the failure of any other is raised.
    """

    id: str
    artifacts: Mapping[str, Artifact]
    failed: Mapping[str, str] = field(default_factory=dict)

    def metrics(self, step: str) -> Mapping[str, Any]:
        """Return a step's metrics: fractions, not percent."""
        found: Mapping[str, Any] = self._artifact(step).manifest["metrics"]
        return found

    @property
    def result(self) -> Mapping[str, Any] | None:
        """The metrics of the last step that judged held-out masks (``miou``, ``iou`` by class ...), or None."""
        reports = [a.manifest["metrics"] for a in self.artifacts.values() if a.kind == "report"]
        held_out = [m for m in reports if not m["conditions"]["diagnostic"]]
        return held_out[-1] if held_out else None

    def mask(self, step: str, image_id: str) -> Mask:
        """Return a mask, (H, W) uint8 class ids, of a step that makes masks."""
        return ArtifactMasks(self._artifact(step)).mask(image_id)

    def seed(self, step: str, image_id: str) -> Seed:
        """Return the CAMs of one image, of a step that makes seeds."""
        return decode_seed(self._artifact(step).read_bytes(f"{SEED_FOLDER}/{image_id}.png"))

    def _artifact(self, step: str) -> Artifact:
        if step in self.failed:
            raise ArtifactError(f"{step}: it failed in run {self.id}: {self.failed[step]}")
        if step not in self.artifacts:
            raise ArtifactError(f"{step}: no such step in run {self.id}; known: {', '.join(self.artifacts)}")
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
    """Run a recipe; what is cached is not computed again.

    A script may call it without ``if __name__ == "__main__"``: the processes that it starts do not import the script.
    Under a launcher (torchrun, ``accelerate launch``) every process calls it: the first one works, the others train
    along, and all of them return.

    Args:
        recipe: name of a shipped recipe, or a path.
        config: name of a shipped config, or a path.
        store: folder of artifacts.
        overrides: values by dotted key, such as ``{"segmenter.epochs": 5}``.
        repair: rebuild damaged artifacts.
        callbacks: are told of steps and epochs; see `wsseg.progress.Callback`.

    Raises:
        WssegError: with one line that says what was found, and what is expected.
        LaunchError: it was called in a worker process of `multiprocessing`, or another process of a launcher failed.
        MachineError: memory, a disk or a device ended the work; what is finished is kept.
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
        given = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
        try:
            texts.append(f"{key}={tomli_w.dumps({'value': given}).split('=', 1)[1].strip()}")
        except TypeError as error:
            raise ConfigError(f"overrides: {key}: found {value!r}; expected: TOML's values") from error
    with explaining(), processes.first_goes_ahead():
        plan = make_plan(recipe, str(config), ArtifactStore(Path(expand_home(str(store)))), tuple(texts))
    with listening(*callbacks):
        run_id = run_plan(plan, repair)
    return Run(run_id, {p.step.name: p.artifact for p in plan.active if p.artifact is not None}, plan.failed)


class Segmenter:
    """A trained segmentation network that takes photographs of any size.

    Args:
        predictor: network and values.
    """

    def __init__(self, predictor: "Predictor") -> None:
        self._predictor = predictor

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by class id, the background first."""
        return ("background", *self._predictor.spec.classes)

    def predict(self, image: Image | str | Path) -> Mask:
        """Return the (H, W) uint8 class ids of a photograph: its path, or (H, W, 3) uint8 RGB.

        Raises:
            DatasetError: the file cannot be read.
            StageError: the array is no photograph.
        """
        with explaining("predict"):
            return self._predict(image)

    def _predict(self, image: Image | str | Path) -> Mask:
        from wsseg.data.reading import read_image

        photograph = read_image(Path(image)) if isinstance(image, str | Path) else image
        if photograph.ndim != 3 or photograph.shape[2] != 3 or photograph.dtype != np.uint8 or 0 in photograph.shape:
            raise StageError(
                f"predict: found an array {photograph.shape} {photograph.dtype}; expected: (H, W, 3) uint8, RGB"
            )
        return self._predictor.predict([photograph])[0].mask


def load_segmenter(segmenter: str = "segmenter", *, store: str | Path = STORE, **values: Any) -> Segmenter:
    """Return a trained segmenter of a store.

    Args:
        segmenter: the artifact's key, its folder, or the name of a step.
        store: folder of artifacts.
        values: of the config table ``[predictions]``, such as ``crf="off"`` or ``device="cpu"``; the rest are its defaults.

    Raises:
        ArtifactError: there is no such artifact, or it is another kind.
        ConfigError: a value is not valid.
    """
    from wsseg.config import parse_table, plain
    from wsseg.models.segmenter import load_segmenter as load
    from wsseg.stages.predict_masks.config import Config
    from wsseg.stages.predict_masks.prediction import Predictor

    with explaining():
        found = find_artifact(ArtifactStore(Path(expand_home(str(store))), make=False), segmenter)
    if found.kind != "segmenter":
        raise ArtifactError(f"{segmenter}: it is of kind {found.kind}; expected: segmenter")
    config = parse_table(Config, {n: plain(v) for n, v in values.items()}, "predictions", Path("load_segmenter"))
    return Segmenter(Predictor(*load(found.read_bytes, str(found.folder)), config))

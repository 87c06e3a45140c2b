"""Commands that use a trained network or its masks: ``predict``, ``export``, ``evaluate``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsseg.cli import completion
from wsseg.cli.options import (
    ANY_PATH,
    FILE,
    FOLDER,
    Command,
    flip_option,
    json_option,
    open_artifact,
    open_store,
    overwrite_option,
    report_unreadable,
    scale_option,
    store_option,
)
from wsseg.cli.tables import mebibytes, print_table
from wsseg.errors import OutputError, StageError
from wsseg.metrics.wording import percent

if TYPE_CHECKING:
    from wsseg.running.calibration import Calibration

NETWORK_FORMATS = ("onnx", "torchscript", "torch_export")
MASK_FORMATS = ("coco", "label_studio", "cvat", "huggingface", "bed")


@click.command(cls=Command)
@click.argument("artifact", shell_complete=completion.artifacts)
@click.argument("images", type=ANY_PATH)
@click.option(
    "-o", "--output", type=FOLDER, required=True, help="Folder for the masks; keeps the sub-folders of IMAGES."
)
@scale_option(1.0, 1.5)
@flip_option
@click.option("--crf", type=click.Choice(["irn", "psa", "deeplab", "toco", "clip_es", "off"]), default="off",
              show_default=True, help="Preset of the dense CRF.")  # fmt: skip
@click.option("--confidence", "maps", type=FOLDER,
              help="Folder for probability maps and the table doubt.csv.")  # fmt: skip
@click.option("--only-unsure", type=click.IntRange(min=1), metavar="N",
              help="List the N images that a person should look at first.")  # fmt: skip
@overwrite_option
@store_option
def predict(
    artifact: str,
    images: Path,
    output: Path,
    scales: tuple[float, ...],
    flip: bool,
    crf: str,
    maps: Path | None,
    only_unsure: int | None,
    overwrite: bool,
    store: Path,
) -> None:
    """Segment photographs with a trained network.

    ARTIFACT is the key, the folder or the step of a segmenter, such as 'segmenter'. IMAGES is a file or a folder;
    photographs may have any size. With a network for sequences, IMAGES is a FASTA file or an array, and the outputs are a BED
    file and a bedGraph per class.

    \b
    wsseg predict segmenter photos -o masks
    wsseg predict segmenter photos -o masks --confidence sure --only-unsure 20
    """
    if maps is not None and maps.resolve() == output.resolve():
        raise OutputError(f"--confidence: {maps} is also the folder of the masks (-o); choose another folder")
    opened = open_store(store)
    segmenter = open_artifact(opened, artifact, "segmenter")  # found before slow modules are imported
    from wsseg.data.photographs import photograph_files
    from wsseg.models.segmenter import load_segmenter
    from wsseg.outputs import Outputs
    from wsseg.running.calibration import calibration_of
    from wsseg.stages.predict_masks.config import Config
    from wsseg.stages.predict_masks.doubt import TABLE, most_doubtful
    from wsseg.stages.predict_masks.prediction import Predictor, predict_files
    from wsseg.stages.predict_masks.sequences import predict_sequences

    model, spec = load_segmenter(segmenter.read_bytes, str(segmenter.folder))
    if spec.channels:
        predictor = Predictor(model, spec, Config(flip=flip, crf="off"))
        count = predict_sequences(predictor, images, output, Outputs([images], overwrite))
        click.echo(f"{count} intervals in {output}; classes: {', '.join(spec.classes)}")
        return
    unlisted: list[tuple[Path, str]] = []
    files = photograph_files(images, unlisted)
    config = Config(scales=scales, flip=flip, crf=crf)  # type: ignore[arg-type]
    calibration = calibration_of(opened, segmenter, config) if maps is not None or only_unsure else None
    outputs = Outputs([images, *files.values()], overwrite)
    temperature = calibration.temperature if calibration else 1.0
    doubts, unreadable = predict_files(Predictor(model, spec, config), files, output, outputs, maps, temperature)
    ids = ", ".join(f"{i} {name}" for i, name in enumerate(("background", *spec.classes)))
    click.echo(f"{len(doubts)} masks in {output}; class ids: {ids}")
    if maps is not None:
        click.echo(f"probability maps and {TABLE} in {maps}; {_calibration_text(calibration)}")
    if only_unsure:
        rows = [
            [
                d.image_id,
                percent(d.doubt),
                percent(d.mean_probability),
                ", ".join(spec.classes[k - 1] for k in d.class_ids),
            ]
            for d in most_doubtful(doubts)[:only_unsure]
        ]
        print_table(["image", "doubt %", "probability %", "classes"], rows, numbers=["doubt %", "probability %"])
    report_unreadable([*unlisted, *unreadable], len(doubts))


def _calibration_text(calibration: "Calibration | None") -> str:
    """Return how the probabilities of maps were scaled."""
    if calibration is None:
        return "not calibrated: no run has evaluated this network with these options on true masks"
    return (
        f"temperature {calibration.temperature:.2f}, fitted on {calibration.images} images with true masks "
        f"(calibration error {percent(calibration.before)} -> {percent(calibration.after)} %)"
    )


@click.command(cls=Command)
@click.argument("artifact", shell_complete=completion.artifacts)
@click.option("--format", "form", required=True, type=click.Choice([*NETWORK_FORMATS, *MASK_FORMATS]), metavar="FORMAT",
              help=f"Format of the output: {', '.join([*NETWORK_FORMATS, *MASK_FORMATS])}.")  # fmt: skip
@click.option("-o", "--output", type=ANY_PATH, help="File or folder to write; by default named after the step.")
@overwrite_option
@store_option
def export(artifact: str, form: str, output: Path | None, overwrite: bool, store: Path) -> None:
    """Export a network or masks.

    ARTIFACT is the key, the folder or the step of an artifact.

    \b
    wsseg export segmenter --format onnx -o scratches.onnx
    wsseg export pseudo_masks --format coco -o scratches.json
    wsseg export predictions --format huggingface -o folder
    """
    from wsseg.outputs import Outputs
    from wsseg.running.sources import recorded_inputs, referring_runs

    opened = open_store(store)
    kinds = ("segmenter",) if form in NETWORK_FORMATS else ("pseudo_masks", "predictions")
    source = open_artifact(opened, artifact, *kinds, purpose=form)
    name = Path(source.manifest["step"]).name  # not `artifact`, which may be a folder of the store
    inputs = recorded_inputs(referring_runs(opened, source))
    if form in NETWORK_FORMATS:
        from wsseg.export.networks import SUFFIXES, write_network
        from wsseg.models.segmenter import load_segmenter

        path = output or Path(f"{name}{SUFFIXES[form]}")
        model, spec = load_segmenter(source.read_bytes, str(source.folder))
        if spec.channels:
            raise StageError(f"--format: found {form!r}; a network for sequences cannot be exported; use wsseg predict")
        difference = write_network(model, spec, form, path, Outputs(inputs, overwrite))
        click.echo(f"{path}: {mebibytes(path.stat().st_size)}; largest difference to torch {difference:.1g}")
        return
    from wsseg.export.masks import SUFFIXES as MASK_SUFFIXES
    from wsseg.export.masks import WRITERS
    from wsseg.running.sources import images_of
    from wsseg.stages.layout import ArtifactMasks

    path = output or Path(f"{name}{MASK_SUFFIXES[form]}")
    images = images_of(opened, source)
    if bool(images.channels) != (form == "bed"):
        expected = "bed" if images.channels else ", ".join(MASK_FORMATS[:-1])
        kind = "sequences" if images.channels else "photographs"
        raise StageError(f"--format: found {form!r}; expected for masks of {kind}: {expected}")
    inputs += [item.path for item in images.items]
    written = WRITERS[form](images, ArtifactMasks(source), path, Outputs(inputs, overwrite))
    click.echo(f"{written.path}: {written.images} images")


@click.command(cls=Command)
@click.argument("predictions", type=FOLDER)
@click.argument("truth", type=FOLDER)
@click.option("--classes", "class_file", type=FILE, required=True, help="Text file; line K names class id K.")
@click.option("--undecided", is_flag=True, help="Accept the value 255 in predictions and count it as wrong.")
@json_option
def evaluate(predictions: Path, truth: Path, class_file: Path, undecided: bool, as_json: bool) -> None:
    """Compare predicted masks with true masks.

    PREDICTIONS and TRUTH are folders of indexed PNG masks; files with the same name belong together.

    \b
    wsseg evaluate masks true_masks --classes classes.txt
    """
    from wsseg.stages.evaluate_masks.folders import evaluate_folders

    metrics = evaluate_folders(predictions, truth, class_file, undecided)
    if as_json:
        click.echo(json.dumps(metrics, indent=1))
        return
    rows = [[name, percent(iou), percent(metrics["boundary_iou"][name])] for name, iou in metrics["iou"].items()]
    rows.append(["mean", percent(metrics["miou"]), percent(metrics["boundary_miou"])])
    print_table(["class", "IoU %", "boundary IoU %"], rows, numbers=["IoU %", "boundary IoU %"])
    click.echo(
        f"{metrics['images']} images, {metrics['classes_counted']} classes counted, "
        f"pixel accuracy {percent(metrics['pixel_accuracy'])} %"
    )

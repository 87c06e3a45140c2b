"""Config of `make_seeds`: the table ``[seeds]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import check_scales, setting
from wsseg.models.foundation.checkpoint import Checkpoint
from wsseg.models.foundation.prompts import Prompts


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[seeds]``.

    Args:
        method: saliency method, see `wsseg.saliency.methods`. ``cam`` is the fastest; ``lpcam`` compares each place with
            prototypes of its class (`wsseg.saliency.prototypes`) and needs one more pass over the images; ``clip`` compares
            the image with texts and uses no classifier.
        layers: names of the layers that methods of the CAM family read; the maps of several layers are fused. An empty list
            means the last feature maps, which the classifier pools.
        target: score that is explained by methods that use gradients: ``logit``, ``sigmoid`` or ``softmax`` of the class, or
            ``margin`` (the logit minus the highest logit of another class).
        size: long side of the images at scale 1, in pixels; that of the classifier's training if it is not set, and 512 with
            ``clip``.
        output_stride: input pixels per value of the class maps, that of the classifier's training if it is not set; 16 and 8
            give finer maps by dilation and take longer.
        normality: multiply each map by how unusual its place is, compared with the images without a class (PatchCore): ``auto`` does
            so if at least 30 images, and a tenth of all, show no class.
        scales: factors on `size`; the maps are averaged over them.
        flip: average over the mirrored image as well.
        batch_size: number of images of equal size per forward pass; lower it if memory runs out.
        precision: data type of autocast; ``auto`` is bfloat16 if the device computes in it natively, float16 on an older CUDA
            GPU, float32 otherwise.
        clip: checkpoint of ``clip``, a table; see `wsseg.models.foundation.checkpoint`.
        prompts: texts of ``clip``, a table; see `wsseg.models.foundation.prompts`.
        rng_seed: seed of the clusters of ``lpcam``; defaults to the config's `rng_seed`.
        device: ``auto`` is the first accelerator, or the CPU if there is none; ``cpu``, ``cuda`` and ``mps`` require that device.
    """

    method: Literal[
        "cam", "grad_cam", "grad_cam_pp", "xgrad_cam", "hires_cam", "layer_cam", "score_cam", "ablation_cam",
        "eigen_cam", "gradient", "input_x_gradient", "smooth_grad", "integrated_gradients", "guided_backpropagation",
        "attention_rollout", "gradient_attention", "lpcam", "clip",
    ] = setting("cam")  # fmt: skip
    layers: tuple[str, ...] = setting(())
    target: Literal["logit", "sigmoid", "softmax", "margin"] = setting("logit")
    size: int | None = setting(None, low=32, high=8192)
    output_stride: Literal[8, 16, 32] | None = setting(None)
    normality: Literal["auto", "on", "off"] = setting("auto")
    scales: tuple[float, ...] = setting((1.0, 1.5), low=0.1, high=8.0)
    flip: bool = setting(True)
    batch_size: int = setting(8, low=1, high=4096)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    clip: Checkpoint | None = setting(None)
    prompts: Prompts | None = setting(None)
    rng_seed: int = setting(0, low=0, high=2**32 - 1)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)

    def __post_init__(self) -> None:
        check_scales(self.scales)

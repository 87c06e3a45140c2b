"""Values of `make_seeds`: the config table ``[seeds]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import check_scales, setting


@dataclass(frozen=True)
class Config:
    """Args:
    method: of saliency, see `wsseg.saliency.methods`; all but ``cam`` take longer. ``lpcam`` compares places with what the
        class's images have in common (`wsseg.saliency.prototypes`), and looks at them once more for that.
    layers: by name, for the CAM family; several are fused; none means what the classifier pools.
    target: what of a class is explained, where gradients are taken.
    size: long side in pixels that an image has at scale 1.
    output_stride: input pixels per value of the class maps; less than 32 makes them finer by dilation.
    scales: factors on `size` that are averaged over.
    flip: also average over the mirrored image.
    batch_size: images of one size that go through the network together.
    precision: autocast; ``auto`` is bfloat16 where the device computes in it.
    rng_seed: source of randomness (of clusters, for ``lpcam``).
    """

    method: Literal[
        "cam", "grad_cam", "grad_cam_pp", "xgrad_cam", "hires_cam", "layer_cam", "score_cam", "ablation_cam",
        "eigen_cam", "gradient", "input_x_gradient", "smooth_grad", "integrated_gradients", "guided_backpropagation",
        "attention_rollout", "gradient_attention", "lpcam",
    ] = setting("cam")  # fmt: skip
    layers: tuple[str, ...] = setting(())
    target: Literal["logit", "sigmoid", "softmax", "margin"] = setting("logit")
    size: int = setting(320, low=32, high=8192)
    output_stride: Literal[8, 16, 32] = setting(32)
    scales: tuple[float, ...] = setting((1.5, 2.5), low=0.1, high=8.0)
    flip: bool = setting(True)
    batch_size: int = setting(8, low=1, high=4096)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    rng_seed: int = setting(0, low=0, high=2**32 - 1)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)

    def __post_init__(self) -> None:
        check_scales(self.scales)

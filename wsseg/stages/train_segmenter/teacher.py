"""Mean teacher, the moving average of its student (Tarvainen & Valpola 2017), with CutMix.

The teacher predicts the original images of a batch; the student learns from images into which a box of another image is pasted
(Yun et al. 2019, CutMix; French et al. 2020 for segmentation). Pixels at which the teacher disagrees have a lower weight; pixels
of 255 get the teacher's label.
"""

import copy

import torch
from torch import Tensor, nn

from wsseg.labels import IGNORE_INDEX
from wsseg.stages.train_segmenter.losses import probability_of


class TaughtNetwork(nn.Module):
    """A student and its teacher; a checkpoint contains both.

    Args:
        student: the network that is trained.
        decay: fraction of the teacher that is kept in each step, in [0, 1).
    """

    def __init__(self, student: nn.Module, decay: float) -> None:
        super().__init__()
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False).eval()
        self.decay = decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._known_steps: int | None = None  # reading the buffer in every step would wait for the device
        self.register_load_state_dict_post_hook(_forget_known_steps)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> "TaughtNetwork":
        """Set the student's mode; the teacher is always in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, images: Tensor, taught: bool = False) -> Tensor:
        """Return the logits of the student, or with `taught` those of the teacher."""
        if taught:
            with torch.no_grad():
                return self.teacher(images)  # type: ignore[no-any-return]
        return self.student(images)  # type: ignore[no-any-return]

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher towards the student, at first by 1 / (step + 1), so that its initial weights lose influence soon."""
        steps: Tensor = self.steps  # type: ignore[assignment]
        known = int(steps) if self._known_steps is None else self._known_steps
        keep = min(self.decay, 1 - 1 / (known + 1))
        self._known_steps = known + 1
        steps += 1
        for target, source in zip(self.teacher.state_dict().values(), self.student.state_dict().values(), strict=True):
            if target.is_floating_point():
                target.lerp_(source, 1 - keep)
            else:
                target.copy_(source)


def _forget_known_steps(network: TaughtNetwork, _: object) -> None:
    network._known_steps = None


def teacher_targets(masks: Tensor, probabilities: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return the student's targets: labels (N, H, W) int64 without 255, and weights (N, H, W) in [0, 1].

    With p the teacher's probability of the label among the background and the classes present, the weight is p for the
    teacher's label and (1 + p) / 2 for a mask's label. (With the weight p for both, a student and a teacher that never predict
    a rare class would have no loss left, as happened with steel defects.)

    Args:
        masks: (N, H, W) int64, may contain 255.
        probabilities: the teacher's probabilities, (N, K + 1, H, W).
        present: (N, K), 1 for the classes of each image.
    """
    possible = torch.cat([torch.ones_like(present[:, :1]), present], dim=1)[:, :, None, None]
    among = probabilities * possible
    among = among / among.sum(1, keepdim=True).clamp_min(1e-6)
    decided = masks != IGNORE_INDEX
    labels = torch.where(decided, masks, among.argmax(1))
    agreement = probability_of(among, labels)
    return labels, torch.where(decided, (1 + agreement) / 2, agreement)


def random_boxes(count: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Return (N, H, W) bool: a box of a quarter of the area at a random place, drawn with torch's global generator."""
    height, width = size
    along, across = torch.arange(height, device=device), torch.arange(width, device=device)
    top = torch.randint(height - height // 2 + 1, (count, 1), device=device)
    left = torch.randint(width - width // 2 + 1, (count, 1), device=device)
    rows = (along >= top) & (along < top + height // 2)
    columns = (across >= left) & (across < left + width // 2)
    return rows[:, :, None] & columns[:, None, :]


def cutmix(batch: Tensor, box: Tensor) -> Tensor:
    """Replace the box of each element of a batch, (N, H, W) or (N, C, H, W), by that of the next element."""
    where = box if batch.ndim == 3 else box[:, None]
    return torch.where(where, batch.roll(-1, 0), batch)

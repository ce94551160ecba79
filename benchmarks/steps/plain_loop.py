"""The step as people write it from the papers: plain PyTorch, one clip after the other, all losses logged each step.

PCL (arXiv 2010.15464) with torchvision's r3d_18, two memory banks and 1024 negatives (Wu et al., arXiv 1805.01978);
with a teacher also the relative entropies to what it says (Hinton et al., arXiv 1503.02531). Written apart from
`pclkd.training`, which it is compared with.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["PlainClips", "PlainLoop", "PlainNetwork"]

PRETEXT_CLASSES, EMBEDDING, NEGATIVES = 5, 128, 1024
NCE_TEMPERATURE, BANK_MOMENTUM, CONTRAST_WEIGHT, PRETEXT_KD_TEMPERATURE = 0.07, 0.5, 0.5, 4.0


@dataclass(frozen=True)
class PlainClips:
    """A batch on the device.

    Attributes:
        clips: the three clips of B samples, [B, 3, T, H, W] each, contiguous.
        target: [B] int64, class of the pretext transformation.
        index: [B] int64, rows of the memory banks.
    """

    clips: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    target: torch.Tensor
    index: torch.Tensor


class PlainNetwork(nn.Module):
    """r3d_18 without its classifier, a classifier of the pretext task, and a projector."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models.video import r3d_18

        self.encoder = r3d_18(weights=None)
        self.encoder.fc = nn.Identity()
        self.pretext = nn.Linear(3 * 512, PRETEXT_CLASSES)
        self.projector = nn.Sequential(nn.Linear(512, 512), nn.ReLU(inplace=True), nn.Linear(512, EMBEDDING))

    def forward(self, first: torch.Tensor, second: torch.Tensor, third: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Pretext logits [B, 5] and the embeddings [B, 128] of the first and the third clip."""
        a, b, c = self.encoder(first), self.encoder(second), self.encoder(third)
        return (
            self.pretext(torch.cat([a, b, c], dim=1)),
            F.normalize(self.projector(a), dim=1),
            F.normalize(self.projector(c), dim=1),
        )


class PlainBank:
    """An embedding of every video, [rows, 128].

    Args:
        rows: videos.
        device: where they lie.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self.rows = F.normalize(torch.randn(rows, EMBEDDING), dim=1).to(device)

    def logits(self, embedding: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """[B, 1 + K] of embeddings [B, 128] and rows [B, 1 + K]."""
        chosen = torch.index_select(self.rows, 0, index.view(-1)).view(*index.shape, -1)
        return torch.bmm(chosen, embedding.unsqueeze(2)).squeeze(2) / NCE_TEMPERATURE

    @torch.no_grad()
    def update(self, embedding: torch.Tensor, index: torch.Tensor) -> None:
        """Move the rows [B] towards the embeddings [B, 128]."""
        old = torch.index_select(self.rows, 0, index)
        new = F.normalize(BANK_MOMENTUM * old + (1 - BANK_MOMENTUM) * embedding.float(), dim=1)
        self.rows.index_copy_(0, index, new)


class PlainLoop:
    """One step after the other.

    Args:
        rows: training videos.
        device: where it runs.
        distil: whether a frozen teacher of the same architecture is imitated.
        amp: bfloat16 or float16 for autocast, the latter with a GradScaler; None: float32.
        negatives: [B] rows of the batch -> [B, 1 + K] rows to compare with, the own one first; by default drawn anew.

    Attributes:
        network: the student.
        teacher: the teacher, or None.
        banks: of the first and of the third clips.
        teacher_banks: the teacher's.
        optimizer: torch's SGD, with its defaults.
    """

    def __init__(
        self,
        rows: int,
        device: torch.device,
        *,
        distil: bool = False,
        amp: torch.dtype | None = None,
        negatives: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.network = PlainNetwork().to(device).train()
        self.teacher = PlainNetwork().to(device).eval() if distil else None
        self.banks = PlainBank(rows, device), PlainBank(rows, device)
        self.teacher_banks = (PlainBank(rows, device), PlainBank(rows, device)) if distil else None
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        self._rows, self._device, self._amp = rows, device, amp
        self._scaler = torch.amp.GradScaler(device.type, enabled=amp is torch.float16)
        self._negatives = negatives or self._draw

    def __call__(self, batch: PlainClips) -> dict[str, float]:
        """Make a step; the losses before it."""
        index = self._negatives(batch.index)
        with nullcontext() if self._amp is None else torch.autocast(self._device.type, self._amp):
            pretext_logits, first, third = self.network(*batch.clips)
            # Each clip against the bank of the other one.
            logits = self.banks[1].logits(first, index), self.banks[0].logits(third, index)
            zeros = torch.zeros_like(batch.target)
            pretext = F.cross_entropy(pretext_logits, batch.target)
            contrast = F.cross_entropy(logits[0], zeros) + F.cross_entropy(logits[1], zeros)
            losses = {"pretext": pretext, "contrast": contrast}
            loss = pretext + CONTRAST_WEIGHT * contrast
            if self.teacher is not None and self.teacher_banks is not None:
                with torch.no_grad():
                    taught, *embeddings = self.teacher(*batch.clips)
                    theirs = [self.teacher_banks[1 - clip].logits(embeddings[clip], index) for clip in (0, 1)]
                losses["kd_pretext"] = _relative_entropy(pretext_logits, taught, PRETEXT_KD_TEMPERATURE)
                both = [_relative_entropy(logits[clip], theirs[clip], 1.0) for clip in (0, 1)]
                losses["kd_contrast"] = (both[0] + both[1]) / 2
                loss = loss + losses["kd_pretext"] + losses["kd_contrast"]
                for bank, embedding in zip(self.teacher_banks, embeddings, strict=True):
                    bank.update(embedding, batch.index)
        for bank, embedding in zip(self.banks, (first, third), strict=True):
            bank.update(embedding.detach(), batch.index)
        self.optimizer.zero_grad()
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(self.optimizer)
        self._scaler.update()
        accuracy = (pretext_logits.argmax(dim=1) == batch.target).float().mean()
        return {
            "loss": loss.item(),
            **{name: value.item() for name, value in losses.items()},
            "pretext_top1_pct": 100 * accuracy.item(),
        }

    def _draw(self, index: torch.Tensor) -> torch.Tensor:
        drawn = torch.randint(self._rows, (len(index), 1 + NEGATIVES), device=self._device)
        drawn[:, 0] = index
        return drawn


def _relative_entropy(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    return temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, dim=1), F.softmax(teacher / temperature, dim=1), reduction="batchmean"
    )

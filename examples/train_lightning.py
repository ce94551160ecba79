"""Lightning: SimSiam in its trainer. Usage: python examples/train_lightning.py SHARDS out 1000.

Lightning keeps the loader's state in its checkpoints, since it has `state_dict`; batches come on the right device.
"""

import sys
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.video import mc3_18

from pclkd.pipeline import ClipBatch, ViewSettings, ViewsRecipe, clip_loader


def _mlp(before: int, hidden: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, after))


class SimSiam(lightning.LightningModule):
    """Each view predicts the other one's projection. Source: Chen and He, arXiv 2011.10566."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = mc3_18()
        self.encoder.fc = _mlp(512, 512, 256)
        self.predictor = _mlp(256, 64, 256)

    def training_step(self, batch: ClipBatch, number: int) -> torch.Tensor:  # noqa: ARG002
        """The loss of a batch, clips [B, 2, C, T, H, W]."""
        one, two = (self.encoder(view) for view in batch.clips.unbind(1))
        pairs = (self.predictor(one), two.detach()), (self.predictor(two), one.detach())
        loss = -torch.stack([F.cosine_similarity(*pair).mean() for pair in pairs]).mean()
        self.log("loss", loss, prog_bar=True)
        return loss

    def transfer_batch_to_device(self, batch: Any, *_: Any) -> Any:
        """It is there."""
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As published, without a schedule."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)


def main(shards: str, out: str, steps: int = 1000, batch_size: int = 16, crop: int = 112) -> None:
    """Train on two clips of each video."""
    recipe = ViewsRecipe(0, ViewSettings(views=2))
    trainer = lightning.Trainer(max_steps=steps, default_root_dir=out, logger=False, devices=1)
    with clip_loader(shards, recipe=recipe, batch_size=batch_size, crop=crop, modality="rgb") as loader:
        trainer.fit(SimSiam(), loader)


if __name__ == "__main__":
    shards, out, *numbers = sys.argv[1:]
    main(shards, out, *map(int, numbers))

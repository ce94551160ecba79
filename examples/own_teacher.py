"""A teacher of your own: an image network learns actions with labels, and teaches a video network that gets none.

    python examples/own_teacher.py SHARDS teacher.pt
    export PYTHONPATH=examples OWN_TEACHER=teacher.pt; weights="--set kd.pretext_weight=0 --set kd.contrast_weight=0"
    train-kd distill --preset demo --data SHARDS --out runs/s --teacher module:own_teacher:teacher $weights

Its pictures are differences of neighbouring frames: what moves shows in them, and in which direction.
"""

import os
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.pipeline import UniformRecipe, ViewSettings, ViewsRecipe, clip_loader
from pclkd.sharding import ShardIndex

FRAMES, SIZE = 8, 32  # of a clip: each frame is a picture of its own


class FrameNetwork(nn.Sequential):
    """Pictures [N, 3, H, W] to features [N, 128]."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for below, above in ((3, 16), (16, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(below, above, 3, 2, 1, bias=False), nn.BatchNorm2d(above), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.teacher_spec = {"frames": FRAMES, "size": SIZE, "modality": "residual", "images": True}


def teacher() -> FrameNetwork:
    """What `--teacher module:own_teacher:teacher` calls."""
    network = FrameNetwork()
    network.load_state_dict(torch.load(os.environ["OWN_TEACHER"], weights_only=True))
    return network


def main(shards: str, file: str, epochs: int = 120, batch_size: int = 32) -> None:
    """Train it on the labels of split 1, all frames of a clip together; print what it knows of the test videos."""
    index, network = ShardIndex.open(shards), FrameNetwork()
    head = nn.Linear(128, len(index.classes))
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], 3e-3, weight_decay=0.05)
    seen: Any = {"batch_size": batch_size, "crop": SIZE, "modality": "residual"}
    recipe = ViewsRecipe(seed=0, clips=ViewSettings(clip_frames=FRAMES, views=1))
    with clip_loader(index, recipe=recipe, **seen) as loader:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs * len(loader))
        for _ in range(epochs):
            for batch in loader:
                pictures = batch.clips[:, 0].transpose(1, 2).flatten(0, 1)
                loss = F.cross_entropy(head(network(pictures).unflatten(0, (-1, FRAMES)).mean(1)), batch.label)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    network.eval()
    ten, right = UniformRecipe(views=10, clip_frames=FRAMES), 0
    with torch.inference_mode(), clip_loader(index, part="test", recipe=ten, **seen) as loader:
        for batch in loader:
            pictures = batch.clips.transpose(2, 3).flatten(0, 2)
            said = head(network(pictures).unflatten(0, (-1, 10 * FRAMES)).mean(1)).argmax(1)
            right += int((said == batch.label)[: batch.valid].sum())
    print(f"loss {loss.item():.3f}, top-1 {100 * right / len(index.split_samples(1, 'test')):.1f} % of the test videos")
    torch.save(network.state_dict(), file)


if __name__ == "__main__":
    shards, file, *numbers = sys.argv[1:]
    main(shards, file, *map(int, numbers))

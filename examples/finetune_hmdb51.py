"""A supervised fine-tune on HMDB51 in your own loop, from a network that train-kd has trained.

    shard-ucf101 pack /data/hmdb51 hmdb51-shards --splits /data/testTrainMulti_7030_splits
    train-kd export runs/student exported
    python examples/finetune_hmdb51.py hmdb51-shards exported 30

train-kd evaluate RUN --data hmdb51-shards --protocol finetune does the published protocol; this is where to change it.
"""

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.pipeline import UniformRecipe, ViewSettings, ViewsRecipe, clip_loader
from pclkd.sharding import ShardIndex
from pclkd.training import load_backbone, load_clip_form


def main(shards: str, network: str, epochs: int = 30, batch_size: int = 8, lr: float = 1e-3) -> None:
    """Fine-tune on the train part of split 1, then let ten clips of each test video vote."""
    index, backbone, form = ShardIndex.open(shards), load_backbone(network), load_clip_form(network)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = nn.Sequential(backbone, nn.Dropout(0.5), nn.Linear(backbone.feature_dim, len(index.classes))).to(device)
    rates = [{"params": backbone.parameters(), "lr": lr / 10}, {"params": model[2].parameters(), "lr": lr}]
    optimizer = torch.optim.AdamW(rates, weight_decay=0.01)
    as_trained: Any = {"crop": form.crop, "modality": form.modality}
    recipe = ViewsRecipe(seed=0, clips=ViewSettings(clip_frames=form.frames, views=1))
    with clip_loader(index, recipe=recipe, batch_size=batch_size, **as_trained) as loader:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [lr / 10, lr], epochs * len(loader))
        for epoch in range(epochs):
            for batch in loader:
                loss = F.cross_entropy(model(batch.clips[:, 0]), batch.label)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            print(f"epoch {epoch + 1}/{epochs}: loss {loss.item():.3f}")
    model.eval()
    right = videos = 0
    ten = UniformRecipe(views=10, clip_frames=form.frames)
    with torch.inference_mode(), clip_loader(index, part="test", recipe=ten, batch_size=4, **as_trained) as loader:
        for batch in loader:
            said = model(batch.clips.flatten(0, 1)).unflatten(0, (-1, 10)).mean(1).argmax(1)
            right += int((said == batch.label)[: batch.valid].sum())
            videos += batch.valid
    print(f"top-1 {100 * right / videos:.1f} % of {videos} test videos, {len(index.classes)} classes")


if __name__ == "__main__":
    shards, network, *numbers = sys.argv[1:]
    main(shards, network, *map(int, numbers))

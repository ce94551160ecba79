"""Plain PyTorch: a network learns which transformation was done to a clip; a stopped run goes on exactly.

    python examples/train_pytorch.py SHARDS checkpoint.pt

The loader is all that comes from here. Its state belongs into the checkpoint: with it the next sitting gets the batches
that this one would have got, on any number of processes.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torchvision.models.video import mc3_18

from pclkd.pipeline import ClipLoader, clip_loader


def train(loader: ClipLoader, checkpoint: Path, steps: int) -> None:
    """Train to a number of steps, from the checkpoint on where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # where the clips come, too
    model = mc3_18(num_classes=5).to(device)  # five answers: plain, and four transformations
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    step = 0
    if checkpoint.exists():
        found = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(found["model"])
        optimizer.load_state_dict(found["optimizer"])
        loader.load_state_dict(found["loader"])
        step = found["step"]
    while step < steps:
        for batch in loader:  # what is left of an epoch
            loss = F.cross_entropy(model(batch.clips[:, 1]), batch.pretext_label)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            print(f"step {step}, epoch {batch.epoch}: loss {loss.item():.3f}, videos {batch.sample_index.tolist()}")
            if step == steps:
                break
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader.state_dict()}
    torch.save({**state, "step": step}, checkpoint)


if __name__ == "__main__":
    shards, file, *numbers = sys.argv[1:]
    steps, batch_size, crop = map(int, numbers or (1000, 8, 112))
    with clip_loader(shards, batch_size=batch_size, crop=crop, modality="rgb") as clips:
        train(clips, Path(file), steps)

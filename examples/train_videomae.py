"""VideoMAE's way to learn (arXiv 2203.12602): most tubes of a clip are hidden, and a small decoder draws them.

Usage: python examples/train_videomae.py SHARDS 1000
"""

import sys
from itertools import chain, repeat

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.pipeline import ViewSettings, ViewsRecipe, clip_loader

TIME, SIDE = 2, 16  # frames and pixels of a cube; those of one place are a tube


def tube_masks(clips: int, times: int, places: int, hidden: float) -> torch.Tensor:
    """[N, times * places] bool, True where hidden: in each clip the same places at all times."""
    return (torch.rand(clips, 1, places).argsort(dim=2) < round(hidden * places)).expand(-1, times, -1).flatten(1)


class VideoMAE(nn.Module):
    """A transformer over the cubes that are seen, and a layer over all of them."""

    def __init__(self, cubes: int, width: int = 192, depth: int = 4) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True)
        self.encoder, self.decoder = nn.TransformerEncoder(layer, depth), nn.TransformerEncoder(layer, 1)
        self.embed, self.draw = nn.Linear(3 * TIME * SIDE**2, width), nn.Linear(width, 3 * TIME * SIDE**2)
        self.place, self.blank = (nn.Parameter(0.02 * torch.randn(count, width)) for count in (cubes, 1))

    def forward(self, clips: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """[N, 3, T, H, W] -> mean squared error over the hidden cubes, each normalised by itself."""
        cubes = clips.unfold(2, TIME, TIME).unfold(3, SIDE, SIDE).unfold(4, SIDE, SIDE).movedim(1, 4)
        cubes, place = cubes.flatten(4).flatten(1, 3), self.place.expand(len(clips), -1, -1)
        seen = self.encoder((self.embed(cubes) + place)[~hidden].unflatten(0, (len(clips), -1)))
        everywhere = self.blank.expand_as(place).masked_scatter(~hidden[..., None], seen) + place
        return F.mse_loss(self.draw(self.decoder(everywhere))[hidden], F.layer_norm(cubes, cubes.shape[-1:])[hidden])


def main(shards: str, steps: int = 1000, batch_size: int = 8, crop: int = 112) -> None:
    """Train, epoch after epoch, on one clip of 16 frames of each video."""
    recipe = ViewsRecipe(0, ViewSettings(views=1))
    times, places = 16 // TIME, (crop // SIDE) ** 2
    model = VideoMAE(times * places).to("cuda" if torch.cuda.is_available() else "cpu")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    with clip_loader(shards, recipe=recipe, batch_size=batch_size, crop=crop, modality="rgb") as loader:
        for step, batch in zip(range(steps), chain.from_iterable(repeat(loader)), strict=False):
            loss = model(batch.clips[:, 0], tube_masks(batch_size, times, places, 0.9).to(batch.clips.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(f"step {step + 1}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))

"""A frozen network of any kind as a backbone: clips in, features and a grid of local features out."""

from collections.abc import Callable, Iterable
from typing import Self

import torch
from torch import nn

from pclkd.sharding.common.errors import InputError
from pclkd.training.frozen.spec import TeacherSpec
from pclkd.training.models.base import Backbone

__all__ = ["Answer", "Ask", "FrozenNetwork", "StandardisedNetwork"]

Answer = tuple[torch.Tensor | None, torch.Tensor]
"""The features that a network gives as such, [M, F], or None; and its tokens, maps or features, see `TeacherSpec`."""
Ask = Callable[[nn.Module, torch.Tensor], Answer]
"""What a network says of clips [M, 3, T, H, W], or of pictures [M, 3, H, W] where it takes those."""


class FrozenNetwork(Backbone):
    """A network from elsewhere, in eval mode and without gradients.

    Args:
        name: as the user gave it, for messages.
        network: from elsewhere.
        ask: how it is asked.
        spec: what it is shown, and how its answer is read.
        known: how many tokens of which length it gives, where its configuration tells: a large one is then not tried.

    Attributes:
        spec: as given.
        grid_dim: length of a local feature; None where the network gives no grid.

    Raises:
        InputError: it does not take what the spec shows it, or its answer is none that the spec can read.
    """

    foreign = True

    def __init__(
        self, name: str, network: nn.Module, ask: Ask, spec: TeacherSpec, known: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.name, self.spec, self._ask = name, spec, ask
        self.network = network.requires_grad_(False).eval()
        features, cells = self._tried() if known is None else self._read(None, torch.empty(1, *known, device="meta"))
        self.feature_dim = features.shape[1]
        self.grid_dim = None if cells is None else cells.shape[1]

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Features [N, feature_dim] of clips [N, 3, T, H, W]."""
        return self.look(clips)[0]

    def look(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Features [N, F], and the grid [N, C, t, h, w] where there is one, of clips [N, 3, T, H, W]."""
        count, frames = len(clips), clips.shape[2]
        pictures = clips.transpose(1, 2).flatten(0, 1) if self.spec.images else clips
        features, cells = self._read(*self._ask(self.network, pictures))
        if self.spec.images:
            features = features.reshape(count, frames, -1).mean(1)
            if cells is not None:  # [N * T, C, 1, h, w] -> [N, C, T, h, w]
                cells = cells.reshape(count, frames, cells.shape[1], *cells.shape[3:]).transpose(1, 2)
        return features, cells

    def _read(self, given: torch.Tensor | None, said: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Features [M, F] and cells [M, C, t, h, w] of an answer."""
        cells = self._cells(said)
        return self._features(given, said, cells), cells

    def _cells(self, said: torch.Tensor) -> torch.Tensor | None:
        """[M, C, t, h, w] of an answer."""
        if said.ndim == 5:
            return said
        if said.ndim == 4:
            return said.unsqueeze(2)
        if said.ndim == 2 or self.spec.grid is None:
            return None
        t, h, w = self.spec.grid
        if said.shape[1] != self.spec.prefix + t * h * w:
            raise self._refusal(
                f"gives {said.shape[1]} tokens, not {self.spec.prefix} and {t} x {h} x {w}",
                "--set kd.teacher_specs, say prefix and grid",
            )
        return said[:, self.spec.prefix :].transpose(1, 2).reshape(len(said), -1, t, h, w)

    def _features(self, given: torch.Tensor | None, said: torch.Tensor, cells: torch.Tensor | None) -> torch.Tensor:
        if self.spec.feature == "given" and (given is not None or said.ndim == 2):
            return said if given is None else given
        if self.spec.feature == "first" and said.ndim == 3:
            return said[:, 0]
        if cells is not None:
            return cells.flatten(2).mean(2)
        if said.ndim == 3:
            return said[:, self.spec.prefix :].mean(1)
        raise self._refusal(f"gives {list(said.shape)}", f"feature={self.spec.feature} asks for more: say another one")

    @torch.inference_mode()
    def _tried(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What it says of one clip of noughts; of one frame where it takes pictures."""
        spec = self.spec
        shown = 1 if spec.images else spec.frames
        try:
            features, cells = self.look(torch.zeros(1, 3, shown, spec.size, spec.size))
        except InputError:
            raise
        except Exception as error:  # whatever somebody's network does with pixels that it does not take
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise self._refusal(
                f"does not take {'pictures' if spec.images else f'clips of {spec.frames} frames'} of "
                f"{spec.size} x {spec.size} pixels ({reason})",
                'say what it takes: --set kd.teacher_specs=\'[{"frames": ..., "size": ...}]\'',
            ) from None
        if features.ndim != 2:
            raise self._refusal(f"gives features {list(features.shape)}", "let it give [N, F]")
        return features, cells

    def _refusal(self, what: str, remedy: str) -> InputError:
        return InputError(f"the teacher {self.name} {what}", remedy=remedy)


class StandardisedNetwork(Backbone):
    """A frozen network whose features are told in units of their own deviation from their own mean.

    Heads learn from them at one rate, whatever the size of the network's numbers. It stays in eval mode and gets no
    gradient.

    Args:
        network: whose features they are.
    """

    foreign = True
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.feature_dim, self.grid_dim = network.feature_dim, network.grid_dim
        self.register_buffer("mean", torch.zeros(network.feature_dim))
        self.register_buffer("std", torch.ones(network.feature_dim))

    def train(self, mode: bool = True) -> Self:
        """As in nn.Module, but the network stays in eval mode."""
        super().train(mode)
        self.network.eval()
        return self

    @torch.no_grad()
    def measure(self, clips: Iterable[torch.Tensor]) -> None:
        """Take mean and deviation from clips [N, 3, T, H, W]; a feature that rests keeps the deviation 1."""
        std, mean = torch.std_mean(torch.cat([self.network(some).float() for some in clips]), dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6 * std.max(), std, torch.ones_like(std)))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Features [N, feature_dim] of clips [N, 3, T, H, W]."""
        return self._standardised(self.network(clips))

    def look(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As in Backbone; local features are the network's own."""
        features, grid = self.network.look(clips)
        return self._standardised(features), grid

    def _standardised(self, features: torch.Tensor) -> torch.Tensor:
        return (features.float() - self.mean) / self.std

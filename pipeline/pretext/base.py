"""Pretext tasks: what was done to these clips? The label comes for free.

A task (`Pretext`) is an object of its settings alone. For each batch it draws what is done to whom (`PretextDraw`), a
pure function of (seed, epoch, sample id): a sample's draw does not depend on the rest of its batch.

    before decoding    draw.remote   which samples show a clip from elsewhere in their video
                       draw.stride   how fast the clips play
    after decoding     draw.apply    turned, shuffled, reordered: batched, on the device, in the clips' own memory

Where a task changes one clip, it is the middle one (view V // 2): it has its neighbours to be compared with, the first
and the third stay clean for contrast, and a sample of a single clip has that one changed.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from pclkd.sharding.common.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["FASTEST", "TUPLE_VIEWS", "Changed", "Facts", "Pretext", "PretextDraw", "middle", "need_views"]


FASTEST = 8
"""Largest frame stride of a clip, and largest speed of a class."""
TUPLE_VIEWS = 3
"""Clips of a PCL tuple."""


Ints = NDArray[np.int64]

Changed = Literal["middle", "all"]
"""Which clips of a sample a task changes."""


@dataclass(frozen=True)
class Facts:
    """What is known of B samples before a byte of them is read.

    Attributes:
        has_remote: [B] bool, whether the video has room for a clip away from the others.
        longest_stride: [B, V] the largest frame stride at which each clip still fits into the video, at least 1.
    """

    has_remote: NDArray[np.bool_]
    longest_stride: Ints


@dataclass(frozen=True, eq=False)
class PretextDraw:
    """What is done to the clips of B samples. On the host, so that the device is never waited for.

    This class itself leaves clips alone; tasks have subclasses of it.

    Attributes:
        classes: names of the task's classes.
        label: [B] int64, the class of each sample.
    """

    classes: tuple[str, ...]
    label: Ints

    @property
    def remote(self) -> NDArray[np.bool_] | None:
        """[B] bool, whose middle clip is decoded from elsewhere in the video; None: nobody's."""
        return None

    @property
    def stride(self) -> Ints | None:
        """[B, V] how many times as fast each clip plays; None: all at the recipe's own speed."""
        return None

    def apply(self, clips: torch.Tensor) -> torch.Tensor:
        """The clips as the network sees them.

        Args:
            clips: [B, V, C, T, H, W] of the same B samples, on any device. They may be overwritten.

        Returns:
            [B, V, C, T, H, W] in the same memory order (a loader's clips stay channels_last_3d).

        Raises:
            ValueError: the clips' shape is none that the task can take apart, or B differs.
        """
        self._check_batch(clips)
        return clips

    def invert(self, clips: torch.Tensor) -> torch.Tensor:
        """What `apply` was given, bit by bit; what was decided before decoding (remote, stride) stays.

        Arguments, memory and errors as in `apply`.
        """
        self._check_batch(clips)
        return clips

    @property
    def keeps_time(self) -> NDArray[np.bool_]:
        """[B] bool, whether `apply` leaves every frame at its place in time, in all clips of a sample.

        Differences of frames may then be taken before it, and frames that nobody is shown left out. Tasks that move
        pixels alone should tell so.
        """
        return np.full(len(self.label), type(self).apply is PretextDraw.apply)

    def describe(self, b: int) -> str:
        """What was done to sample b, in words."""
        return self.classes[int(self.label[b])]

    def sample(self, b: int) -> Self:
        """The draw of sample b alone, B = 1: whatever is an array has a row a sample."""
        row: dict[str, Any] = {
            name: value[b : b + 1] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return dataclasses.replace(self, **row)

    def _check_batch(self, clips: torch.Tensor) -> None:
        if clips.ndim != 6:
            raise ValueError(f"clips must be [B, V, C, T, H, W], not {list(clips.shape)}")
        if len(clips) != len(self.label):
            raise ValueError(f"clips of {len(clips)} samples, but {len(self.label)} draws")


class Pretext(ABC):
    """A pretext task. Further ones are subclasses: any recipe takes them."""

    name: ClassVar[str]
    """Its name in settings."""
    needs_order: ClassVar[bool] = False
    """Whether it asks for clips in temporal order, as a tuple has them; independent views will not do."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""

    @abstractmethod
    def contrast_views(self, views: int) -> tuple[int, ...]:
        """The views that are clean: content intact, and the label cannot be told from any one of them alone.

        Two of them make a positive pair for contrast. With others, contrast would learn to ignore what the pretext
        task asks for, or to tell videos apart by it.

        Args:
            views: clips a sample (V).
        """

    @abstractmethod
    def draw(self, seed: int, epoch: int, sample_ids: Ints, facts: Facts) -> PretextDraw:
        """Decide for each sample, uniformly over the classes that its video has room for.

        Args:
            seed: the run's seed.
            epoch: the epoch.
            sample_ids: [B].
            facts: of the same B samples.
        """

    def check(self, views: int, clip_frames: int) -> None:  # noqa: B027 - most tasks take any clips
        """Refuse clips that the task cannot take apart.

        Args:
            views: clips a sample (V).
            clip_frames: frames a clip (T).

        Raises:
            InputError: with the setting to change.
        """


def middle(views: int) -> int:
    """The view that a task changes where it changes one."""
    return views // 2


def need_views(name: str, views: int, wanted: int) -> None:
    """Refuse another number of clips than the task is made for.

    Raises:
        InputError: with the remedy.
    """
    if views != wanted:
        raise InputError(
            f"pretext.task {name} asks about {wanted} clips a sample, the recipe has {views}",
            remedy="use a TupleRecipe, or pretext.task rotation or speed",
        )

"""Pretext tasks: what was done to these clips? The label comes for free.

A task (`Pretext`) is an object of its settings alone. For each batch it draws what is done to whom (`PretextDraw`), a
pure function of (seed, epoch, sample id): a sample's draw does not depend on the rest of its batch.

    before decoding    draw.remote   which samples show a clip from elsewhere in their video
                       draw.stride   how fast the clips play
    after decoding     draw.apply    turned, shuffled, reordered: batched, on the device, in the clips' own memory

Where a task changes one clip, it is the middle one (view V // 2): it has its neighbours to be compared with, the first
and the third stay clean for contrast, and a sample of a single clip has that one changed.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.sharding.common.errors import InputError

__all__ = [
    "Changed",
    "Facts",
    "Pretext",
    "PretextDraw",
    "array_module",
    "change_rows",
    "frames_of",
    "middle",
    "need_views",
    "quarter_turned",
]

_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}

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
        """[B] bool, whether `apply` leaves every frame behind the one that it stood behind, in all clips of a sample.

        Differences of frames may then be taken before it. Tasks that move pixels alone should tell so.
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


def change_rows(rows: torch.Tensor, kind: Ints, change: Callable[[Any, int], Any]) -> None:
    """Change rows in place.

    On a GPU those of one kind together: as many steps as kinds, whatever the batch size. On a CPU one by one and by
    numpy: a row fits the cache, asks for no new pages, and torch's threads would wait for those that decode.

    Args:
        rows: [B, ...].
        kind: [B] what is to be done with each row; below 0: nothing.
        change: ([N, ...], kind) -> [N, ...], a tensor, or an array for an array; see `array_module`. May change its
            argument, and return it.
    """
    if rows.device.type == "cpu" and rows.dtype is not torch.bfloat16:  # numpy has no bfloat16
        array = rows.numpy()
        for row in np.flatnonzero(kind >= 0).tolist():
            part = array[row : row + 1]
            changed = change(part, int(kind[row]))
            if changed is not part:
                part[:] = changed
        return
    order = np.argsort(kind, kind="stable")
    order = order[kind[order] >= 0]
    if not len(order):
        return
    index = torch.from_numpy(order)
    if rows.is_cuda:
        index = index.pin_memory().to(rows.device, non_blocking=True)
    sorted_kind = kind[order]
    starts = np.flatnonzero(np.diff(sorted_kind, prepend=-1)).tolist()
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        group = index[start:end]
        rows.index_copy_(0, group, change(rows.index_select(0, group), int(sorted_kind[start])))


def quarter_turned(rows: Any, turns: int) -> Any:
    """[..., C, T, H, W] with all frames turned counter-clockwise, as `rot90` does it; in place where that is faster."""
    if (frames := frames_of(rows)) is None:
        return array_module(rows).rot90(rows, turns, (-2, -1))
    if turns % 4:
        for frame in frames:
            frame[:] = cv2.rotate(frame, _TURNS[turns % 4])  # several times as fast as numpy
    return rows


def frames_of(rows: Any) -> NDArray[Any] | None:
    """[N, H, W, 3], views of all frames of an array [..., C, T, H, W] whose channels lie together, as a loader's do.

    What is changed frame by frame stays in the core's cache and asks for no new pages. None for whatever else.
    """
    if not isinstance(rows, np.ndarray) or rows.shape[-4] != 3 or rows.dtype not in (np.float32, np.uint8):
        return None
    frames = np.moveaxis(rows, -4, -1)
    return frames.reshape(-1, *frames.shape[-3:]) if frames.flags.c_contiguous else None


def array_module(rows: Any) -> Any:
    """Numpy for its arrays, else torch: `rot90`, `roll`, `stack`, `concatenate` take the same positional arguments."""
    return np if isinstance(rows, np.ndarray) else torch

"""Which frames of a batch a decoder does not take: it tells of the batch as a whole."""

from collections.abc import Callable, Sequence

__all__ = ["UndecodableFramesError", "failing", "reason"]


class UndecodableFramesError(Exception):
    """JPEGs that cannot be decoded although their bytes are those that were packed.

    Attributes:
        frames: their positions in the batch, ascending.
    """

    def __init__(self, frames: Sequence[int], reason: str) -> None:
        self.frames = tuple(frames)
        super().__init__(
            f"{len(frames)} frames of the batch cannot be decoded, the first is number {frames[0]}: {reason}"
        )


def failing(count: int, attempt: Callable[[range], object]) -> list[int]:
    """Which of `count` frames fail, ascending, by halving what fails; a single bad one takes about 2 log2(count) tries.

    Args:
        count: frames.
        attempt: raises RuntimeError where a frame of the range fails.
    """
    found, parts = [], [range(count)] if count else []
    while parts:
        part = parts.pop()
        try:
            attempt(part)
        except RuntimeError:
            if len(part) == 1:
                found.append(part.start)
            else:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
    return sorted(found)


def reason(error: RuntimeError) -> str:
    """What happened, out of the many lines of an error of DALI's."""
    text = str(error).rpartition("encountered:")[2]
    for end in ("C++ context:", "Current pipeline object"):
        text = text.partition(end)[0]
    return " ".join(text.split())

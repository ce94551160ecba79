"""Memory that is used again when its last user has let go of it.

A batch of clips takes over a hundred megabytes. Asked for anew each time, the kernel clears every page before the first
write to it, which takes longer than all the arithmetic that fills them.
"""

import weakref
from collections import deque

import numpy as np
from numpy.typing import NDArray

__all__ = ["BufferPool"]


class BufferPool:
    """Hands out float32 arrays; safe to use from several threads.

    Who takes an array owns it alone, and need not give it back: when neither it nor a tensor that was made of it is
    left, its memory is kept for the next one of that size. Make tensors of it (`torch.from_numpy`), not further arrays:
    numpy's views hold on to the memory alone, and would find another batch in it.

    Args:
        spare: unused buffers that are kept; others go back to the system.
    """

    def __init__(self, spare: int = 2) -> None:
        self._free: deque[NDArray[np.float32]] = deque(maxlen=spare)

    def take(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """An array of that shape, filled with anything."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(shape, np.float32)
        if memory.shape != shape:
            memory = np.empty(shape, np.float32)
        lent = memory.view()
        back = weakref.finalize(lent, self._free.append, memory)
        back.atexit = False  # the program's memory goes as a whole
        return lent

    def clear(self) -> None:
        """Give unused buffers back to the system."""
        self._free.clear()

"""The one exception for mistakes that the caller can mend."""

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["InputError"]


class InputError(Exception):
    """Wrong input, told in one line: the value, the place where it stands, and the remedy.

    The command line turns it into that line and exit code 2, without a traceback.
    """

    def __init__(self, problem: str, *, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem} - {remedy}")

    def __reduce__(self) -> tuple[Callable[..., "InputError"], tuple[Any, ...]]:
        """Rebuild by keyword: the default would lose `remedy` on the way out of a worker process."""
        return functools.partial(InputError, self.problem, remedy=self.remedy), ()

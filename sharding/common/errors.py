"""The one exception for mistakes that the caller can mend."""

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["InputError", "visible"]

_LONGEST = 2000  # letters of a problem: the value that it names may be a whole file


def visible(text: str, at_most: int = _LONGEST) -> str:
    r"""Return text with what breaks lines, steers terminals or turns the direction of writing shown as `\xNN`.

    What is longer than `at_most` letters loses its middle.
    """
    if len(text) > at_most:
        half = at_most // 2
        text = f"{text[:half]} [...] {text[-half:]}"
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


class InputError(Exception):
    """Wrong input, told in one line: the value, the place where it stands, and the remedy.

    The command line turns it into that line and exit code 2, without a traceback. Whatever the values hold, it is one
    line of readable length.
    """

    def __init__(self, problem: str, *, remedy: str) -> None:
        self.problem = visible(problem)
        self.remedy = visible(remedy)
        super().__init__(f"{self.problem} - {self.remedy}")

    def __reduce__(self) -> tuple[Callable[..., "InputError"], tuple[Any, ...]]:
        """Rebuild by keyword: the default would lose `remedy` on the way out of a worker process."""
        return functools.partial(InputError, self.problem, remedy=self.remedy), ()

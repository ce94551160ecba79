"""What the three command lines share: wrong input ends in one clear line and exit code 2."""

import errno
import os
from typing import Any

import click

from pclkd.sharding.common.errors import InputError

__all__ = ["CleanGroup"]

# Conditions of the machine that the user can mend, with the remedy for each.
_MENDABLE = {
    errno.ENOSPC: "free some space or choose another folder; nothing unfinished was left under a final name",
    errno.EDQUOT: "free some of your quota or choose another folder",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) or choose another folder",
    errno.EACCES: "check the permissions or choose another folder",
    errno.EPERM: "check the permissions or choose another folder",
    errno.EROFS: "choose a folder on a writable file system",
}


class CleanGroup(click.Group):
    """A click group whose commands end in one line, not in a traceback, when the input is wrong."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command; InputError and mendable OSErrors become exit code 2."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            _tell(f"error: {error}")
        except OSError as error:
            if error.errno not in _MENDABLE:
                raise
            where = f" ({error.filename})" if error.filename else ""
            _tell(f"error: {error.strerror}{where} - {_MENDABLE[error.errno]}")
        raise click.exceptions.Exit(2)


def _tell(message: str) -> None:
    # In a job of several processes all of them meet the same mistake; one tells.
    if os.environ.get("RANK", "0") == "0":
        click.echo(message, err=True)

"""What object stores and web servers refuse, in one line each, whichever client tells it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pclkd.sharding.common.errors import InputError

__all__ = ["RefusedError", "told"]

_OF_THIS_MACHINE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.EROFS})
# They share no base class, and none of them may be imported here.
_CLIENTS = frozenset({"aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "requests", "urllib3"})
_LATER = frozenset({408, 429})  # answers of a web server that is too busy


class RefusedError(InputError):
    """A web server answers, and does not give this file; `answer` says why."""

    def __init__(self, url: str | Path, answer: str) -> None:
        self.answer = answer
        super().__init__(f"{url} is refused ({answer})", remedy="check the URL, and whether it needs a login")


@contextmanager
def told(url: str | Path) -> Iterator[None]:
    """Turn what a store refuses into one line; a missing file stays FileNotFoundError for the caller to judge."""
    try:
        yield
    except (FileNotFoundError, InputError):
        raise
    except PermissionError as error:
        raise InputError(f"no access to {url} ({error})", remedy="check the credentials and their rights") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THIS_MACHINE:
            raise
        name = type(error).__name__
        status = getattr(error, "status", None)
        if isinstance(status, int) and 400 <= status < 500 and status not in _LATER:
            raise RefusedError(url, f"{status} {getattr(error, 'message', '')}".rstrip()) from None
        if "Credential" in name or "Token" in name:
            remedy = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (Google: gcloud auth)"
            raise InputError(f"no credentials for {url} ({error})", remedy=remedy) from error
        if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _CLIENTS:
            remedy = "check the bucket, the network and AWS_ENDPOINT_URL"
            raise InputError(f"{url} cannot be reached ({error})", remedy=remedy) from error
        raise

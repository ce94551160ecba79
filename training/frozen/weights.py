"""Where weights of other libraries come from: the user's caches or a file; a network only where that is asked for.

`HF_HUB_OFFLINE=0` asks for it; without it nothing is fetched, whatever the libraries would do.
"""

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pclkd.sharding.common.errors import InputError
from pclkd.training.models.weights_file import load_weights_file

__all__ = ["cached_by_torch", "fetches", "library", "loaded", "not_there", "offline"]


def fetches() -> bool:
    """Whether weights may be fetched."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("0", "false", "no", "off")


def library(module: str, teacher: str, extra: str) -> ModuleType:
    """A library that only some teachers need.

    Args:
        module: that is imported.
        teacher: that needs it.
        extra: of this package that installs it.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"the teacher {teacher} needs {module}, which is not installed ({error})",
            remedy=f"pip install 'pclkd[{extra}]'",
        ) from None


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Hugging Face's library looks into its cache alone, even where it was loaded before."""
    constants: Any = importlib.import_module("huggingface_hub").constants
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = not fetches()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def not_there(teacher: str, where: Path | str, fetch: str) -> InputError:
    """What to say of weights that are not there.

    Args:
        teacher: whose they are.
        where: was looked for them.
        fetch: the command that fetches them.
    """
    return InputError(
        f"no weights of the teacher {teacher}: looked in {where}; nothing is fetched by itself",
        remedy=f"fetch them where there is a network ({fetch}), or let this command do it: HF_HUB_OFFLINE=0",
    )


def cached_by_torch(teacher: str, url: str) -> Path:
    """The file of torch's cache that a URL was fetched to; fetched now where that is allowed.

    Raises:
        InputError: it is not there.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.is_file():
        if not fetches():
            raise not_there(teacher, file, f"curl -L -o {file} {url}")
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), progress=False)
    return file


def loaded(file: Path, teacher: str) -> dict[str, torch.Tensor]:
    """A state dict of a file; only tensors and plain values are unpickled.

    Raises:
        InputError: there is no such file, or no state dict in it.
    """
    if not file.is_file():
        raise InputError(f"the teacher {teacher}: no file {file}", remedy="give a file of weights behind the @")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = load_weights_file(file)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"the teacher {teacher}: {file} cannot be read as weights ({error})",
            remedy="give a state dict, by torch.save or as safetensors",
        ) from None
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    return {name: value for name, value in state.items() if torch.is_tensor(value)}

"""A user's own module, which registers networks, terms or layouts of data sets. Both command lines load it so."""

import importlib
import importlib.util
import sys
from pathlib import Path

from pclkd.sharding.common.errors import InputError

__all__ = ["import_user_module"]

_GIVE = "give the file that registers what you add"


def import_user_module(name: str) -> None:
    """Import a module by its dotted name, or run a `.py` file once as a module.

    Raises:
        InputError: there is no such module or file, or importing it failed.
    """
    try:
        if name.endswith(".py"):
            _import_file(Path(name))
        else:
            importlib.import_module(name)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"--import {name} failed: {type(error).__name__}: {error}",
            remedy="give a .py file, or a module that Python finds (an installed one, or one on PYTHONPATH)",
        ) from error


def _import_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"--import {path}: no such file", remedy=_GIVE)
    name = path.stem
    if name in sys.modules:
        raise InputError(f"--import {path}: a module named {name!r} is loaded already", remedy="rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"--import {path} is not a Python file", remedy=_GIVE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise

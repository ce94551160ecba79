"""What the package shows to the world."""

import importlib
import subprocess
import sys

import pytest

import pclkd.pipeline as package


@pytest.mark.parametrize("name", package.__all__)
def test_every_public_name_is_there_is_documented_and_says_where_it_lives(name: str) -> None:
    thing = getattr(package, name)
    assert thing.__name__ == name and len(thing.__doc__) > 10
    assert name in importlib.import_module(thing.__module__).__all__
    assert name in dir(package)


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"No pclkd\.pipeline attribute ClipLoadre"):
        package.ClipLoadre  # noqa: B018


def test_importing_the_package_waits_for_neither_torch_nor_dali() -> None:
    code = "import sys, pclkd.pipeline; print(sorted({'torch', 'nvidia.dali', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

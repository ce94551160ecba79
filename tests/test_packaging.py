"""The house: what is installed, under which names, and who may import whom."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sharding", "pipeline", "training", "benchmarks")
SOURCES = sorted(path for name in (*PACKAGES, "tests") for path in (ROOT / name).glob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_folders_are_never_imported_by_their_bare_names(path: Path) -> None:
    """A bare import would load a second copy of every class."""
    bare = {name for name in imported(path) if name.split(".")[0] in PACKAGES}
    assert not bare, f"{path} imports {bare}; write pclkd.<name>"


def test_only_one_module_knows_dali_beside_the_peer_that_is_compared() -> None:
    knowing = [
        path for path in SOURCES if path.parent.name != "tests" and any("nvidia" in name for name in imported(path))
    ]
    assert [path.relative_to(ROOT).as_posix() for path in knowing] == ["benchmarks/dali_graphs.py", "pipeline/dali.py"]


def test_packages_are_flat() -> None:
    """A sub-package that setup.cfg does not list would be missing from the wheel."""
    nested = [path for name in PACKAGES for path in (ROOT / name).glob("*/*.py")]
    assert not nested


def test_every_module_is_installed_and_says_what_it_exports() -> None:
    for name in PACKAGES:
        for path in (ROOT / name).glob("*.py"):
            assert "__all__" in path.read_text() or path.stem == "__init__", f"{path} has no __all__"
            code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('pclkd.{name}.{path.stem}') is None)"
            if path.stem == "cli":
                assert subprocess.run([sys.executable, "-c", code], cwd="/", check=False).returncode == 0


def test_the_installed_version_answers(tmp_path: Path) -> None:
    version = metadata.version("pclkd")
    for script in ("shard-ucf101", "train-kd", "bench-throughput"):
        command = [str(Path(sys.executable).parent / script), "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert version in done.stdout


def test_rooms_are_small() -> None:
    long = {path.name: count for path in SOURCES if (count := len(path.read_text().splitlines())) > 300}
    assert not {name: count for name, count in long.items() if not name.startswith("test_")}

"""The house: what is installed, under which names, and who may import whom."""

import ast
import configparser
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sharding", "pipeline", "training", "benchmarks")
SOURCES = sorted(path for name in (*PACKAGES, "tests") for path in (ROOT / name).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_folders_are_never_imported_by_their_bare_names(path: Path) -> None:
    """A bare import would load a second copy of every class."""
    bare = {name for name in imported(path) if name.split(".")[0] in PACKAGES}
    assert not bare, f"{path} imports {bare}; write pclkd.<name>"


def test_the_decoder_alone_knows_dali_beside_the_peer_that_is_compared() -> None:
    knowing = [
        path
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] != "tests" and any("nvidia" in name for name in imported(path))
    ]
    assert [path.relative_to(ROOT).as_posix() for path in knowing] == [
        "benchmarks/loading/graphs.py",
        "pipeline/pixels/dali.py",
        "pipeline/pixels/dali_graph.py",
    ]


def test_every_room_is_installed_and_has_a_sign() -> None:
    """A sub-package that setup.cfg does not list would be missing from the wheel."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = config["options"]["packages"].split()
    folders = {path.parent.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    assert sorted(listed) == sorted("pclkd." + ".".join(folder.parts) for folder in folders)
    for folder in folders:
        sign = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text()))
        assert sign and len(sign) > 40, f"{folder}/__init__.py does not say what the room is for"


def test_every_module_says_what_it_exports() -> None:
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] != "tests" and path.stem not in {"__init__", "__main__"}:
            assert "__all__" in path.read_text(), f"{path} has no __all__"


def test_the_installed_version_answers(tmp_path: Path) -> None:
    version = metadata.version("pclkd")
    for script in ("shard-ucf101", "train-kd", "bench-throughput"):
        command = [str(Path(sys.executable).parent / script), "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert version in done.stdout


def test_rooms_are_small() -> None:
    long = {path.name: count for path in SOURCES if (count := len(path.read_text().splitlines())) > 350}
    assert not {name: count for name, count in long.items() if not name.startswith("test_")}

"""What is installed: locked by hash, its licence told; what is optional is; the same sources give the same wheel."""

import configparser
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
AGAIN = "run make lock"


def test_the_lock_has_a_hash_of_everything_that_is_pinned_and_names_no_index() -> None:
    text = (ROOT / ".ci" / "requirements.lock").read_text()
    rows = [line for line in text.splitlines() if not line.startswith("#")]
    assert [row.partition(" ")[0] for row in rows] == [f"{name}=={version}" for name, version in PINS.items()], AGAIN
    assert all(re.fullmatch(r"\S+==\S+ --hash=sha256:[0-9a-f]{64}", row) for row in rows)
    assert len({row.rpartition(":")[2] for row in rows}) == len(rows)
    assert "://" not in text


def test_the_licence_of_everything_that_is_pinned_is_told() -> None:
    text = (ROOT / "docs" / "licences.md").read_text()
    rows = [
        tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in text.splitlines() if line.startswith("| ")
    ]
    assert [row[:2] for row in rows[1:]] == list(PINS.items()), AGAIN
    unknown = [name for name, _, licence in rows[1:] if not licence]
    assert not unknown
    # Copyleft in what is linked into the process would bind who passes an application on.
    assert [name for name, _, licence in rows[1:] if re.search(r"\b[AL]?GPL", licence)] == []


def requirements() -> dict[str, Requirement]:
    """Every direct requirement, of the core and of all extras, by name."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    lines = [line.partition("#")[0].strip() for text in texts for line in text.splitlines()]
    wanted = [Requirement(line) for line in lines if line]
    return {canonicalize_name(one.name): one for one in wanted}


def test_versions_with_known_holes_are_refused() -> None:
    """The table of docs/supply.md: package, what is refused, why."""
    text = (ROOT / "docs" / "supply.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) \| ([\d.]+) \|", text, re.MULTILINE)
    wanted, build = requirements(), (ROOT / "pyproject.toml").read_text()
    wanted |= {"setuptools": Requirement(re.findall(r'"(setuptools[^"]+)"', build)[0])}
    assert len(rows) >= 6
    for name, last_with_hole, first_without in rows:
        assert not wanted[name].specifier.contains(last_with_hole), name
        assert wanted[name].specifier.contains(first_without), name


def test_what_is_pinned_fulfils_what_is_asked_for() -> None:
    for name, wanted in requirements().items():
        pinned = {canonicalize_name(pin): version for pin, version in PINS.items()}.get(name)
        assert pinned is None or wanted.specifier.contains(pinned), (name, pinned)


def test_the_core_alone_packs_trains_and_names_the_extra_that_is_missing(tmp_path: Path) -> None:
    """Everything that no core requirement brings along is missing, whatever is installed here."""
    done = subprocess.run(
        [sys.executable, "-P", ROOT / "tests" / "core_alone.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-4]) > 20  # so that something was blocked


BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def built(place: Path, *, late: bool) -> tuple[str, bytes]:
    """The wheel of a copy of the sources, made with other times, in another folder and order."""
    source = place / "source"
    source.mkdir(parents=True)
    names = ["sharding", "pipeline", "training", "benchmarks", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"]
    for name in reversed(names) if late else names:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(
            ROOT / name,
            source / name,
            **({"ignore": shutil.ignore_patterns("__pycache__")} if copy is shutil.copytree else {}),
        )
    for file in source.rglob("*"):
        os.utime(file, (1.5e9 + 1e8 * late, 1.5e9 + 1e8 * late))
    subprocess.run(
        [sys.executable, "-c", BUILD, str(place)],
        cwd=source,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "PYTHONHASHSEED": str(int(late))},
        check=True,
        capture_output=True,
    )
    (wheel,) = place.glob("*.whl")
    return wheel.name, wheel.read_bytes()


def test_the_same_sources_give_the_same_wheel_byte_for_byte(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    first, second = built(tmp_path / "a", late=False), built(tmp_path / "elsewhere" / "b", late=True)
    assert first[0] == second[0]
    assert hashlib.sha256(first[1]).hexdigest() == hashlib.sha256(second[1]).hexdigest()

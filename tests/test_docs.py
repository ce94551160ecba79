"""What README.md and docs/ name is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TOP = "benchmarks|docs|pipeline|sharding|tests|training"
LINES_OF_README = 150


def named(text: str) -> Iterator[str]:
    """Every path from the repository's root on: in backticks, in fenced blocks, in prose."""
    # Neither a piece of an address or a longer path, nor a "training/..." that goes on with a wildcard.
    for found in re.finditer(rf"(?<![\w./:-])(?:{TOP})/[\w./-]*\w(?![\w<*])", text):
        yield found[0]
    # Files of the root itself.
    yield from re.findall(r"`((?:Makefile|[\w-]+\.(?:md|toml|cfg)|constraints\.txt))`", text)


def linked(text: str) -> Iterator[tuple[str, str]]:
    """Every link that is no address: path (empty for the page itself) and heading (or empty)."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            path, _, heading = target.partition("#")
            yield path, heading


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes links of them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_that_are_named_exist(page: Path) -> None:
    assert [path for path in named(page.read_text()) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for path, heading in linked(page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not heading or heading in anchors(target), f"{path}#{heading}"


def test_moved_files_would_be_noticed() -> None:
    told = "see `pipeline/gone.py`, [this](docs/gone.md#part), tests/gone and https://x.org/docs/gone"
    assert list(named(told)) == ["pipeline/gone.py", "docs/gone.md", "tests/gone"]
    assert list(linked(told)) == [("docs/gone.md", "part")]


def test_the_readme_is_one_page() -> None:
    assert len(PAGES[0].read_text().splitlines()) <= LINES_OF_README


def test_the_architecture_names_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    packages = ("sharding", "pipeline", "training", "benchmarks")
    rooms = [sign.parent for package in packages for sign in (ROOT / package).glob("*/__init__.py")]
    names = [room.relative_to(ROOT).as_posix() for room in rooms]
    assert len(names) > 20 and [name for name in names if name not in text] == []

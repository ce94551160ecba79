"""Folders that reports read, made hostile: runs, studies, results of benchmarks; and settings from the command line."""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from cases import NAMES, VALUES, Target, mutated, mutations
from hypothesis import strategies as st
from material import make_run, make_study
from promise import held

__all__ = ["TARGETS", "check_page", "write_without_pictures"]

_RUN_FILES = ("settings.json", "metrics.jsonl", "env.json", "eval-linear.json", "eval-finetune.json")
_BYTES = st.sampled_from([b"", b"\xff\xfe\x00", b"[" * 100_000, b"null", b"[]", b"9" * 5000, b"{}", b'"\\ud800"'])


@st.composite
def _folder_cases(draw: st.DrawFn, files: tuple[str, ...]) -> dict[str, Any]:
    how = draw(st.one_of(mutations, mutations, mutations, mutations, _BYTES))
    return {"file": draw(st.sampled_from(files)), "how": how, "line": draw(st.integers(0, 11))}


def _change(file: Path, case: dict[str, Any]) -> None:
    how = case["how"]
    if isinstance(how, bytes):
        file.write_bytes(how)
    elif file.suffix == ".jsonl":
        lines = file.read_text().splitlines()
        number = case["line"] % len(lines)
        lines[number] = json.dumps(mutated(json.loads(lines[number]), how))
        file.write_text("\n".join(lines))
    else:
        file.write_text(json.dumps(mutated(json.loads(file.read_text()), how)))


class _Tags(HTMLParser):
    """What a page has: tags, and attributes that run code."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts, self.handlers = 0, [""][:0]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count scripts, and note what a browser would run or fetch."""
        self.scripts += tag == "script"
        self.handlers += [f"{tag} {name}={value}" for name, value in attrs if name.startswith("on")]
        for name, value in attrs:
            if name in ("src", "href") and not (value or "").startswith(("data:", "#", "../")):
                self.handlers.append(f"{tag} {name}={value}")


def check_page(text: str, scripts: int) -> None:
    """A page that runs its own scripts and no others, and asks nobody for anything."""
    tags = _Tags()
    tags.feed(text)
    assert tags.scripts == scripts and not tags.handlers, (tags.scripts, tags.handlers)


def write_without_pictures(directory: Path) -> str:
    """All of a report's text, without the seconds that its pictures take."""
    from pclkd.training.report.comparison import compare_runs
    from pclkd.training.report.page import render_page
    from pclkd.training.report.report import csv_table, evaluation_table, markdown_table, run_table, teacher_table
    from pclkd.training.report.seeds import group_seeds, median_run, seed_table
    from pclkd.training.runs.run_folder import find_runs

    standings = compare_runs(find_runs(directory))
    runs = [standing for standing in standings if standing.role != "control"]
    groups = group_seeds(runs)
    medians = compare_runs([median_run(group) for group in groups])
    made = (seed_table(groups), run_table(runs), teacher_table(medians), evaluation_table(standings))
    tables = [table for table in made if table is not None]
    for table in tables:
        markdown = markdown_table(table)
        assert "<" not in markdown
        assert {line.count(" |") for line in markdown.splitlines()[: len(table.rows) + 1]}
    assert len(csv_table(standings).splitlines()) >= 1
    return render_page(standings, tables, {"overview": b"", "losses": b""})


def _check_run(case: dict[str, Any], folder: Path) -> None:
    runs = folder / "runs"
    make_run(runs, "teacher")
    run = make_run(runs, "student", {"teacher": str(runs / "teacher")})
    _change(run / case["file"], case)
    pages: list[str] = []
    held(lambda: pages.append(write_without_pictures(runs)), folder)
    for page in pages:
        check_page(page, scripts=0)


def _check_drawn(case: dict[str, Any], folder: Path) -> None:
    from pclkd.training.report.report import write_report

    runs = folder / "runs"
    run = make_run(runs, "student")
    _change(run / case["file"], case)
    held(lambda: write_report(runs), runs / "report")


def _check_study(case: dict[str, Any], folder: Path) -> None:
    from pclkd.training.findings.devices import Devices
    from pclkd.training.findings.page import render_page, settings_block
    from pclkd.training.findings.records import read_study

    study = make_study(folder / "study")
    _change(study / case["file"], case)
    pages: list[str] = []

    def read() -> None:
        found = read_study(study)
        devices = Devices(found, study)
        blocks = [("Settings", settings_block(found))]
        if devices:
            blocks += [(name, chart) for name, chart in devices.charts().items()]
            assert devices.table().rows
        for run in found.runs:
            assert (study / run.name).parent == study
        pages.append(render_page(found, blocks))

    held(read, folder)
    for page in pages:
        check_page(page, scripts=2)


def _settings_cases() -> st.SearchStrategy[Any]:
    from pclkd.training.settings import flat, preset

    known = sorted(flat(preset("pcl")))
    path = st.one_of(
        st.sampled_from(known),
        st.sampled_from(known),
        NAMES,
        st.sampled_from(
            [
                "pcl.own_terms.x",
                "kd",
                "optimizer",
                "pcl.own_terms.a.b",
                "loader.cache_dir.x",
                "optimizer.milestones.0",
                ".",
            ]
        ),
    )
    value = st.one_of(VALUES.map(json.dumps), NAMES, st.just("[" * 100_000), st.just("1e999"))
    return st.lists(st.tuples(path, value), min_size=1, max_size=3)


def _check_settings(case: list[Any], folder: Path) -> None:
    from pclkd.training.settings import RunSettings, describe, override, preset

    found: list[RunSettings] = []
    held(lambda: found.append(override(preset("demo"), [f"{path}={value}" for path, value in case])), folder)
    held(lambda: override(preset("pcl"), [path for path, _ in case]), folder)
    for settings in found:
        held(lambda settings=settings: describe(settings), folder)
        assert RunSettings.model_validate_json(settings.model_dump_json()) == settings


def _check_result(case: dict[str, Any], folder: Path) -> None:
    from pclkd.benchmarks.measuring.compare import compare_results, show_changes
    from pclkd.benchmarks.measuring.result import read_result

    figure: dict[str, Any] = dict.fromkeys(
        ("median", "low", "high", "confidence_pct", "spread_pct", "ratio", "ratio_low", "ratio_high"), 1.0
    )
    figure |= {"name": "a", "unit": "clips/s", "rounds": 1, "values": [1.0], "extra": {"x": 1.0}}
    env = {"gpu": None, "cpu": "one", "cores": 2, "torch": "2", "dali": "2", "pclkd": "1", "date_utc": "now"}
    result = {"format_version": 2, "benchmark": "load", "base": "a", "results": [figure], "missing": {}, "env": env}
    result |= {"settings": {}, "notes": []}
    before, after = folder / "before.json", folder / "after.json"
    before.write_text(json.dumps(result))
    after.write_text(json.dumps(result))
    _change(after, case)

    def read() -> None:
        results = read_result(before), read_result(after)
        show_changes(*results, compare_results(*results))

    held(read, folder)


def _files(check: Callable[[Any, Path], None], name: str, files: tuple[str, ...], examples: int) -> Target:
    return Target(name, _folder_cases(files), check, examples)


TARGETS = (
    _files(_check_run, "runs", _RUN_FILES, 80),
    _files(_check_drawn, "drawn-runs", _RUN_FILES[:2], 3),
    _files(
        _check_study,
        "studies",
        ("study.json", "latency.json", "student/onnx.json", "student/settings.json", "student/answers.jsonl"),
        50,
    ),
    Target("settings", _settings_cases(), _check_settings, 120),
    _files(_check_result, "results", ("after.json",), 30),
)

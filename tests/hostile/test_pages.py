"""Names that are code, in every page and in TensorBoard: as text, and in a browser where there is one."""

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from folders import check_page
from material import make_run, make_study
from promise import held

from pclkd.training.evaluation.evaluator import VideoFeatures
from pclkd.training.findings.page import html_document
from pclkd.training.findings.report import write_study_report
from pclkd.training.loop.metrics_log import MetricsLog
from pclkd.training.report.report import write_report
from pclkd.training.visualize.drawing import Matrix

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
HAS_BROWSER = CHROMIUM is not None and importlib.util.find_spec("playwright") is not None
# What would change the page's title if it ran, and what breaks lines, quotes, formulas and the direction of writing.
EVIL = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "</script><script>document.title='owned'//",
    "</title></style><svg onload=document.title='owned'>",
    "javascript:document.title='owned'",
    "a|b `c` [d](javascript:document.title='owned')",
    "line\nbreak\ttab\x1b[2J",
    "$\\frac{1}{$ %s {0} 🏃 مرحبا \u202egnp.exe",
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, int]:
    """Pages of reports whose names are code, and how many scripts of its own each has."""
    root = tmp_path_factory.mktemp("pages")
    runs = root / "runs"
    for name in EVIL:
        settings = {"teacher": f"x/{name}", "note": name, name: {name: name}}
        make_run(runs, name.replace("/", "∕"), settings)
    assert held(lambda: write_report(runs), runs / "report", seconds=90) is None
    study = make_study(root / "study")
    plan = json.loads((study / "study.json").read_text())
    for run, name in zip(plan["runs"], EVIL, strict=False):
        (study / run["name"]).rename(study / name.replace("/", "∕"))
    names = {run["name"]: name.replace("/", "∕") for run, name in zip(plan["runs"], EVIL, strict=False)}
    for run in plan["runs"]:
        run |= {"name": names[run["name"]], "teacher": names.get(run["teacher"]), "terms": EVIL[0]}
    (study / "study.json").write_text(json.dumps({**plan, "preset": EVIL[1]}))
    assert held(lambda: write_study_report(study), study / "report", seconds=90) is None
    matrix = Matrix(EVIL[0], EVIL[1], EVIL[2], EVIL, EVIL, np.zeros((len(EVIL), len(EVIL))), full=100, decimals=0)
    drawn = root / "drawn.html"
    drawn.write_text(html_document(EVIL[0], EVIL[3], [(EVIL[1], matrix.svg())], scripts=""))
    return {runs / "report" / "index.html": 0, study / "report" / "index.html": 2, drawn: 0}


def test_names_are_text(pages: dict[Path, int]) -> None:
    for page, scripts in pages.items():
        check_page(page.read_text(), scripts)
        for table in page.parent.glob("*.md"):
            assert "<script" not in table.read_text() and "[d](" not in table.read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.mark.skipif(not HAS_BROWSER, reason="no Chromium, or no playwright to steer it")
def test_no_name_runs_in_a_browser(pages: dict[Path, int], browser) -> None:
    for page in pages:
        asked: list[str] = []
        opened = browser.new_page()
        opened.on("request", lambda request, asked=asked: asked.append(request.url))
        opened.goto(page.as_uri())
        opened.wait_for_load_state("load")
        for link in opened.locator("summary").all():
            link.click()
        assert opened.title() != "owned" and not opened.title().startswith("owned")
        assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
        opened.close()


def test_names_in_tensorboard_stay_in_the_run_folder(tmp_path: Path) -> None:
    count = len(EVIL)
    videos = VideoFeatures(torch.rand(count, 4), torch.arange(count), torch.arange(count), torch.rand(count, 3, 8, 8))

    def write() -> None:
        log = MetricsLog(tmp_path / "run", 0)
        for step, name in enumerate(EVIL):
            log.write({"kind": "epoch", "epoch": step, "step": step, f"../../{name}": 1.0, "told": name})
        log.summary({name: {name: name} for name in EVIL}, {"val/x": 1.0}, videos, [name.strip() for name in EVIL])
        log.close()

    (tmp_path / "run").mkdir()
    assert held(write, tmp_path / "run", seconds=60) is None
    metadata = next((tmp_path / "run").rglob("metadata.tsv")).read_text()
    assert "owned" in metadata
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]

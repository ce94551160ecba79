"""The page of a study in a real browser: pointer, keys, switches, colours, paper and narrow screens."""

import importlib.util
import json
import shutil
from pathlib import Path
from statistics import median

import pytest

from pclkd.training.findings.report import write_study_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
HAS_BROWSER = CHROMIUM is not None and importlib.util.find_spec("playwright") is not None
pytestmark = pytest.mark.skipif(not HAS_BROWSER, reason="no Chromium, or no playwright to steer it")

PATIENCE_MS = 900_000.0  # a machine may be as busy as it likes
EPOCHS, REPETITIONS = 6, 3
PRETEXT, LINEAR = "val/pretext_top1_pct", "val/linear_top1_pct"


@pytest.fixture(scope="module")
def study(tmp_path_factory, write_study):
    """Two networks, two shares of the videos, another width, and latencies: every sort of section."""

    def extend(plan):
        for run in list(plan["runs"]):
            if run["kind"] != "baseline":
                plan["runs"].append({**run, "width": 0.5, "name": f"{run['name']}-narrow"})
                plan["runs"].append({**run, "fraction": 0.5, "name": f"{run['name']}-half"})

    where = tmp_path_factory.mktemp("page") / "study"
    folder = write_study(
        where, backbones=("c3d", "r3d"), repetitions=REPETITIONS, epochs=EPOCHS, videos=50, change=extend
    )
    networks = [
        {"network": f"{name}{width}", "precision": how, "bytes": 10**6, "ms": [time, time * 1.1, time * 1.2]}
        for name, time in (("C3D", 4.0), ("R3D", 3.0))
        for width in ("", " ×0.5")
        for how in ("float", "int8")
    ]
    told = {"rounds": 3, "clip": [3, 8, 32, 32], "environment": {"cpu": "one"}, "networks": networks}
    (folder / "latency.json").write_text(json.dumps(told))
    for run in json.loads((folder / "study.json").read_text())["runs"]:
        found = {how: {"linear_top1_pct": 50.0, "retrieval_r1_pct": 40.0} for how in ("float", "int8")}
        (folder / run["name"] / "onnx.json").write_text(json.dumps(found))
    write_study_report(folder)
    return folder


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        flags = ["--no-sandbox", "--disable-gpu"]
        opened = play.chromium.launch(executable_path=CHROMIUM, args=flags, timeout=PATIENCE_MS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, study):
    """The page, opened; whatever it says on the console, or asks of the network, fails the test."""
    told, asked = [], []
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    opened.set_default_timeout(PATIENCE_MS)
    opened.on("console", lambda message: told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    address = (study / "report" / "index.html").as_uri()
    opened.goto(address)
    yield opened
    opened.close()
    assert told == [] and asked == [address]


def curve(study: Path, run: str, metric: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (study / run / "metrics.jsonl").read_text().splitlines()]
    return {line["epoch"]: line[metric] for line in lines if line["kind"] == "epoch"}


def told_at(study: Path, epoch: int, metric: str, groups: list[int]) -> dict[str, float]:
    """What figure 5 (R3D taught by R3D) should say of an epoch: medians of its three lines."""
    names = {
        "R3D, teacher": "baseline-r3d-s{}",
        "R3D, no teacher": "control-r3d-s10{}",
        "R3D, student": "r3d-from-r3d-s10{}",
    }
    return {
        label: median(curve(study, name.format(group), metric)[epoch] for group in groups)
        for label, name in names.items()
    }


def figure(page, number: int = 5):
    return page.locator("figure", has=page.locator("h3", has_text=f"Figure {number}:"))


def chart(page, metric: str = "pretext"):
    return figure(page).locator(f"[data-metric={metric}] svg.chart")


def tip(page) -> tuple[str, dict[str, float]]:
    """Heading of the shown values, and the median of each line."""
    take = "rows => rows.map(row => [row.querySelector('span')?.textContent, row.lastChild.textContent])"
    rows = figure(page).locator(".tip > div").evaluate_all(take)
    return (rows[0][1] if rows else ""), {label: float(told.split(",")[0]) for label, told in rows[1:]}


def ends(page, metric: str = "pretext") -> dict[str, float]:
    """By line the number at its right end."""
    lines = chart(page, metric).locator("g.line")
    return {
        lines.nth(number).get_attribute("data-label"): float(lines.nth(number).locator(".end").text_content())
        for number in range(lines.count())
    }


def near(found: dict[str, float], wanted: dict[str, float]) -> bool:
    return found == pytest.approx(wanted, abs=0.06)  # one decimal is told


def test_the_chosen_accuracy_is_the_one_that_is_shown(page, study):
    for metric in ("linear", "retrieval", "pretext"):
        page.check(f"input[name=metric][value={metric}]")
        shown = page.locator("[data-metric]:visible")
        kinds = {shown.nth(number).get_attribute("data-metric") for number in range(shown.count())}
        assert kinds == {metric} and chart(page, metric).is_visible()
    assert near(ends(page), told_at(study, EPOCHS, PRETEXT, [0, 1, 2]))
    assert near(ends(page, "linear"), told_at(study, EPOCHS, LINEAR, [0, 1, 2]))


def test_the_pointer_reads_values(page, study):
    svg = chart(page)
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    left, right, first, last = map(float, svg.get_attribute("data-x").split())
    for epoch in (1, 4):
        place = left + (right - left) * (epoch - first) / (last - first)
        page.mouse.move(box["x"] + place * box["width"] / 480, box["y"] + box["height"] / 2)
        heading, values = tip(page)
        assert heading == f"epoch {epoch}" and near(values, told_at(study, epoch, PRETEXT, [0, 1, 2]))
    page.mouse.move(1, 1)
    assert tip(page) == ("", {}) and not figure(page).locator(".tip").is_visible()


def test_the_keys_read_values_too(page, study):
    svg = chart(page)
    svg.focus()
    for key, epoch in (("ArrowRight", 0), ("ArrowRight", 1), ("End", EPOCHS), ("ArrowLeft", EPOCHS - 1), ("Home", 0)):
        svg.press(key)
        heading, values = tip(page)
        assert heading == f"epoch {epoch}" and near(values, told_at(study, epoch, PRETEXT, [0, 1, 2]))
    svg.press("Escape")
    assert tip(page) == ("", {})
    svg.press("End")
    svg.press("Tab")  # whoever goes on leaves nothing behind
    assert tip(page) == ("", {})


def test_a_repetition_that_is_switched_off_leaves_medians_and_values(page, study):
    page.uncheck("input[name=group][value='1']")
    assert near(ends(page), told_at(study, EPOCHS, PRETEXT, [0, 2]))
    runs = chart(page).locator(".run")
    shown = [runs.nth(n).get_attribute("data-group") for n in range(runs.count()) if runs.nth(n).is_visible()]
    assert sorted(set(shown)) == ["0", "2"] and len(shown) == 6
    svg = chart(page)
    svg.focus()
    svg.press("End")
    assert near(tip(page)[1], told_at(study, EPOCHS, PRETEXT, [0, 2]))
    page.check("input[name=group][value='1']")
    assert near(ends(page), told_at(study, EPOCHS, PRETEXT, [0, 1, 2]))


def test_lines_runs_spread_and_controls_can_be_switched_off(page):
    lines = chart(page).locator("g.line")
    button = figure(page).get_by_role("button", name="R3D, student")
    button.click()
    assert button.get_attribute("aria-pressed") == "false" and not lines.nth(2).is_visible()
    chart(page).focus()
    chart(page).press("End")
    assert list(tip(page)[1]) == ["R3D, teacher", "R3D, no teacher"]
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "true" and lines.nth(2).is_visible()
    for name, part in (("runs", ".run"), ("spread", ".band"), ("controls", "g.control")):
        assert chart(page).locator(part).first.is_visible()
        page.uncheck(f"input[name={name}]")
        assert not chart(page).locator(part).first.is_visible()
    assert chart(page).locator("g.student .median").is_visible()


def test_without_its_script_the_legend_is_there_and_asks_for_nothing(browser, page):
    context = browser.new_context(java_script_enabled=False)
    still = context.new_page()
    still.goto(page.url)
    assert still.locator("figcaption button:enabled").count() == 0 < still.locator("figcaption button:visible").count()
    context.close()
    assert page.locator("figcaption button:disabled").count() == 0


def test_an_interval_stands_below_its_value(page):
    cell = page.locator("td.open:visible").filter(has_text=" to ").filter(has_text="(").first
    assert cell.locator("small").evaluate("small => getComputedStyle(small).display") == "block"
    assert cell.inner_text().split("\n")[1].startswith("(")


def test_everything_can_be_reached_and_seen_on_a_narrow_screen(page):
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_function("window.innerWidth === 400")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert all(box.bounding_box()["width"] <= 400 for box in page.locator("section").all())
    page.locator("#controls input").first.focus()
    for _ in range(200):  # by keys alone to the last table
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('section')?.matches(':last-of-type')"):
            break
    else:
        pytest.fail("the keys did not come to the last section")


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, by WCAG."""
    shares = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_writing_stands_out_in_light_and_in_dark(page, scheme):
    page.emulate_media(color_scheme=scheme)
    colour = "element => getComputedStyle(element).color"
    ground = "element => getComputedStyle(element.closest('section')).backgroundColor"
    for element in (page.locator("section td").first, page.locator("section .note").first):
        ink, paper = luminance(element.evaluate(colour)), luminance(element.evaluate(ground))
        assert (ink > paper) == (scheme == "dark")
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5


def test_on_paper_there_are_figures_and_no_switches(page):
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("#controls").is_visible() and chart(page).is_visible()
    assert luminance(page.locator("section td").first.evaluate("e => getComputedStyle(e).color")) < 0.2

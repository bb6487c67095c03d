"""The report in a browser: it renders in both themes, its sounds play, and it asks for nothing outside itself."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from devtools import Browser, find_browser
from PIL import Image

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on the PATH")
WIDTHS = (1280, 400)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(str(PROGRAM), tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture
def page(browser: Browser, report: Path) -> Browser:
    browser.events.clear()
    browser.open(report.as_uri())
    return browser


def test_every_section_and_drawing_has_a_size(page: Browser) -> None:
    sizes = """Object.fromEntries([...document.querySelectorAll("section")].map(
        s => [s.id, [s.getBoundingClientRect().width, s.getBoundingClientRect().height]]))"""
    found = page.run(sizes)
    named = ["figures", "samples", "translations", "interpolation", "training", "graph", "environment", "config"]
    assert set(found) == {*named, "extra-1"}
    assert all(width > 500 and height > 30 for width, height in found.values()), found
    drawings = """[...document.querySelectorAll("svg, img, button.sound")].map(
        x => [x.tagName, x.getBoundingClientRect().width, x.getBoundingClientRect().height])"""
    found = page.run(drawings)
    assert len(found) > 50
    assert all(width > 8 and height > 8 for _, width, height in found), found
    assert page.run("[...document.images].every(x => x.complete && x.naturalWidth > 0)")


def test_a_sound_knows_how_long_it_is_and_plays_to_the_end(page: Browser) -> None:
    play = """new Promise((done, failed) => {
        const button = document.querySelector("button.sound"), told = [];
        const audio = document.getElementById(button.dataset.sound);
        for (const kind of ["loadedmetadata", "playing", "ended"])
            audio.addEventListener(kind, () => told.push([kind, audio.duration, button.getAttribute("aria-pressed")]));
        const later = () => done([...told, button.getAttribute("aria-pressed")]);
        audio.addEventListener("ended", () => setTimeout(later, 50));
        audio.addEventListener("error", () => failed(audio.error.message));
        setTimeout(() => done(["late", ...told]), 20000);
        button.click();
    })"""
    *told, after = page.run(play)
    assert [kind for kind, _, _ in told] == ["loadedmetadata", "playing", "ended"]
    assert [duration for _, duration, _ in told] == pytest.approx([0.25] * 3, abs=1e-3)
    assert told[1][2] == "true"
    assert after == "false"


def test_one_sound_plays_at_a_time_and_a_second_press_stops_it(page: Browser) -> None:
    press = """new Promise(done => {
        const [a, b] = [...document.querySelectorAll("button.sound")].filter((x, i, all) =>
            all.findIndex(y => y.dataset.sound === x.dataset.sound) === i);
        const sound = x => document.getElementById(x.dataset.sound), states = [];
        const note = () => states.push([a, b].map(x => [x.getAttribute("aria-pressed"), sound(x).paused]));
        for (const x of [a, b]) sound(x).loop = true;
        a.click(); note(); b.click(); note(); b.click(); note();
        done(states);
    })"""
    assert page.run(press) == [
        [["true", False], ["false", True]],
        [["false", True], ["true", False]],
        [["false", True], ["false", True]],
    ]


def test_the_pointer_and_the_arrow_keys_show_the_values_of_an_epoch_in_all_charts(page: Browser) -> None:
    hover = """(() => {
        const charts = [...document.querySelectorAll("svg.chart")], first = charts[0];
        const said = () => charts.map(x => x.closest("figure").querySelector("output").textContent);
        const box = first.getBoundingClientRect(), before = said();
        const place = {clientX: box.right - 12, clientY: box.top + 50, bubbles: true};
        first.dispatchEvent(new PointerEvent("pointermove", place));
        const last = said();
        first.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft", bubbles: true}));
        const beside = said();
        first.dispatchEvent(new PointerEvent("pointerleave"));
        return [before, last, beside, said()];
    })()"""
    before, last, beside, after = page.run(hover)
    assert all(text.startswith("last ") for text in before)
    assert all(text.startswith("together 2: ") for text in last)
    assert all(text.startswith("together 1: ") for text in beside)
    assert after == before


@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_of_any_width_scrolls_inside_its_boxes_only(browser: Browser, report: Path, width: int) -> None:
    browser.open(report.as_uri(), width=width)
    assert browser.run("[innerWidth, document.documentElement.scrollWidth]") == [width, width]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_both_themes_draw_dark_on_light_or_light_on_dark(
    browser: Browser, report: Path, tmp_path: Path, scheme: str, width: int
) -> None:
    browser.open(report.as_uri(), width=width, scheme=scheme)
    pixels = np.asarray(Image.open(browser.screenshot(tmp_path / "page.png")).convert("L"))
    assert pixels.shape[1] == width
    common = np.bincount(pixels.ravel(), minlength=256).argmax()
    assert common > 240 if scheme == "light" else common < 30
    title = pixels[20:60, 16:300].astype(int)
    assert abs(title - int(common)).max() > 180


def test_nothing_is_asked_of_anybody_and_nothing_goes_wrong(page: Browser, report: Path) -> None:
    page.run("document.querySelectorAll('details').forEach(x => { x.open = true })")
    page.run("new Promise(done => setTimeout(done, 300))")
    asked = [event["request"]["url"] for event in page.told("Network.requestWillBeSent")]
    assert report.as_uri() in asked
    assert {url for url in asked if not url.startswith("data:")} == {report.as_uri()}
    assert not page.told("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
    assert not page.told("Network.loadingFailed")
    assert page.run("document.querySelectorAll('[onerror]').length") == 0

"""The page in a real browser: every control is used, nothing is asked of a network, nothing is said on the console."""

import contextlib
import shutil
import threading
import urllib.parse
from dataclasses import replace

import numpy as np
import pytest

from tests.report.conftest import HOSTILE
from wsseg.report.contents import gather
from wsseg.report.page import render, render_comparison
from wsseg.store.runs import find_run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install wsseg[dev]")
if BROWSER is None:
    pytest.skip("no Chromium in the PATH: apt-get install chromium", allow_module_level=True)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def files(runs, tmp_path_factory):
    """Return the paths of the page of one run, and of two side by side."""
    folder = tmp_path_factory.mktemp("pages")
    one, other = (gather(runs.store, *find_run(runs.store, run)) for run in (runs.weak, runs.changed))
    (folder / "run.html").write_text(render(one))
    (folder / "both.html").write_text(render_comparison(one, other))
    return folder


class Visit:
    """A tab, and all that it says and asks for."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.goto(address)
        self.page.wait_for_selector(".cards button")

    def ids(self):
        return self.page.eval_on_selector_all(".cards b", "all => all.map((b) => b.textContent)")

    def until(self, condition):
        """Wait until a JavaScript expression holds (the page's policy forbids playwright's own way, which is eval)."""
        for _ in range(100):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(100)
        pytest.fail(f"it never came: {condition}")

    def pixels(self, selector):
        """Return the sum of a drawn canvas's bytes, once it has been drawn."""
        self.page.locator(selector).first.scroll_into_view_if_needed()  # pictures are drawn when they come near
        self.until(f"document.querySelector('{selector}').width !== 300")
        self.page.wait_for_timeout(150)
        return sum((i + 1) * value for i, value in enumerate(self.bytes_of(selector)))

    def bytes_of(self, selector):
        """Return the RGBA bytes of a canvas, by way of a copy."""
        return self.page.evaluate(
            """(selector) => { const from = document.querySelector(selector), to = new OffscreenCanvas(from.width, from.height),
            c = to.getContext("2d", { willReadFrequently: true }); c.drawImage(from, 0, 0);
            return [...c.getImageData(0, 0, to.width, to.height).data]; }""",
            selector,
        )

    def close(self):
        self.context.close()


@pytest.fixture
def visit(browser, files):
    opened = Visit(browser, (files / "run.html").as_uri())
    yield opened
    assert not opened.said
    assert {urllib.parse.urlsplit(a).scheme for a in opened.asked} <= {"file", "data"}
    assert sum(a.startswith("file") for a in opened.asked) == 1
    opened.close()


CARD = ".cards button canvas"


def test_images_are_filtered_and_ordered(visit):
    page = visit.page
    worst = visit.ids()
    assert len(worst) == 6 and page.locator("#count").text_content() == "6 of 6 images"
    page.select_option("#order", "best")
    scores = page.eval_on_selector_all(
        ".cards .text span", "all => all.map((s) => parseFloat(s.textContent.split('IoU ')[1]))"
    )
    assert scores == sorted(scores, reverse=True)
    page.select_option("#order", "id")
    assert visit.ids() == sorted(worst)
    for order in ("missed", "spill", "wrong", "undecided"):
        page.select_option("#order", order)
        assert sorted(visit.ids()) == sorted(worst)
    page.select_option("#class", "1")
    one_class = visit.ids()
    assert 0 < len(one_class) < 6
    page.select_option("#class", "0")
    page.fill("#search", one_class[0])
    assert visit.ids() == [one_class[0]]
    page.fill("#search", "no such image")
    assert visit.ids() == [] and page.locator("#count").text_content() == "0 of 6 images"
    page.fill("#search", "")
    page.fill("#most", "0")
    assert len(visit.ids()) < 6 and page.locator("output[for=most]").text_content() == "0 %"
    page.fill("#most", "100")
    for kind in ("missed", "spill", "wrong", "undecided"):
        page.select_option("#kind", kind)
        assert len(visit.ids()) <= 6
    page.select_option("#kind", "")
    page.select_option("#split", "train")
    assert len(visit.ids()) == 12


def test_layers_divider_opacity_and_classes_change_the_picture(visit):
    page = visit.page
    page.select_option("#split", "train")
    page.select_option("#class", "1")
    seen = []
    layers = page.eval_on_selector_all("#left option", "all => all.map((o) => o.value)")
    assert layers == ["photograph", "seeds", "pseudo_masks", "truth", "errors"]
    for layer in layers:
        page.select_option("#left", layer)
        page.select_option("#right", layer)
        seen.append(visit.pixels(CARD))
    assert len(set(seen)) == len(seen)  # every layer looks different
    page.select_option("#left", "truth")
    page.select_option("#right", "photograph")
    pictures = [visit.pixels(CARD)]
    for control, value in (("#divide", "20"), ("#opacity", "30"), ("#divide", "0")):
        page.fill(control, value)
        pictures.append(visit.pixels(CARD))
    page.fill("#divide", "100")
    pictures.append(visit.pixels(CARD))
    page.locator(".legend input").first.uncheck()
    pictures.append(visit.pixels(CARD))
    assert len(set(pictures)) == len(pictures)


def test_one_image_large_by_mouse_and_keyboard(visit):
    page = visit.page
    order = visit.ids()
    page.locator(".cards button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog").is_visible() and page.locator("#large-title").text_content() == order[0]
    assert page.locator("#previous").is_disabled()
    page.keyboard.press("ArrowRight")
    assert page.locator("#large-title").text_content() == order[1]
    page.locator("#next").click()
    assert page.locator("#large-title").text_content() == order[2]
    page.keyboard.press("ArrowLeft")
    page.locator("#previous").click()
    assert page.locator("#large-title").text_content() == order[0]
    before = visit.pixels("#large-canvas")
    page.locator("#large-divide").fill("10")
    assert visit.pixels("#large-canvas") != before
    page.locator("#large-canvas").hover()
    visit.until("document.getElementById('readout').textContent.includes('truth: ')")
    page.mouse.down()
    assert page.locator("#large-divide").input_value() in ("49", "50", "51")
    page.mouse.up()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert page.evaluate("document.activeElement.textContent").startswith(order[0])  # back where one came from
    page.locator(".cards button").nth(3).click()
    page.locator("#close").click()
    assert not page.locator("dialog").is_visible()


def test_names_are_shown_as_they_are(visit):
    page = visit.page
    assert HOSTILE[0] in page.locator("#class option").all_text_contents()
    assert any(i.startswith("<b>") for i in visit.ids())
    assert page.locator("img").count() == 0


def test_what_the_error_layer_shows_is_what_was_counted(visit, runs):
    """The pixels of each error's colour, read from the canvas, have the shares that the page states."""
    page = visit.page
    page.select_option("#left", "errors")
    page.select_option("#right", "errors")
    page.fill("#opacity", "100")
    page.fill("#divide", "100")
    contents = gather(runs.store, *find_run(runs.store, runs.weak))
    judged = {j.id: j for j in contents.splits["val"].judgement.images}
    page.locator(".cards button").first.click()
    page.locator("#large-divide").fill("100")
    visit.pixels("#large-canvas")
    item_id = page.locator("#large-title").text_content()
    pixels = np.array(visit.bytes_of("#large-canvas")).reshape(-1, 4)[:, :3]
    missed, spill, wrong, _ = judged[item_id].shares
    found = [(pixels == colour).all(axis=1).mean() for colour in ((86, 180, 233), (230, 159, 0), (213, 94, 0))]
    assert found == pytest.approx([missed, spill, wrong], abs=2e-3) and sum(found) > 0


@pytest.mark.parametrize("name", ["run.html", "both.html"])
@pytest.mark.parametrize("options", [
    {"viewport": {"width": 1300, "height": 900}},
    {"viewport": {"width": 1300, "height": 900}, "color_scheme": "dark"},
    {"viewport": {"width": 390, "height": 844}},
])  # fmt: skip
def test_it_is_accessible_and_fits(browser, files, name, options):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install wsseg[dev]")
    opened = Visit(browser, (files / name).as_uri(), **options)
    opened.page.locator(".cards button").first.click()
    for _ in range(2):  # with the image open, and closed
        found = axe.Axe().run(opened.page)
        assert found.violations_count == 0, found.generate_report()
        opened.page.keyboard.press("Escape")
    width = opened.page.evaluate("document.documentElement.scrollWidth")
    assert width <= options["viewport"]["width"], "the page scrolls sideways"
    assert not [said for said in opened.said if "axe" not in said]
    opened.close()


def test_two_runs_beside_each_other(browser, files):
    opened = Visit(browser, (files / "both.html").as_uri())
    opened.page.select_option("#split", "train")
    assert opened.page.input_value("#order") == "changed"
    assert opened.page.input_value("#left").startswith("A: ") and opened.page.input_value("#right").startswith("B: ")
    seen = set()
    for layer in ("errors A", "errors B", "truth"):
        opened.page.select_option("#left", layer)
        opened.page.select_option("#right", layer)
        seen.add(opened.pixels(CARD))
    assert len(seen) == 3 and not opened.said
    opened.close()


def test_a_hundred_thousand_images(browser, runs):
    """Rows for all of them are in the page that is served; they are filtered and ordered, and 24 at a time are shown."""
    contents = gather(runs.store, *find_run(runs.store, runs.weak))
    split = contents.splits["val"]
    ids = [f"folder-{k % 100:02}/photograph-{k:06}" for k in range(100_000)]
    judged = [replace(split.judgement.images[k % 6], id=i) for k, i in enumerate(ids)]
    items = tuple(replace(split.images.items[k % 6], id=i) for k, i in enumerate(ids))
    judgement = replace(split.judgement, images=judged)
    images = replace(split.images, items=items)
    only_photographs = replace(split, images=images, judgement=judgement, layers=split.layers[:1], judged="")
    large = replace(contents, splits={"val": only_photographs})
    with served(large) as address:
        opened = Visit(browser, address)
        assert opened.page.locator("#count").text_content() == "100000 of 100000 images, the first 24 shown"
        opened.page.fill("#search", "graph-09999")
        assert opened.page.locator("#count").text_content() == "10 of 100000 images"
        opened.page.fill("#search", "")
        opened.page.select_option("#order", "spill")
        opened.page.locator("#more").click()
        assert len(opened.ids()) == 48
        opened.pixels(CARD)
        assert not opened.said
        opened.close()


@contextlib.contextmanager
def served(contents):
    """Yield the address of a run while it is served."""
    import uvicorn

    from wsseg.report.server import application

    server = uvicorn.Server(uvicorn.Config(application(contents, "token"), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/token/"
    finally:
        server.should_exit = True
        thread.join(10)


def test_the_same_served(browser, runs):
    """Every picture is made when it is asked for; only our own address is asked."""
    with served(gather(runs.store, *find_run(runs.store, runs.weak))) as address:
        opened = Visit(browser, address)
        before = opened.pixels(CARD)
        opened.page.select_option("#left", "errors")
        assert opened.pixels(CARD) != before
        opened.page.locator(".cards button").first.click()
        opened.page.keyboard.press("ArrowRight")
        opened.pixels("#large-canvas")
        assert not opened.said
        assert all(a.startswith((address, "data:")) for a in opened.asked)
        opened.close()

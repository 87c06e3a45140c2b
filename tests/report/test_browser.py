"""The page in a real browser: every control works, no request leaves the page, and the console stays empty."""

import contextlib
import shutil
import threading
import urllib.parse
from dataclasses import replace

import numpy as np
import pytest

from tests.report.conftest import HOSTILE, report_of
from wsseg.report.comparison import render_comparison
from wsseg.report.page import render
from wsseg.report.quality import scores_of
from wsseg.report.run_report import gather
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
    """Return the folder of the pages of a run, of the same run without true masks, and of two runs."""
    folder = tmp_path_factory.mktemp("pages")
    weak, changed = (gather(runs.store, *find_run(runs.store, run)) for run in (runs.weak, runs.changed))
    (folder / "run.html").write_text(render(weak))
    (folder / "both.html").write_text(render_comparison(weak, changed))
    (folder / "plain.html").write_text(render(report_of(runs, truth=False)))
    return folder


class Visit:
    """A tab with its console messages and its requests."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.messages, self.requests = [], []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", lambda dialog: (self.messages.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.goto(address)
        self.page.wait_for_selector(".cards button")

    def ids(self):
        return self.page.eval_on_selector_all(".cards b", "all => all.map((b) => b.textContent)")

    def until(self, condition):
        """Wait until a JavaScript expression is true (playwright's own wait uses eval, which the page's policy forbids)."""
        for _ in range(100):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(100)
        pytest.fail(f"it never became true: {condition}")

    def pixels(self, selector):
        """Return a checksum of a canvas after it has been drawn."""
        self.page.locator(
            selector
        ).first.scroll_into_view_if_needed()  # pictures are drawn when they are nearly visible
        self.until(f"document.querySelector('{selector}').width !== 300")
        self.page.wait_for_timeout(150)
        return sum((i + 1) * value for i, value in enumerate(self.bytes_of(selector)))

    def bytes_of(self, selector):
        """Return the RGBA bytes of a canvas."""
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
    assert not opened.messages
    assert {urllib.parse.urlsplit(a).scheme for a in opened.requests} <= {"file", "data"}
    assert sum(a.startswith("file") for a in opened.requests) == 1
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
    assert set(one_class) <= set(worst)  # all of them, if a weak network predicts the class everywhere
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
    page.select_option("#class", "1")
    assert 0 < len(visit.ids()) < 12
    page.select_option("#class", "0")


def test_layers_divider_opacity_and_classes_change_the_picture(visit):
    page = visit.page
    page.select_option("#split", "train")
    page.select_option("#class", "1")
    checksums = []
    layers = page.eval_on_selector_all("#left option", "all => all.map((o) => o.value)")
    assert layers == ["photograph", "seeds", "pseudo_masks", "truth", "errors"]
    for layer in layers:
        page.select_option("#left", layer)
        page.select_option("#right", layer)
        checksums.append(visit.pixels(CARD))
    assert len(set(checksums)) == len(checksums)  # every layer looks different
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
    assert page.evaluate("document.activeElement.textContent").startswith(order[0])  # the focus returns to the card
    page.locator(".cards button").nth(3).click()
    page.locator("#close").click()
    assert not page.locator("dialog").is_visible()


CELL = ".cell canvas"


def test_rows_of_pictures(visit):
    """Every picture of a row is drawn, differs from its neighbours and opens large; the focus returns to it."""
    page = visit.page
    cells = page.locator(".row").first.locator(".cell")
    assert cells.count() == 5
    visit.pixels(CELL)
    visit.until("[...document.querySelectorAll('.row')][0].querySelectorAll('canvas').length === 5")
    pictures = set()
    for place in range(5):
        selector = f".row .cell:nth-child({place + 1}) canvas"
        pictures.add(visit.pixels(selector))
    assert len(pictures) >= 4  # a prediction may equal its pseudo-mask
    cells.nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog").is_visible() and page.locator("#large-facts").text_content().startswith(
        "photograph | seeds"
    )
    assert page.locator("#next").is_hidden()
    visit.pixels("#large-canvas")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.layer") == "seeds"


def test_pictures_are_large_enough_to_see(browser, files):
    """At least 150 px on a phone, two side by side; five side by side on a desktop."""
    for width, least, beside in ((390, 150, 2), (1300, 220, 5)):
        opened = Visit(browser, (files / "run.html").as_uri(), viewport={"width": width, "height": 800})
        boxes = [cell.bounding_box() for cell in opened.page.locator(".row").first.locator(".picture").all()]
        assert all(box["width"] >= least for box in boxes)
        assert sum(abs(box["y"] - boxes[0]["y"]) < 5 for box in boxes) == beside
        opened.close()


def test_figures_fold_by_keyboard(visit):
    page = visit.page
    assert page.locator("figure:visible").count() <= 5
    page.locator("#group-errors summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#group-errors figure").first.is_visible()


def test_without_truth(browser, files):
    """Images are ordered by agreement, and nothing refers to true masks."""
    opened = Visit(browser, (files / "plain.html").as_uri())
    page = opened.page
    assert page.locator("#kind").count() == 0 and "error:" not in page.locator("#legend").text_content()
    page.select_option("#split", "train")
    assert page.locator("#measure").text_content() == "agreement"
    assert page.locator("#order option").first.text_content() == "lowest agreement first"
    page.select_option("#class", "1")
    texts = page.locator(".cards .text span").all_text_contents()
    scores = [float(text.rsplit("agreement ", 1)[1].split()[0]) for text in texts]
    assert scores == sorted(scores) and scores
    opened.pixels(CARD)
    assert not opened.messages
    opened.close()


def test_names_are_shown_literally(visit):
    page = visit.page
    assert HOSTILE[0] in page.locator("#class option").all_text_contents()
    assert any(i.startswith("<b>") for i in visit.ids())
    assert page.locator("img").count() == 0


def test_the_error_layer_agrees_with_the_counts(visit, runs):
    """The pixels of each kind's colour, read from the canvas, have the shares that the page states."""
    page = visit.page
    page.select_option("#left", "errors")
    page.select_option("#right", "errors")
    page.fill("#opacity", "100")
    page.fill("#divide", "100")
    report = gather(runs.store, *find_run(runs.store, runs.weak))
    counts = {image.id: image for image in report.splits["val"].quality.images}
    page.locator(".cards button").first.click()
    page.locator("#large-divide").fill("100")
    visit.pixels("#large-canvas")
    item_id = page.locator("#large-title").text_content()
    pixels = np.array(visit.bytes_of("#large-canvas")).reshape(-1, 4)[:, :3]
    missed, spill, wrong, _ = counts[item_id].shares
    shares = [(pixels == colour).all(axis=1).mean() for colour in ((86, 180, 233), (230, 159, 0), (213, 94, 0))]
    assert shares == pytest.approx([missed, spill, wrong], abs=2e-3) and sum(shares) > 0


@pytest.mark.parametrize("name", ["run.html", "both.html", "plain.html"])
@pytest.mark.parametrize("options", [
    {"viewport": {"width": 1300, "height": 900}},
    {"viewport": {"width": 1300, "height": 900}, "color_scheme": "dark"},
    {"viewport": {"width": 390, "height": 844}},
])  # fmt: skip
def test_it_is_accessible_and_fits(browser, files, name, options):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install wsseg[dev]")
    opened = Visit(browser, (files / name).as_uri(), **options)
    opened.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    opened.page.locator(".cards button").first.click()
    for _ in range(2):  # with an image open, and without
        results = axe.Axe().run(opened.page)
        assert results.violations_count == 0, results.generate_report()
        opened.page.keyboard.press("Escape")
    width = opened.page.evaluate("document.documentElement.scrollWidth")
    assert width <= options["viewport"]["width"], "the page scrolls sideways"
    assert not [message for message in opened.messages if "axe" not in message]
    opened.close()


def test_comparison_of_two_runs(browser, files):
    opened = Visit(browser, (files / "both.html").as_uri())
    opened.page.select_option("#split", "train")
    assert opened.page.input_value("#order") == "changed"
    assert opened.page.input_value("#left").startswith("A: ") and opened.page.input_value("#right").startswith("B: ")
    checksums = set()
    for layer in ("errors A", "errors B", "truth"):
        opened.page.select_option("#left", layer)
        opened.page.select_option("#right", layer)
        checksums.add(opened.pixels(CARD))
    assert len(checksums) == 3 and not opened.messages
    opened.close()


def test_a_hundred_thousand_images(browser, runs):
    """The served page has rows for all of them, filters and orders them, and adds 24 cards at a time."""
    report = gather(runs.store, *find_run(runs.store, runs.weak))
    split = report.splits["val"]
    ids = [f"folder-{k % 100:02}/photograph-{k:06}" for k in range(100_000)]
    counts = [replace(split.quality.images[k % 6], id=i) for k, i in enumerate(ids)]
    items = tuple(replace(split.images.items[k % 6], id=i) for k, i in enumerate(ids))
    quality = replace(split.quality, images=counts)
    images = replace(split.images, items=items)
    scores = scores_of(quality, "predictions")
    only_photographs = replace(
        split, images=images, quality=quality, scores=scores, layers=split.layers[:1], evaluated=""
    )
    large = replace(report, splits={"val": only_photographs})
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
        assert not opened.messages
        opened.close()


@contextlib.contextmanager
def served(report):
    """Serve a run and yield its address."""
    import uvicorn

    from wsseg.report.server import application

    server = uvicorn.Server(uvicorn.Config(application(report, "token"), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/token/"
    finally:
        server.should_exit = True
        thread.join(10)


def test_the_served_page(browser, runs):
    """Pictures are made on request, and all requests go to the address of the page."""
    with served(gather(runs.store, *find_run(runs.store, runs.weak))) as address:
        opened = Visit(browser, address)
        before = opened.pixels(CARD)
        opened.page.select_option("#left", "errors")
        assert opened.pixels(CARD) != before
        opened.page.locator(".cards button").first.click()
        opened.page.keyboard.press("ArrowRight")
        opened.pixels("#large-canvas")
        assert not opened.messages
        assert all(a.startswith((address, "data:")) for a in opened.requests)
        opened.close()

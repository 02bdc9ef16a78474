"""The page in a real browser: what it shows is what the server says, for eyes, ears and keyboards alike."""

import base64
import json
import re
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from fixtures.serving_client import MODEL_NAME, PROMPT, RESPONSES, serving, wait_until
from qbrm.serving.page import content_security_policy

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install 'qbrm[dev]')")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

PAGE = files("qbrm.serving").joinpath("page.html").read_text(encoding="utf-8")
SCREENSHOTS = Path(__file__).parents[3] / "build" / "screenshots"
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
needs_browser = pytest.mark.skipif(
    None in (CHROMIUM, DRIVER),
    reason="chromium or chromedriver is missing (Debian: apt install chromium chromium-driver)",
)
DESKTOP, PHONE = (1280, 900), (390, 844)
IMAGES = ("image", "img")
INKS = ("--ink", "--soft", "--accent", "--on-accent", "--alarm")


@pytest.fixture(scope="module", autouse=True)
def quick(one_thread):
    """Small tensors, one thread."""


@pytest.fixture(scope="module")
def served(quick):
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield Page(driver)
    driver.quit()


class Page:
    """The page, as somebody sees and handles it."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, url, size=DESKTOP, dark=False):
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(url)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        (found,) = self.all(selector)
        return found

    def text(self, selector):
        return self.one(selector).text

    @property
    def focused(self):
        return self.driver.switch_to.active_element

    def press(self, *keys):
        self.focused.send_keys(*keys)

    def fill(self, prompt, answers):
        """Type a prompt and answers over whatever is there."""
        self.replace(self.one("#prompt"), prompt)
        while len(self.all("#answers textarea")) < len(answers):
            self.one("#add").click()
        while len(self.all("#answers textarea")) > len(answers):
            self.all(".answer button")[-1].click()
        for field, answer in zip(self.all("#answers textarea"), answers, strict=True):
            self.replace(field, answer)

    def replace(self, field, text):
        field.clear()
        field.send_keys(text)

    def compare(self):
        """Press the button and wait for the result of what is in the form now."""
        self.driver.execute_script("document.querySelector('#ranking').replaceChildren()")
        self.one("#compare").click()
        wait_until(lambda: self.all("#ranking li") or self.text("#problem"))

    def requests(self):
        """Every address that the page asked since it was opened; the browser's own pages are none of its business."""
        entries = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        asked = [entry["params"] for entry in entries if entry["method"] == "Network.requestWillBeSent"]
        return [entry["request"]["url"] for entry in asked if not entry["documentURL"].startswith("chrome:")]

    def complaints(self):
        """What the browser's console holds."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def colour(self, name):
        style = "return getComputedStyle(document.documentElement).getPropertyValue(arguments[0]).trim()"
        return self.driver.execute_script(style, name)

    def screenshot(self, name, size):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        height = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]["height"]
        clip = {"x": 0, "y": 0, "width": size[0], "height": height, "scale": 1}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        (SCREENSHOTS / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


def number(text):
    return float(text.replace("\u2212", "-").rstrip("%"))


def test_the_page_asks_nobody_but_its_own_server():
    addresses = re.findall(r"""(?:https?:)?//[\w.]+[^\s"'`]*""", PAGE)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}, "the name of SVG, which nobody fetches"
    assert not re.search(r"@import|url\(|<link rel=.stylesheet|<script src|style=", PAGE)


def test_the_policy_allows_what_is_in_the_page_and_nothing_else():
    policy = dict(rule.split(" ", 1) for rule in content_security_policy(PAGE).split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for kind in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy[kind])
    assert content_security_policy(PAGE.replace("use strict", "use nothing")) != content_security_policy(PAGE)


@needs_browser
def test_the_page_opens_with_a_result_and_asks_no_other_server(browser, served):
    browser.open(served.url)
    wait_until(lambda: browser.all("#ranking li"))
    assert MODEL_NAME in browser.text("header")
    assert browser.complaints() == []
    assert {url for url in browser.requests() if not url.startswith("data:")} == {
        served.url + path for path in ("/", "/v1/model", "/v1/compare")
    }


@needs_browser
def test_answers_are_ranked_by_the_rewards_and_chances_of_the_model(browser, served):
    browser.open(served.url)
    browser.fill(PROMPT, RESPONSES)
    browser.compare()
    expected = served.model.score([PROMPT] * 4, RESPONSES)
    order = expected.refined.argsort(descending=True).tolist()
    letters = ["ABCD"[row] for row in order]
    assert [item.text for item in browser.all("#ranking .letter")] == letters
    assert [item.text for item in browser.all("#ranking .text")] == [RESPONSES[row] for row in order]
    rewards = [number(item.text) for item in browser.all("#ranking .reward")]
    assert rewards == pytest.approx(expected.refined[order].tolist(), abs=0.0051)
    for row, first in enumerate(order):
        cells = browser.all(f"#pairs tbody tr:nth-child({row + 1}) td")
        for cell, second in zip(cells, order, strict=True):
            if first != second:
                probability = served.model.prefer(PROMPT, RESPONSES[first], RESPONSES[second])
                assert number(cell.text) == pytest.approx(100 * probability, abs=0.1)


@needs_browser
@pytest.mark.parametrize(
    ("probability", "word"),
    [(0.5, "Not sure"), (0.69, "Not sure"), (0.7, "Leaning"), (0.85, "Fairly sure"), (0.95, "Very sure")],
)
def test_the_word_for_how_sure_the_model_is_follows_the_probability(browser, served, probability, word):
    browser.open(served.url)
    wait_until(lambda: browser.all("#ranking li"))
    assert browser.driver.execute_script("return sureness(arguments[0])", probability) == word
    assert word.lower() in browser.text("footer").lower()


@needs_browser
def test_the_verdict_is_announced_with_the_best_answer_and_its_chance(browser, served):
    browser.open(served.url)
    browser.fill(PROMPT, RESPONSES[:2])
    browser.compare()
    verdict = browser.one("#verdict")
    assert verdict.get_attribute("aria-live") == "polite"
    best = browser.all("#ranking .letter")[0].text
    first, second = (RESPONSES[:2], RESPONSES[1::-1])["AB".index(best)]
    chance = round(100 * served.model.prefer(PROMPT, first, second))
    assert verdict.text.startswith(("Very sure", "Fairly sure", "Leaning", "Not sure"))
    assert best in verdict.text
    assert any(f"{near}%" in verdict.text for near in (chance - 1, chance, chance + 1)) or "over 99%" in verdict.text


@needs_browser
def test_every_answer_has_its_curve_base_reward_and_row_of_a_table(browser, served):
    browser.open(served.url)
    browser.fill(PROMPT, RESPONSES[:3])
    browser.compare()
    expected = served.model.score([PROMPT] * 3, RESPONSES[:3])
    assert len(browser.all("#chart .curve")) == len(browser.all("#chart .area")) == 3
    assert len({curve.get_attribute("stroke-dasharray") for curve in browser.all("#chart .curve")}) == 3
    bases = sorted(float(mark.get_attribute("data-base")) for mark in browser.all("#chart .base"))
    assert bases == pytest.approx(sorted(expected.base.tolist()), abs=1e-5)
    described = browser.driver.execute_script("return document.querySelector('#chart desc').textContent")
    assert all(f"Answer {letter}: refined reward" in described for letter in "ABC")
    browser.one("summary").click()
    table = browser.text("#numbers")
    assert all(f"{value:.3f}".replace("-", "\u2212") in table for value in expected.base.tolist())
    # The curves' tops are over the modes: left of each other as the modes are.
    tops = browser.driver.execute_script(
        """return [...document.querySelectorAll('#chart .curve')].map(path => {
             const points = path.getAttribute('d').slice(1).split('L').map(pair => pair.split(' ').map(Number));
             return [path.parentNode.getAttribute('class'), points.reduce((a, b) => b[1] < a[1] ? b : a)[0]]; })"""
    )
    from_left = [int(name[1:]) for name, _ in sorted(tops, key=lambda top: top[1])]
    assert from_left == expected.mode.argsort().tolist()


@needs_browser
def test_everything_can_be_done_with_the_keyboard(browser, served):
    browser.open(served.url)
    wait_until(lambda: browser.all("#ranking li"))
    browser.driver.execute_script("document.activeElement.blur()")
    reached = []
    for _ in range(20):
        browser.press(Keys.TAB)
        reached.append(
            browser.focused.get_attribute("id") or browser.focused.get_attribute("aria-label") or browser.focused.text
        )
        if reached[-1] == "compare":
            break
    assert reached[-9:] == [
        "prompt",
        *("Remove answer A", "answer-0", "Remove answer B", "answer-1", "Remove answer C", "answer-2"),
        *("add", "compare"),
    ]
    browser.one("#add").send_keys(Keys.ENTER)
    assert browser.focused.get_attribute("id") == "answer-3"
    browser.press("A fourth answer.", Keys.CONTROL, Keys.ENTER)
    wait_until(lambda: len(browser.all("#ranking li")) == 4)
    browser.all(".answer button")[3].send_keys(Keys.ENTER)
    assert browser.focused.get_attribute("id") == "answer-2"
    assert [label.text for label in browser.all(".answer label")] == ["Answer A", "Answer B", "Answer C"]


@needs_browser
def test_everything_has_a_name_for_those_who_hear_the_page(browser, served):
    browser.open(served.url)
    wait_until(lambda: browser.all("#ranking li"))
    nodes = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
        and node["role"]["value"] in ("button", "textbox", "table", *IMAGES, "form", "region", "link")
    ]
    assert all(name for _, name in named), named
    assert {"Prompt", "Answer A", "Answer B", "Answer C"} == {name for role, name in named if role == "textbox"}
    assert "Distribution of the reward of each answer" in [name for role, name in named if role in IMAGES]
    assert browser.one("html").get_attribute("lang") == "en"


@needs_browser
def test_what_is_missing_is_said_and_focused(browser, served):
    browser.open(served.url)
    browser.fill(PROMPT, RESPONSES[:2])
    browser.all("#answers textarea")[1].clear()
    browser.compare()
    assert browser.text("#problem") == "Answer B is empty."
    assert browser.focused.get_attribute("id") == "answer-1"
    assert browser.one("#problem").get_attribute("role") == "alert"


@needs_browser
def test_text_is_shown_as_text_whatever_is_in_it(browser, served):
    browser.open(served.url)
    hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    browser.fill(hostile, [hostile, "</textarea><b>bold</b> \u202e\ufffd"])
    browser.compare()
    assert hostile in [item.text for item in browser.all("#ranking .text")]
    assert browser.driver.title == "QBRM: which answer is better?"
    assert browser.complaints() == []


@needs_browser
def test_a_server_with_a_token_asks_for_it_and_then_answers(browser):
    with serving(token="correct-horse") as guarded:
        browser.open(guarded.url)
        wait_until(lambda: browser.focused.get_attribute("id") == "token")
        assert "asks for an access token" in browser.text("#problem")
        browser.press("wrong", Keys.ENTER)
        wait_until(lambda: "not this server" in browser.text("#problem"))
        browser.replace(browser.one("#token"), "correct-horse")
        browser.compare()
        assert browser.text("#problem") == ""
        assert len(browser.all("#ranking li")) == 3


@needs_browser
@pytest.mark.parametrize(
    ("name", "size", "dark"),
    [
        ("desktop-light", DESKTOP, False),
        ("desktop-dark", DESKTOP, True),
        ("phone-light", PHONE, False),
        ("phone-dark", PHONE, True),
    ],
)
def test_the_page_fits_its_window_and_its_text_can_be_read(browser, served, name, size, dark):
    browser.open(served.url, size, dark)
    wait_until(lambda: browser.all("#ranking li"))
    browser.screenshot(name, size)
    assert browser.driver.execute_script("return document.documentElement.scrollWidth") <= size[0]
    shapes = ("--edge", *(f"--c{k}" for k in range(8)))
    grounds = ("--page", "--card", "--field", "--alarm-tint")
    colours = {name: browser.colour(name) for name in (*shapes, *grounds, *INKS)}
    readable = [
        ("--ink", "--page"),
        ("--ink", "--field"),
        ("--soft", "--card"),
        ("--soft", "--page"),
        ("--accent", "--card"),
    ]
    readable += [("--on-accent", "--accent"), ("--alarm", "--alarm-tint")]
    for text, ground in readable:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for shape in shapes:
        assert contrast(colours[shape], colours["--card"]) >= 3, shape


def contrast(one, other):
    """WCAG's ratio of relative luminances."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    channels = (int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

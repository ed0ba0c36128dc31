"""The chat page, in a browser without a window: a person types, reads, stops, reloads, and sets things."""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from browser import chromium
from fake_language_model import fake_model

from bitsim.runtime.generation import ChatTemplate, Sampling, Tokenizer, generate

from .conftest import Serve, Served, slow

MARKUP = "<img src=x onerror=\"document.title='owned'\"> <b>bold</b> & co"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from chromium("window-size=1100,800")


class Page:
    """The page as a person uses it."""

    def __init__(self, browser: Any, served: Served) -> None:
        self.browser, self.served = browser, served
        browser.get(served.url)
        browser.execute_script("localStorage.clear(); sessionStorage.clear(); chat.turns = []; showAll()")
        browser.refresh()
        self.wait(lambda: self.part("model").text == "tiny" or self.part("error").is_displayed())

    def part(self, name: str) -> Any:
        return self.browser.find_element("id", name)

    def wait(self, happened: Any) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, 20, 0.02).until(lambda _: happened())

    def said(self) -> list[tuple[str, str]]:
        script = """return [...document.querySelectorAll("article")].map(
            (a) => [a.className, a.querySelector(".said").textContent])"""
        return [(who, text) for who, text in self.browser.execute_script(script)]

    def note(self) -> str:
        return str(self.browser.execute_script("return document.querySelector('article:last-child .note').textContent"))

    def running(self) -> bool:
        return bool(self.part("stop").is_displayed())

    def ask(self, text: str) -> None:
        from selenium.webdriver.common.keys import Keys

        self.part("text").send_keys(text + Keys.ENTER)

    def answered(self) -> None:
        self.wait(lambda: len(self.said()) % 2 == 0 and self.said() and not self.running())

    def setting(self, **values: str) -> None:
        self.part("open-settings").click()
        for name, value in values.items():
            field = self.part(name.replace("_", "-"))
            field.clear()
            field.send_keys(value)
        self.browser.find_element("css selector", "#settings button").click()

    def complaints(self) -> list[str]:
        """What the browser's console has to say, since it was asked last."""
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture(scope="module")
def quick(serve: Serve) -> Served:
    return serve(sampling=Sampling(), context=240)


@pytest.fixture
def page(browser: Any, quick: Served) -> Iterator[Page]:
    made = Page(browser, quick)
    yield made
    assert made.complaints() == []  # no error, nothing that the policy forbids


def alone(*messages: tuple[str, str], count: int = 30) -> str:
    model = fake_model()
    tokens = ChatTemplate(model.text).encode(
        Tokenizer(model.text), [{"role": role, "content": text} for role, text in messages]
    )
    return "".join(piece.text for piece in generate(model, tokens, max_new_tokens=count))


def test_a_conversation_goes_on_and_is_there_after_a_reload(page: Page) -> None:
    page.setting(max_tokens="30")
    page.ask("the cat")
    page.answered()
    first = alone(("user", "the cat"))
    assert page.said() == [("user", "the cat"), ("assistant", first)]
    assert page.note().startswith("30 tokens")
    page.ask("and then")
    page.answered()
    second = alone(("user", "the cat"), ("assistant", first), ("user", "and then"))
    whole = [("user", "the cat"), ("assistant", first), ("user", "and then"), ("assistant", second)]
    assert page.said() == whole
    page.browser.refresh()
    page.wait(lambda: page.part("model").text == "tiny")
    assert page.said() == whole
    page.part("clear").click()
    assert page.said() == []
    page.browser.refresh()
    assert page.said() == []
    assert page.part("empty").is_displayed()


def test_a_model_without_a_chat_format_goes_on_with_the_text(browser: Any, serve: Serve) -> None:
    model = fake_model(eos=(), chat_template=None)
    page = Page(browser, serve(model, sampling=Sampling()))
    page.setting(max_tokens="20")
    text = ""
    for more in ("the cat", " and"):
        page.ask(more)
        page.answered()
        text += more
        text += "".join(piece.text for piece in generate(model, text, max_new_tokens=20))
        assert "".join(said for _, said in page.said()) == text
    assert page.complaints() == []


def test_settings_count_and_are_kept(page: Page) -> None:
    page.setting(system="Be brief.", temperature="0", max_tokens="7")
    page.browser.refresh()
    page.ask("the cat")
    page.answered()
    assert page.said()[1][1] == alone(("system", "Be brief."), ("user", "the cat"), count=7)
    assert page.note().startswith("7 tokens")
    assert page.note().endswith(", cut: no more room")


def test_enter_sends_and_with_shift_begins_a_line(page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    page.setting(max_tokens="2")
    text = page.part("text")
    text.send_keys("one" + Keys.SHIFT + Keys.ENTER + Keys.NULL + "two")
    assert text.get_property("value") == "one\ntwo"
    assert page.said() == []
    text.send_keys(Keys.ENTER)
    page.answered()
    assert page.said()[0] == ("user", "one\ntwo")
    assert text.get_property("value") == ""
    text.send_keys("  " + Keys.ENTER)
    assert len(page.said()) == 2


def test_markup_is_only_text(page: Page) -> None:
    page.setting(max_tokens="2")
    page.ask(MARKUP)
    page.answered()
    assert page.said()[0][1] == MARKUP
    page.browser.refresh()
    assert page.said()[0][1] == MARKUP
    assert page.browser.execute_script("return document.querySelectorAll('article img, article b').length") == 0
    assert page.browser.title != "owned"


def test_what_is_kept_may_be_nonsense(page: Page) -> None:
    for nonsense in ("{", "3", json.dumps({"turns": [3, None, {"said": 4}]}), json.dumps({"turns": "x"})):
        page.browser.execute_script(
            "window.addEventListener('pagehide', () => localStorage.setItem('bitsim-chat', arguments[0]))".replace(
                "arguments[0]", json.dumps(nonsense)
            )
        )
        page.browser.refresh()
        page.wait(lambda: page.part("model").text == "tiny")
        assert page.said() == []


def test_an_answer_can_be_stopped(browser: Any, serve: Serve) -> None:
    served = serve(slow(fake_model(eos=(), context=20_000), 0.01))
    page = Page(browser, served)
    page.ask("the cat")
    page.wait(lambda: len(page.said()) == 2 and len(page.said()[1][1]) > 5)
    assert page.part("log").get_attribute("aria-busy") == "true"
    page.part("stop").click()
    page.answered()
    served.wait_until(served.idle)
    assert served.engine.counters.finished == {"cancelled": 1}
    assert page.note().endswith("tokens/s, stopped")
    assert page.part("log").get_attribute("aria-busy") == "false"
    said = page.said()
    assert alone(("user", "the cat"), count=1)[:1] == said[1][1][:1]
    page.browser.refresh()
    assert page.said() == said


def test_a_reload_ends_the_answer_and_keeps_what_came(browser: Any, serve: Serve) -> None:
    served = serve(slow(fake_model(eos=(), context=20_000), 0.01))
    page = Page(browser, served)
    page.ask("the cat")
    page.wait(lambda: len(page.said()) == 2 and len(page.said()[1][1]) > 5)
    page.browser.refresh()
    page.wait(lambda: len(page.said()) == 2)
    assert page.said()[1][1]
    assert page.note().endswith("stopped")
    served.wait_until(served.idle)


def test_a_refusal_is_shown_and_the_question_is_not_lost(browser: Any, quick: Served) -> None:
    page = Page(browser, quick)
    page.ask("b" * 400)
    page.wait(lambda: page.part("error").is_displayed())
    assert "more tokens than" in page.part("error").text or "more than the 240" in page.part("error").text
    assert page.said() == []
    assert page.part("text").get_property("value") == "b" * 400
    page.complaints()


def test_a_key_is_asked_for(browser: Any, serve: Serve) -> None:
    served = serve(api_key="sesame", names=("tiny",))
    page = Page(browser, served)
    assert "a valid API key is needed" in page.part("error").text
    page.setting(key="sesame", max_tokens="2")
    page.wait(lambda: page.part("model").text == "tiny" and not page.part("error").is_displayed())
    page.ask("the cat")
    page.answered()
    assert len(page.said()) == 2
    assert "sesame" not in page.browser.execute_script("return JSON.stringify(localStorage)")
    page.complaints()


def test_a_server_that_is_gone_is_said(browser: Any, serve: Serve) -> None:
    served = serve()
    page = Page(browser, served)
    served.server.stop()
    served.thread.join()
    page.ask("the cat")
    page.wait(lambda: page.part("error").is_displayed())
    assert page.part("text").get_property("value") == "the cat"
    page.complaints()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screens_and_both_colour_schemes(page: Page, scheme: str) -> None:
    def tell(command: str, **how: Any) -> None:
        page.browser.execute_cdp_cmd(f"Emulation.{command}", how)

    tell("setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tell("setDeviceMetricsOverride", width=360, height=640, deviceScaleFactor=1, mobile=True)
    try:
        page.setting(max_tokens="20")
        page.ask("wide" * 40)
        page.answered()
        width, height = page.browser.execute_script("return [document.body.scrollWidth, document.body.scrollHeight]")
        assert (width, height) == (360, 640)
        background = page.browser.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
        light = sum(int(part) for part in background[4:-1].split(",")) > 384
        assert light == (scheme == "light")
        page.part("open-settings").click()
        assert page.browser.execute_script("return document.getElementById('settings').scrollWidth") <= 360
        for name in ("send", "open-settings", "clear"):
            assert page.browser.execute_script(f"return document.getElementById('{name}').offsetHeight") >= 44
    finally:
        tell("clearDeviceMetricsOverride")
        tell("setEmulatedMedia", features=[])


class Elements(HTMLParser):
    """All elements of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_loads_nothing_of_others_and_names_every_field(served: Served) -> None:
    response = served.get("/")
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    found = Elements(response.text).found
    links = {value for _, attributes in found for name in ("src", "href") if (value := attributes.get(name))}
    assert links == {"icon.svg", "page.css", "page.js"}
    for link in links:
        loaded = served.get(f"/{link}")
        assert loaded.status_code == 200
        assert "http" not in loaded.text.replace("http://www.w3.org/2000/svg", "")
    assert not [name for _, attributes in found for name in attributes if name.startswith("on") or name == "style"]
    labelled = {attributes["for"] for tag, attributes in found if tag == "label"}
    assert labelled == {attributes["id"] for tag, attributes in found if tag in ("input", "textarea")}

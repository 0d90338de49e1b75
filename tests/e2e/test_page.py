"""The page at `/` in a real browser: what a person does, and what comes of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forge_runtime import Generation
from forge_runtime.backend import Outcome, Progress, Prompt
from forge_runtime.config import Config, ModelConfig, Params
from forge_runtime.power.discovery import Found
from forge_runtime.vision import ImageClassifier
from tests.e2e.browser import Browser, Page, find_chromium, started
from tests.runtime.fake import Client, FakeBackend, make_config, serving
from tests.runtime.power_fake import FakeReader
from tests.runtime.test_vision import FakeTensors, picture, zipped

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("chromium")]

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
NONE = "\N{EN DASH}"
OUTPUT, FACTS, ERROR, STATE = "#output", "#facts", "#error", "#state"


class Says(FakeBackend):
    """Continues whatever it is asked with one text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def generate(self, prompts: Sequence[Prompt], progress: Progress) -> Sequence[Outcome]:
        for index, prompt in enumerate(prompts):
            if prompt.streams:
                progress.emit(index, self._text)
        return [Generation(self._text, 1, 1) for _ in prompts]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        if os.environ.get("FORGE_REQUIRE_CHROMIUM") == "1":
            pytest.fail("Chromium is required and not there")
        pytest.skip("Chromium is not there")
    with started(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Page:
    return browser.open()


@pytest.fixture
def page(tab: Page) -> Page:
    """The one tab: another would take longer than most tests here."""
    tab.forget()
    return tab


@pytest.fixture(scope="module")
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture(scope="module")
def client(backend: FakeBackend) -> Iterator[Client]:
    sensor = FakeReader(lambda seconds: 42.0, time.monotonic)
    with serving(backend, sensors=lambda: Found((sensor,))) as client:
        yield client


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("app")
    (folder / "labels.txt").write_text("<b>red</b>\ngreen\nblue\ndark\n")
    made = make_config(params=Params(batch_size=4))
    config = replace(made, server=replace(made.server, app_dir=folder, body_limit=4096))
    missing = Found((), {"rapl": "There is none here"})
    with serving(FakeTensors(), config, handler=ImageClassifier, sensors=lambda: missing) as client:
        yield client


def origin(client: Client) -> str:
    return f"http://127.0.0.1:{client.port}"


def visit(page: Page, client: Client) -> None:
    page.go(f"{origin(client)}/")


def ask(page: Page, prompt: str) -> None:
    page.type("#prompt", prompt)
    page.press("Enter", ctrl=True)


def wait_done(page: Page) -> None:
    """Wait until a request that was sent has ended."""
    page.wait("!document.querySelector('#send').disabled && document.querySelector('#output').ariaBusy === 'false'")


def choose_way(page: Page, way: str) -> None:
    page.evaluate(f"document.querySelector('#way').value = '{way}'")
    page.evaluate("document.querySelector('#way').dispatchEvent(new Event('change'))")


def figures(page: Page) -> dict[str, str]:
    """What the tiles say by their names, without units."""
    pairs = page.evaluate("[...document.querySelectorAll('.tile')].map((tile) => tile.innerText.split('\\n'))")
    return {pair[0]: pair[1] for pair in pairs if len(pair) > 1}


def is_figure(text: str | None) -> bool:
    return text is not None and text[:1] in "123456789" + "0" and float(text.split()[0]) > 0


def test_it_loads_without_complaint_and_asks_this_server_alone(page: Page, client: Client) -> None:
    visit(page, client)
    page.wait("document.querySelector('#state').textContent === 'ready'")

    assert page.problems == []
    assert [url for url in page.requests if not url.startswith((origin(client), "data:"))] == []
    assert page.evaluate("document.title") == page.text("h1") == "tiny"


def test_its_policy_keeps_it_from_another_host(page: Page, client: Client) -> None:
    visit(page, client)

    answer = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")

    assert answer == "refused"
    assert any("Content Security Policy" in problem for problem in page.problems)


def test_a_text_is_shown_as_it_comes_and_counted_at_its_end(page: Page, client: Client, backend: FakeBackend) -> None:
    backend.gate.clear()
    visit(page, client)
    ask(page, "one two !wait")
    page.wait_for(lambda: page.text(OUTPUT) == "one two !waitONE TWO ", "a first text")
    streaming = page.evaluate("[document.querySelector('#stop').disabled, document.querySelector('#output').ariaBusy]")
    backend.gate.set()
    wait_done(page)

    assert streaming == [False, "true"]
    assert page.text(OUTPUT) == "one two !waitONE TWO !WAIT"
    names, values = page.text(FACTS).split("\n")[::2], page.text(FACTS).split("\n")[1::2]
    facts = dict(zip(names, values, strict=True))
    assert [facts[name] for name in ("Prompt tokens", "Completion tokens", "Ended by")] == ["13", "2", "the model"]
    assert all(is_figure(facts[name]) for name in ("First text", "In all", "Tokens/s"))


@pytest.mark.parametrize("how", ["click", "key"])
def test_a_stopped_text_ends_at_the_server_too(page: Page, client: Client, backend: FakeBackend, how: str) -> None:
    backend.gate.clear()
    backend.cancelled.clear()
    visit(page, client)
    ask(page, "one !wait")
    page.wait_for(lambda: "ONE" in page.text(OUTPUT), "a first text")

    page.click("#stop") if how == "click" else page.press("Escape")

    assert backend.cancelled.wait(5)
    wait_done(page)
    assert page.text(FACTS).endswith("Ended by\nyou")
    assert page.text(ERROR) == ""


def test_parameters_reach_the_model_and_empty_ones_are_left_to_the_service(
    page: Page, client: Client, backend: FakeBackend
) -> None:
    visit(page, client)
    page.type("#max_tokens", "7")
    page.type("#temperature", "0.5")
    page.type("#seed", "3")
    ask(page, "one")
    wait_done(page)

    sampling = backend.samplings[-1]
    assert (sampling.max_new_tokens, sampling.temperature, sampling.do_sample) == (7, 0.5, True)
    assert (sampling.top_p, sampling.seed) == (1, 3)


def test_a_refusal_is_told_in_its_own_words_and_gone_with_the_next_answer(page: Page, client: Client) -> None:
    visit(page, client)
    ask(page, "!long")
    wait_done(page)
    refusal = page.text(ERROR)
    ask(page, "one")
    wait_done(page)

    assert refusal.startswith("Too long\nHTTP 400 · context_length_exceeded · prompts · request ")
    assert (page.text(ERROR), page.text(OUTPUT)) == ("", "oneONE")


def test_a_conversation_is_sent_whole_and_begun_anew(page: Page, client: Client, backend: FakeBackend) -> None:
    visit(page, client)
    choose_way(page, "v1/chat/completions")
    ask(page, "first")
    wait_done(page)
    ask(page, "second")
    wait_done(page)
    turns = page.evaluate("[...document.querySelectorAll('.turn b')].map((each) => each.textContent)")
    page.click("#clear")

    (rendered,) = backend.batches[-1]
    assert ["You", "Model", "You", "Model"] == turns
    assert 0 <= rendered.find("first") < rendered.find("FIRST") < rendered.rfind("second")
    assert page.text(OUTPUT) == ""


def test_the_handlers_own_endpoint_can_be_tried(page: Page, client: Client) -> None:
    visit(page, client)
    choose_way(page, "api/infer")
    ask(page, "one")
    wait_done(page)

    assert page.text(OUTPUT) == "oneONE"
    assert page.text(FACTS).startswith("In all\n")


def test_what_a_model_writes_stays_text(page: Page) -> None:
    config = replace(make_config(), model=ModelConfig(HOSTILE, Path("/models/weights")))
    with serving(Says(HOSTILE), config) as client:
        visit(page, client)
        ask(page, HOSTILE)
        wait_done(page)

        assert page.text(OUTPUT) == HOSTILE + HOSTILE
        assert page.text("h1") == HOSTILE
        assert page.evaluate("[window.hacked, document.querySelectorAll('img[src=x]').length]") == [None, 0]
        assert page.problems == []


def labels(page: Page) -> list[list[str]]:
    """The label and the share in each line."""
    lines = page.evaluate("[...document.querySelectorAll('.label')].map((line) => line.innerText.split(/\\n+/))")
    return [[part for part in line if part.strip()] for line in lines]


def test_a_picture_is_shown_and_its_labels_ranked(page: Page, pictures: Client, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(picture("red"))
    visit(page, pictures)
    page.choose("#file", tmp_path / "red.png")
    page.wait("document.querySelector('#preview').naturalWidth === 20 && !document.querySelector('#preview').hidden")
    page.click("#send")
    wait_done(page)
    page.wait("document.querySelector('.label')")
    found = labels(page)
    widths = page.evaluate("[...document.querySelectorAll('.bar i')].map((bar) => bar.getBoundingClientRect().width)")

    assert [label for label, _ in found[:2]] == ["<b>red</b>", "dark"]
    assert all(share.endswith(" %") for _, share in found)
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > widths[-1] > 0
    assert page.problems == []


def test_a_zip_of_pictures_can_be_dropped(page: Page, pictures: Client, tmp_path: Path) -> None:
    (tmp_path / "all.zip").write_bytes(zipped({"a/<i>.png": picture("blue"), "a/2.png": picture("green")}))
    visit(page, pictures)
    page.drop("#drop", tmp_path / "all.zip")
    page.click("#send")
    wait_done(page)
    page.wait("document.querySelector('.label')")

    names = page.evaluate("[...document.querySelectorAll('h3')].map((name) => name.textContent)")
    assert [("<i>.png", "blue"), ("2.png", "green")] == [
        (name, labels(page)[index * 4][0]) for index, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"no picture", "picture"), (b"a" * 5000, "The file has 4.88 KiB, the server takes 4 KiB")],
    ids=["broken", "large"],
)
def test_what_is_no_picture_is_refused_in_words(
    page: Page, pictures: Client, tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "it.png").write_bytes(content)
    visit(page, pictures)
    page.choose("#file", tmp_path / "it.png")
    page.click("#send")
    wait_done(page)

    assert words in page.text(ERROR)


def test_figures_move_with_requests(page: Page, client: Client) -> None:
    visit(page, client)
    page.wait_for(lambda: figures(page).get("Requests/s") == "0", "a rate of 0")
    before = figures(page)
    for _ in range(3):
        client.infer("one", "two")
    client.infer("!long")
    rising = ("Requests/s", "Tokens/s", "Refused or failed/s", "Latency, p50", "Latency, p90", "Items in a batch, mean")
    page.wait_for(lambda: all(is_figure(figures(page).get(name)) for name in rising), "all figures")
    after = figures(page)

    assert [before["Tokens/s"], before["Latency, p50"]] == ["0", NONE]
    assert float(after["Items in a batch, mean"]) <= 2
    assert page.evaluate("document.querySelector('.tile path:not(.area)').getAttribute('d')").count("L") >= 1
    page.wait_for(lambda: figures(page)["Power"] == "42 W", "power")


def test_without_a_sensor_it_says_why(page: Page, pictures: Client) -> None:
    visit(page, pictures)

    page.wait_for(lambda: "no sensor" in page.text(".tile:last-child"), "power")
    assert page.text(".tile:last-child") == "Power\nno sensor\nrapl: There is none here"


def test_the_state_follows_the_server_through_a_restart(page: Page) -> None:
    loaded = threading.Event()
    with serving(FakeBackend(load=lambda: assert_set(loaded)), ready=False) as client:
        visit(page, client)
        page.wait_for(lambda: page.text(STATE) == "loading", "loading")
        loaded.set()
        page.wait_for(lambda: page.text(STATE) == "ready", "ready")
    page.wait_for(lambda: page.text(STATE) == "does not answer", "its end")
    ask(page, "one")
    wait_done(page)
    lost = page.text(ERROR)
    with serving(FakeBackend(), at(client.port)):
        page.wait_for(lambda: page.text(STATE) == "ready", "its return")
        ask(page, "one")
        wait_done(page)

        assert lost.startswith("The server does not answer\n")
        assert (page.text(OUTPUT), page.text(ERROR)) == ("oneONE", "")


def assert_set(event: threading.Event) -> None:
    assert event.wait(10)


def at(port: int) -> Config:
    config = make_config()
    return replace(config, server=replace(config.server, port=port))


def test_it_reads_no_figures_while_it_is_out_of_sight(page: Page, client: Client, browser: Browser) -> None:
    visit(page, client)
    page.wait("document.querySelector('#state').textContent === 'ready'")
    asked = counting(client)
    other = browser.open(beside=page)
    page.wait("document.hidden")
    hidden = asked()
    time.sleep(1.2)  # longer than it waits between two reads: that nothing comes has no condition to wait for
    unread = asked()
    other.call("Page.close")
    page.show()
    page.wait_for(lambda: asked() > unread, "another read")

    assert unread - hidden <= 1  # one may have been on its way


def counting(client: Client) -> Callable[[], float]:
    """Count who read the figures; this, too, is a read."""
    own = 0

    def count() -> float:
        nonlocal own
        found = client.metric('forge_requests_total{path="/metrics"') - own
        own += 1
        return found

    return count


CONTRASTS = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (value) => value <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  const luminance = (colour) => {
    const [red, green, blue] = parts(colour).map((value) => linear(value / 255));
    return .2126 * red + .7152 * green + .0722 * blue;
  };
  const ground = (element) => {
    const found = getComputedStyle(element).backgroundColor;
    return parts(found)[3] === 0 ? ground(element.parentElement) : found;
  };
  const contrast = (name) => {
    const element = document.querySelector(name);
    const [low, high] = [getComputedStyle(element).color, ground(element)].map(luminance).sort((a, b) => a - b);
    return [name, (high + .05) / (low + .05)];
  };
  const names = ["h1", "header p", "#state", "label", "button.main", "span.quiet", ".tile dt", ".asked", "a"];
  return Object.fromEntries(names.map(contrast));
})()"""
"""Of text and its ground, as WCAG 2.2 has it."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read_and_fit_a_phone(page: Page, client: Client, tmp_path: Path, scheme: str) -> None:
    page.emulate(scheme=scheme)
    visit(page, client)
    ask(page, "one")
    wait_done(page)
    page.wait("document.querySelector('#state').textContent === 'ready'")
    page.screenshot(tmp_path / f"{scheme}.png")
    contrasts = page.evaluate(CONTRASTS)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    page.emulate(scheme=scheme, width=360, height=740)

    assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}
    assert (sum(ground) > 600) == (scheme == "light")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert (tmp_path / f"{scheme}.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("served", ["client", "pictures"])
def test_everything_that_can_be_used_has_a_name(page: Page, request: pytest.FixtureRequest, served: str) -> None:
    visit(page, request.getfixturevalue(served))
    roles = ("button", "textbox", "spinbutton", "combobox", "link", "log")

    found = [(text(node, "role"), text(node, "name")) for node in page.call("Accessibility.getFullAXTree")["nodes"]]

    named = [(role, name) for role, name in found if role in roles]
    assert len(named) >= 6
    assert [each for each in named if not each[1]] == []


def text(node: dict[str, Any], key: str) -> str:
    return str(node.get(key, {}).get("value", ""))

from __future__ import annotations

import html
import html.parser
import json
import re
from dataclasses import replace

from forge_client.bench import Level
from forge_client.observation import Observation, Power, Step
from forge_client.page import page
from forge_client.report import Report, environment, table, to_json
from forge_client.stat import summarize
from tests.client.test_stat import sample

EVIL = "</title><script>alert(1)</script>&\"'@JSON@"


def level(clients: int, *, evil: bool = False) -> Level:
    samples = [sample(0.0, 0.01 * number) for number in range(1, 21)]
    if evil:
        samples.append(sample(0.0, 1.0, EVIL))
    power = Power(reason=EVIL if evil else "No sensor")
    return Level(
        clients, None, summarize(samples, 1.0), Observation(power, {EVIL if evil else "infer": Step(3, 1.5)}), 0.1
    )


def report(*levels: Level, **fields: object) -> Report:
    found = Report(
        target="http://127.0.0.1:1",
        api="infer",
        model="m",
        dataset="prompts.json: 3 prompts",
        started="2026-01-02T03:04:05+00:00",
        levels=levels,
        good=True,
        client=environment(),
    )
    return replace(found, **fields)  # type: ignore[arg-type]


EVERYWHERE = report(
    level(1, evil=True),
    target=EVIL,
    api=EVIL,
    model=EVIL,
    dataset=EVIL,
    started=EVIL,
    stopped=EVIL,
    tags={EVIL: EVIL, "target": EVIL},
    plan={EVIL: EVIL},
)


class Parser(html.parser.HTMLParser):
    """Notes elements and what refers to something else."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.references += [
            name for name, _ in attrs if name in ("src", "href", "xlink:href", "srcset", "data", "action")
        ]


def parsed(text: str) -> Parser:
    parser = Parser()
    parser.feed(text)
    return parser


def test_a_page_needs_nothing_else() -> None:
    text = page(report(level(1), level(2)))
    found = parsed(text)

    assert [] == found.references
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(found.elements)
    assert not re.search(r"url\(|@import|https?://(?!127\.0\.0\.1)", text)
    assert "default-src 'none'" in text


def test_whatever_stands_in_a_report_is_text() -> None:
    text = page(EVERYWHERE)

    assert parsed(page(report(level(1)))).elements.count("script") == parsed(text).elements.count("script") == 0
    assert "<script>" not in text
    assert html.escape(EVIL) in text


def test_there_are_plots_of_throughput_latency_and_each_level() -> None:
    found = re.findall(r'aria-label="([^"]*)"', page(report(level(1), level(2))))

    assert ["Throughput", "Latency", "Latencies, concurrency 1", "Latencies, concurrency 2"] == found


def test_a_level_without_answers_has_a_page_too() -> None:
    empty = Level(1, None, summarize([sample(0.0, 1.0, "reset")], 1.0), Observation(Power(reason="x")), 0.0)

    assert "<svg" not in page(report(empty))
    assert "reset" in table(report(empty))


def test_one_request_has_a_page() -> None:
    single = Level(1, None, summarize([sample(0.0, 1.0)], 1.0), Observation(Power(mean_w=3.0)), 0.0)

    assert 3 == page(report(single)).count("<svg")


def test_a_table_has_no_empty_columns() -> None:
    first, _, titles, *rows = table(report(level(1), level(16))).splitlines()

    assert "http://127.0.0.1:1, infer, model m, prompts.json: 3 prompts" == first
    assert re.split(r"\s{2,}", titles.strip()) == [
        "clients", "requests", "requests/s", "items/s", "tokens/s", "p50 ms", "p90 ms", "p99 ms", "max ms",
    ]  # fmt: skip
    assert ["1", "20", "20", "40", "80", "105", "181", "198", "200"] == rows[0].split()
    assert rows[1].startswith("     16  ")


def test_notes_warn_of_a_generator_that_is_the_limit() -> None:
    busy = replace(level(1), client_cpu_seconds=0.95)

    assert "note: concurrency 1: the load generator itself took 95% of a processor; it may be the limit" in table(
        report(busy)
    )


def test_json_holds_everything_and_its_version() -> None:
    found = json.loads(to_json(report(level(1))))

    assert 1 == found["schema"]
    assert [105.0, 20] == [found["levels"][0]["summary"]["latency_ms"][key] for key in ("p50", "count")]
    assert {"mean_w": None, "joules_per_request": None, "samples": 0, "reason": "No sensor"} == (
        found["levels"][0]["observation"]["power"]
    )
    assert {"python", "machine", "processors", "system", "h11"} == set(found["client"])

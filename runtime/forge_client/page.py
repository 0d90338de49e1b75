"""A measurement as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from forge_client.bench import Level
from forge_client.plot import Series, bars, lines
from forge_client.report import Report, facts, lists, remarks, to_json

__all__ = ["page"]

HISTOGRAMS = 12
"""At most; a longer sweep shows those of the first levels."""


def page(report: Report) -> str:
    """Write the page."""
    title = html.escape(f"{report.tags.get('target', report.target)}: {report.started}")
    shown = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(fact)}</dd>" for name, fact in facts(report))
    told = "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks(report))
    parts = {
        "TITLE": title,
        "FACTS": shown,
        "TABLE": _table(report.levels),
        "PLOTS": "".join(f"<figure>{plot}</figure>" for plot in _plots(report.levels)),
        "REMARKS": f"<ul>{told}</ul>" if told else "",
        "JSON": html.escape(to_json(report)),
    }
    # In one pass: what is filled in is never looked at again, whatever it holds.
    return re.sub("@([A-Z]+)@", lambda found: parts[found[1]], _PAGE)


def _table(levels: Sequence[Level]) -> str:
    titles, rows = lists(levels)
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _plots(levels: Sequence[Level]) -> list[str]:
    told = [level for level in levels if level.summary.latency_ms is not None]
    if not told:
        return []
    paced = told[0].rate is not None
    names = [level.name for level in told]
    loads = [level.rate if level.rate is not None else float(level.concurrency or 0) for level in told]
    rates = [level.summary.requests_per_second for level in told]
    load = "requests sent a second" if paced else "clients at a time"
    points = list(zip(loads, rates, strict=True))
    tips = [f"{name}: {rate:g} requests/s" for name, rate in zip(names, rates, strict=True)]
    plots = [lines("Throughput", load, "requests answered a second", [Series("requests", points, tips)])]
    series = []
    for mark in ("p50", "p90", "p99"):
        heights = [float(getattr(level.summary.latency_ms, mark)) for level in told]
        tips = [f"{name}: {mark} {height:g} ms" for name, height in zip(names, heights, strict=True)]
        series.append(Series(mark, list(zip(rates, heights, strict=True)), tips))
    plots.append(lines("Latency", "requests answered a second", "milliseconds", series))
    for level in told[:HISTOGRAMS]:
        if level.summary.histogram is not None:
            plots.append(bars(f"Latencies, {level.name}", "milliseconds", "requests", level.summary.histogram))
    return plots


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root { color-scheme: light dark; --line: #d5dae2; --ink: #1d2430; --box: #fff; --back: #f4f6f9;
  --s0: #2563eb; --s1: #b45309; --s2: #be123c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf2; --box: #1f2733; --back: #131820; --line: #3b4658;
  --s0: #60a5fa; --s1: #fbbf24; --s2: #fb7185; } }
body { margin: 0 auto; padding: 1em; max-width: 76em; font: 14px/1.45 system-ui, sans-serif;
  background: var(--back); color: var(--ink); }
h1 { font-size: 1.2em; overflow-wrap: anywhere; } dl { display: flex; flex-wrap: wrap; gap: .2em 2em; }
dt { display: none; } dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; background: var(--box); }
th, td { padding: .3em .7em; border: 1px solid var(--line); text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(30em, 100%), 1fr)); gap: 1em; margin: 1em 0; }
figure { margin: 0; padding: .5em; background: var(--box); border: 1px solid var(--line); border-radius: 6px; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font: 11px system-ui, sans-serif; }
svg .title { font-size: 13px; font-weight: 600; } .end { text-anchor: end; } .middle { text-anchor: middle; }
svg line { stroke: var(--line); } polyline { fill: none; stroke-width: 2; }
polyline.s0 { stroke: var(--s0); } polyline.s1 { stroke: var(--s1); } polyline.s2 { stroke: var(--s2); }
circle.s0, rect.s0 { fill: var(--s0); } circle.s1, rect.s1 { fill: var(--s1); } circle.s2, rect.s2 { fill: var(--s2); }
li, pre { overflow-wrap: anywhere; } pre { white-space: pre-wrap; }
</style></head><body>
<h1>@TITLE@</h1><dl>@FACTS@</dl><div class="wide">@TABLE@</div><main>@PLOTS@</main>@REMARKS@
<details><summary>All figures as JSON</summary><pre>@JSON@</pre></details>
</body></html>
"""

"""A graph of targets as DOT, as Mermaid, and as one HTML page that needs nothing else."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """A target in a drawing."""

    label: str
    rule: str
    platform: str
    deps: tuple[str, ...]
    facts: tuple[tuple[str, str], ...] = ()
    """What the page shows when the node is chosen."""


def dot(nodes: Sequence[Node]) -> str:
    """Write DOT, for Graphviz."""
    lines = ["digraph targets {", "  rankdir=LR;", '  node [shape=box, style=rounded, fontname="sans-serif"];']
    for node in nodes:
        lines.append(f"  {json.dumps(node.label)} [label={json.dumps(_caption(node))}];")
    lines += [f"  {json.dumps(node.label)} -> {json.dumps(dep)};" for node in nodes for dep in node.deps]
    return "\n".join([*lines, "}"]) + "\n"


def mermaid(nodes: Sequence[Node]) -> str:
    """Write a Mermaid flowchart."""
    names = {node.label: f"n{number}" for number, node in enumerate(nodes)}
    lines = ["flowchart LR"]
    for node in nodes:
        caption = _caption(node).replace('"', "#quot;").replace("\n", "<br/>")
        lines.append(f'  {names[node.label]}["{caption}"]')
    lines += [f"  {names[node.label]} --> {names[dep]}" for node in nodes for dep in node.deps if dep in names]
    return "\n".join(lines) + "\n"


def page(nodes: Sequence[Node], title: str) -> str:
    """Write the page: dependencies to the right of what needs them; a click on a target shows what it is."""
    columns = _columns(nodes)
    width, height, gap_x, gap_y = 230, 46, 90, 18
    tallest = max((len(column) for column in columns), default=1)
    places: dict[str, tuple[int, int]] = {}
    for x, column in enumerate(columns):
        top = (tallest - len(column)) * (height + gap_y) // 2
        for y, label in enumerate(column):
            places[label] = (20 + x * (width + gap_x), 20 + top + y * (height + gap_y))
    by_label = {node.label: node for node in nodes}
    edges = "".join(
        _edge(places[node.label], places[dep], node.label, dep, width, height)
        for node in nodes
        for dep in node.deps
        if dep in places
    )
    boxes = "".join(_box(by_label[label], place, width, height) for label, place in places.items())
    size = (40 + len(columns) * (width + gap_x), 40 + tallest * (height + gap_y))
    facts = {node.label: [("rule", node.rule), ("platform", node.platform or "all"), *node.facts] for node in nodes}
    # `</` would end the script element wherever it stands.
    data = json.dumps(facts).replace("</", "<\\/")
    svg = f'<svg width="{size[0]}" height="{size[1]}" viewBox="0 0 {size[0]} {size[1]}">{_ARROW}{edges}{boxes}</svg>'
    return _PAGE.replace("@TITLE@", html.escape(title)).replace("@SVG@", svg).replace("@DATA@", data)


def _caption(node: Node) -> str:
    return f"{node.label}\n{node.rule}"


def _columns(nodes: Sequence[Node]) -> list[list[str]]:
    """Put every target left of all that it depends on, by its longest path from a target that nothing needs."""
    by_label: Mapping[str, Node] = {node.label: node for node in nodes}
    depth = {node.label: 0 for node in nodes}
    needed = dict.fromkeys(depth, 0)
    for node in nodes:
        for dep in node.deps:
            if dep in needed:
                needed[dep] += 1
    ready = [label for label, count in needed.items() if count == 0]
    while ready:
        label = ready.pop()
        for dep in by_label[label].deps:
            if dep in depth:
                depth[dep] = max(depth[dep], depth[label] + 1)
                needed[dep] -= 1
                if needed[dep] == 0:
                    ready.append(dep)
    columns: list[list[str]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for label in sorted(depth):
        columns[depth[label]].append(label)
    return columns


def _box(node: Node, place: tuple[int, int], width: int, height: int) -> str:
    x, y = place
    label, rule = html.escape(node.label), html.escape(node.rule)
    shown = html.escape(node.label if len(node.label) <= 34 else f"…{node.label[-33:]}")
    return (
        f'<g class="node r-{rule}" data-label="{label}" tabindex="0" role="button" aria-label="{label}">'
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7"/>'
        f'<text x="{x + 10}" y="{y + 19}">{shown}</text><text class="rule" x="{x + 10}" y="{y + 36}">{rule}</text></g>'
    )


def _edge(start: tuple[int, int], end: tuple[int, int], label: str, dep: str, width: int, height: int) -> str:
    x1, y1, x2, y2 = start[0] + width, start[1] + height // 2, end[0], end[1] + height // 2
    bend = max(30, (x2 - x1) // 2)
    ends = f'data-from="{html.escape(label)}" data-to="{html.escape(dep)}"'
    return f'<path {ends} d="M{x1},{y1} C{x1 + bend},{y1} {x2 - bend},{y2} {x2 - 6},{y2}" marker-end="url(#arrow)"/>'


_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0,0 L8,4 L0,8 z"/></marker></defs>'
)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@</title><style>
:root { color-scheme: light dark; --line: #8a94a6; --ink: #1d2430; --box: #fff; --back: #f4f6f9; --hot: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf2; --box: #1f2733; --back: #131820; --line: #64718a; } }
body { margin: 0; font: 14px/1.4 system-ui, sans-serif; background: var(--back); color: var(--ink); }
header { position: sticky; top: 0; display: flex; gap: 1em; align-items: center; padding: .6em 1em;
  background: var(--box); border-bottom: 1px solid var(--line); }
h1 { font-size: 1em; margin: 0; } input { font: inherit; padding: .2em .5em; width: 16em; }
main { display: flex; } #canvas { overflow: auto; flex: 1; } aside { width: 22em; padding: 1em; }
dt { font-weight: 600; } dd { margin: 0 0 .5em; overflow-wrap: anywhere; }
svg text { fill: var(--ink); font: 12px ui-monospace, monospace; } svg text.rule { opacity: .7; font-size: 11px; }
.node rect { fill: var(--box); stroke: var(--line); } .node { cursor: pointer; }
.r-image rect { stroke: #2563eb; } .r-model rect, .r-convert rect { stroke: #16a34a; } .r-test rect { stroke: #9333ea; }
.node.chosen rect, .node:focus rect { stroke: var(--hot); stroke-width: 2.5; } .node.dim { opacity: .25; }
svg path { fill: none; stroke: var(--line); } marker path { fill: var(--line); stroke: none; }
path.hot { stroke: var(--hot); stroke-width: 2; }
</style></head><body>
<header><h1>@TITLE@</h1><input id="find" type="search" placeholder="Find a target" aria-label="Find a target"></header>
<main><div id="canvas">@SVG@</div>
<aside><dl id="facts"><dt>Choose a target</dt><dd>to see what it is.</dd></dl></aside></main>
<script>
const facts = @DATA@;
const nodes = [...document.querySelectorAll(".node")], paths = [...document.querySelectorAll("path[data-from]")];
function choose(label) {
  nodes.forEach(n => n.classList.toggle("chosen", n.dataset.label === label));
  paths.forEach(p => p.classList.toggle("hot", p.dataset.from === label || p.dataset.to === label));
  const list = document.getElementById("facts");
  list.replaceChildren();
  for (const [name, value] of [["target", label], ...facts[label]]) {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name; dd.textContent = value; list.append(dt, dd);
  }
}
nodes.forEach(n => {
  n.addEventListener("click", () => choose(n.dataset.label));
  n.addEventListener("keydown", e => { if (e.key === "Enter") choose(n.dataset.label); });
});
document.getElementById("find").addEventListener("input", e =>
  nodes.forEach(n => n.classList.toggle("dim", !n.dataset.label.includes(e.target.value))));
</script></body></html>
"""

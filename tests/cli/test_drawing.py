"""Drawings of graphs: whole, and safe with any text in them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

from forge.cli.drawing import Node, dot, mermaid, page

NODES = (
    Node("//a:image", "image", "cpu", ("//a:server", "//b:base"), (("place", "a/BUILD.toml:1"),)),
    Node("//a:server", "compose", "cpu", ("//b:base",)),
    Node("//b:base", "environment", "", ()),
)


class Page(HTMLParser):
    """Collects what a browser would draw."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.boxes: dict[str, tuple[int, int]] = {}
        self.edges: set[tuple[str, str]] = set()
        self.fetched: list[str] = []
        self._box = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.fetched += [found[name] for name in ("src", "href") if name in found]
        self._box = found.get("data-label", self._box)
        if tag == "rect":
            self.boxes[self._box] = (int(found["x"]), int(found["y"]))
        if "data-from" in found:
            self.edges.add((found["data-from"], found["data-to"]))


def test_the_page_has_every_target_and_every_dependency_and_fetches_nothing() -> None:
    found = Page(page(NODES, "//a/..."))

    assert {node.label for node in NODES} == set(found.boxes)
    assert {(node.label, dep) for node in NODES for dep in node.deps} == found.edges
    assert [] == found.fetched


def test_dependencies_stand_to_the_right_and_boxes_apart() -> None:
    boxes = Page(page(NODES, "x")).boxes

    assert all(boxes[node.label][0] < boxes[dep][0] for node in NODES for dep in node.deps)
    assert len(set(boxes.values())) == len(NODES)


def test_text_cannot_leave_its_place() -> None:
    evil = '</script><img src=x onerror="alert(1)">'
    text = page((Node("//a:x", evil, evil, (), ((evil, evil),)),), evil)

    assert [] == Page(text).fetched
    assert 1 == text.count("</script>")
    data = re.search(r"const facts = (.*);\n", text)
    assert data is not None
    assert [evil, evil] in json.loads(data[1])["//a:x"]


def test_dot_and_mermaid_name_each_target_and_edge() -> None:
    assert '  "//a:image" -> "//b:base";' in dot(NODES).splitlines()
    assert '  n0["//a:image<br/>image"]' in mermaid(NODES).splitlines()
    assert "  n0 --> n2" in mermaid(NODES).splitlines()


def test_a_drawing_of_nothing_is_a_drawing() -> None:
    assert dot(()).startswith("digraph")
    assert {} == Page(page((), "x")).boxes

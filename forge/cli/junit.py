"""Verdicts of tests as JUnit XML, which CI services read: a suite a run of a target, a case a request.

There is no standard; attributes and elements are those of Jenkins' schema
(https://github.com/jenkinsci/xunit-plugin, `junit-10.xsd`), of which all readers understand their part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML document may hold (XML 1.0, `Char`), and what programs print all the same."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that a test looks at."""

    name: str
    message: str = ""
    """What is wrong; empty where it passed."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Suite:
    """One run of a test."""

    name: str
    status: Literal["passed", "failed", "skipped"]
    cases: Sequence[Case] = ()
    fault: str = ""
    """Why it did not pass, where that is none of its cases."""
    log: str = ""
    seconds: float = 0.0
    attempts: int = 1


def read_cases(report: bytes) -> tuple[Case, ...]:
    """Read the cases of a report; none where it is no report of forge's own rule."""
    try:
        rows = json.loads(report)["cases"]
        return tuple(
            Case(str(row["name"]), "" if row["passed"] else str(row.get("message") or "Failed"), _seconds(row))
            for row in rows
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()


def render_junit(suites: Sequence[Suite]) -> str:
    """Write the document."""
    root = ElementTree.Element("testsuites", name="forge")
    for suite in suites:
        root.append(_suite(suite))
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(each.get(name, "0")) for each in root)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(suite: Suite) -> ElementTree.Element:
    cases = list(suite.cases)
    failures = [case for case in cases if case.message]
    errors = 1 if suite.status == "failed" and not failures else 0
    skipped = 1 if suite.status == "skipped" else 0
    if not cases or errors:
        cases.append(Case(suite.name))
    made = ElementTree.Element(
        "testsuite",
        name=_text(suite.name),
        tests=str(len(cases)),
        failures=str(len(failures)),
        errors=str(errors),
        skipped=str(skipped),
        time=f"{suite.seconds:.3f}",
    )
    if suite.attempts > 1:
        properties = ElementTree.SubElement(made, "properties")
        ElementTree.SubElement(properties, "property", name="attempts", value=str(suite.attempts))
        if suite.status == "passed":
            ElementTree.SubElement(properties, "property", name="flaky", value="true")
    for case in cases:
        entry = ElementTree.SubElement(
            made, "testcase", classname=_text(suite.name), name=_text(case.name), time=f"{case.seconds:.3f}"
        )
        if case.message:
            ElementTree.SubElement(entry, "failure", message=_text(case.message)).text = _text(case.message)
    if errors or skipped:
        kind = "error" if errors else "skipped"
        ElementTree.SubElement(made[-1], kind, message=_text(suite.fault))
    if suite.log:
        ElementTree.SubElement(made, "system-out").text = _text(suite.log)
    return made


def _seconds(row: dict[str, object]) -> float:
    seconds = row.get("seconds", 0.0)
    return float(seconds) if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) else 0.0


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)

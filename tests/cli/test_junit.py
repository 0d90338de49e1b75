"""JUnit XML, and the verdicts that it is made of."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from forge.cli.junit import Case, Suite, read_cases, render_junit
from forge.cli.report import Outcome, TargetReport, render_json, render_text
from forge.cli.testing import Testing
from forge.core.action import Action
from forge.core.artifact import Derived
from forge.core.graph import ActionGraph
from forge.core.label import Label
from forge.core.provider import TestInfo
from forge.execution.attempt import Attempts
from forge.execution.run import Run
from tests.execution.test_attempt import Failing

LABEL = Label("a", "smoke")


def parsed(*suites: Suite) -> ElementTree.Element:
    return ElementTree.fromstring(render_junit(suites))


def test_counts_are_those_of_the_cases() -> None:
    suites = [
        Suite("a", "failed", (Case("x"), Case("y", "broken")), "exit code 1"),
        Suite("b", "failed", (), "no end after 300 s"),
        Suite("c", "skipped", fault="Not run"),
    ]
    root = parsed(*suites)

    assert {"name": "forge", "tests": "4", "failures": "1", "errors": "1", "skipped": "1"} == root.attrib
    assert ["broken"] == [each.get("message") for each in root.iter("failure")]
    assert ["no end after 300 s"] == [each.get("message") for each in root.iter("error")]
    assert ["Not run"] == [each.get("message") for each in root.iter("skipped")]


def test_a_test_that_fails_though_its_cases_pass_is_an_error() -> None:
    root = parsed(Suite("a", "failed", (Case("x"),), "exit code 9"))

    assert ("2", "1") == (root.get("tests"), root.get("errors"))


@given(st.text(), st.text())
def test_no_text_breaks_it(name: str, message: str) -> None:
    root = parsed(Suite(name, "failed", (Case(name, message),), message, log=message))

    assert 1 == len(root)


def test_a_flaky_suite_says_so() -> None:
    root = parsed(Suite("a", "passed", (Case("x"),), attempts=2))

    assert {"attempts": "2", "flaky": "true"} == {each.get("name"): each.get("value") for each in root.iter("property")}


def test_cases_are_read_with_seconds_and_messages() -> None:
    rows = [{"name": "x", "passed": True, "seconds": 1.5}, {"name": "y", "passed": False, "message": "m"}]

    assert (Case("x", "", 1.5), Case("y", "m")) == read_cases(json.dumps({"cases": rows}).encode())


def test_another_report_has_no_cases() -> None:
    assert [()] * 5 == [read_cases(each) for each in (b"", b"{}", b'{"cases": 3}', b'{"cases": [3]}', b"\xff")]


def test_a_pass_after_a_failure_is_flaky() -> None:
    action = Action(("check",), mnemonic="Test", owner=LABEL)
    report = Derived("//a:smoke#Test", "report.json")
    graph = ActionGraph({"//a:smoke#Test": action}, {LABEL: TestInfo({"smoke.report.json": report}, report)}, {})
    testing = Testing(attempts=2)
    attempts = Attempts(Failing(1), 2)
    attempts.run(action, {}, None, lambda done, total: None)
    testing.tried = attempts
    reports = testing.marked([TargetReport(LABEL, "built")], Run(), graph)
    outcome = Outcome("test", reports, {}, [], 0, 0.0)

    assert ["//a:smoke  FLAKY (passed after it had failed)"] == render_text(outcome)
    assert "flaky" == json.loads(render_json(outcome))["targets"][0]["status"]
    assert json.loads(render_json(outcome))["success"]

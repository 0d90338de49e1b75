"""What `build` and `test` share: load, analyze, run, link, report."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from forge.cli.console import Console
from forge.cli.eventlog import EventLog
from forge.cli.failure import failure_of, placed
from forge.cli.options import merged, overrides, remote_of, working_folder
from forge.cli.profile import Profile
from forge.cli.report import Outcome, TargetReport, render_json, render_text
from forge.cli.session import Session, Settings
from forge.cli.testing import Testing
from forge.core.artifact import Artifact, Derived, Source
from forge.core.errors import NoTestsError
from forge.core.event import Event
from forge.core.graph import ActionGraph
from forge.core.label import Label
from forge.core.provider import ImageInfo, IndexInfo, TestInfo
from forge.core.target import TargetGraph
from forge.core.tool import Content, FileContent
from forge.execution import snapshot
from forge.execution.builder import Builder
from forge.execution.materialize import evidence as tree_evidence
from forge.execution.output import publish
from forge.execution.run import Run
from forge.loading.reader import signature


def settings_of(flags: Mapping[str, Any]) -> Settings:
    """Take what the session needs out of merged flags."""
    return Settings(
        jobs=flags.get("jobs") or 0,
        keep_going=bool(flags.get("keep_going")),
        offline=bool(flags.get("offline")),
        sandbox_debug=bool(flags.get("sandbox_debug")),
        noblock_for_lock=bool(flags.get("noblock_for_lock")),
        override=overrides(tuple(flags.get("override") or ())),
        assembler=flags.get("assembler") or "",
        builder=flags.get("builder") or "",
        cache_from=tuple(flags.get("cache_from") or ()),
        cache_to=tuple(flags.get("cache_to") or ()),
        remote=remote_of(flags),
        remote_upload=flags.get("remote_upload_local_results") is not False,
        remote_upload_cached=bool(flags.get("remote_upload_cached_results")),
        executor=flags.get("executor") or "",
        containers=bool(flags.get("docker")),
    )


def build_targets(patterns: tuple[str, ...], given: Mapping[str, Any], *, tests: bool) -> int:
    """Build what patterns name; 0, or raises what went wrong."""
    begun = time.monotonic()
    session = Session(working_folder(), os.environ)
    flags = merged(given, session.workspace)
    settings = settings_of(flags)
    testing = Testing.of(flags) if tests else None
    profile = Profile(Path(flags["profile"])) if flags.get("profile") else None
    with profile.phase("Load") if profile else nullcontext():
        graph = session.load(session.patterns(patterns), settings)
    if tests:
        graph = only_tests(session, graph)
    with profile.phase("Analyze") if profile else nullcontext():
        actions = session.analyze(graph, settings)
    if testing is not None:
        actions = testing.contained(actions) if settings.containers else actions
        actions = testing.numbered(actions, graph.requested)
    console = Console.make(flags.get("progress") or "auto", flags.get("color") or "auto", os.environ)
    path = flags.get("build_event_json_file")
    log = EventLog(Path(path), "test" if tests else "build", patterns) if path else None

    def listen(event: Event) -> None:
        console(event)
        if log is not None:
            log(event)
        if profile is not None:
            profile(event)
        if testing is not None:
            testing(event)

    with console, session.locked(settings):
        try:
            builder = session.builder(settings, listen)
            if testing is not None:
                testing.watch(builder)
            labels = [label for label in graph.requested if label in actions.providers]
            wanted = {label: outputs_of(actions, label, tests=tests) for label in labels}
            artifacts = [artifact for group in wanted.values() for artifact in group.values()]
            linked = {artifact for group in wanted.values() for name, artifact in group.items() if name}
            run = builder.build(actions, artifacts, set(artifacts) - linked)
            evidence = Evidence()
            reports = _reports(session, builder, run, actions, wanted, evidence)
            if testing is not None:
                reports = testing.marked(reports, run, actions)
                testing.write(builder, run, actions, labels)
        except BaseException as error:
            if log is not None:
                log.end(getattr(error, "exit_code", 8 if isinstance(error, KeyboardInterrupt) else 37))
            raise
        finally:
            session.save()
            if profile is not None:
                profile.write()
        seconds = time.monotonic() - begun
        cached = len(run.contents) - len(run.ran) - len(run.remote)
        what: Literal["test", "build"] = "test" if tests else "build"
        outcome = Outcome(what, reports, actions.skipped, run.ran, cached, seconds, len(run.remote))
        if testing is not None:
            testing.tell(run, actions)
        failure = failure_of(placed(run, graph), actions)
        unchanged = _again(outcome)
        if log is not None:
            log.finish(outcome, failure.exit_code if failure else 0)
        is_told = log is not None or profile is not None or (testing is not None and testing.is_told)
        # Who gives to a remote cache what is up to date here wants it looked at each time.
        if failure is None and not is_told and not settings.remote_upload_cached:
            _save_snapshot(session, flags, actions, unchanged, evidence)
    _say(outcome, flags.get("output") or "text", console)
    if failure is not None:
        raise failure
    return 0


@dataclass(slots=True)
class Evidence:
    """What shows, with `stat` alone, that outputs are as they were."""

    links: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, int] = field(default_factory=dict)
    """Files of the store, with their sizes."""
    folders: dict[str, int] = field(default_factory=dict)
    """Folders of the store, with their times."""


def _reports(
    session: Session,
    builder: Builder,
    run: Run,
    actions: ActionGraph,
    wanted: Mapping[Label, Mapping[str, Artifact]],
    evidence: Evidence,
) -> list[TargetReport]:
    ran = actions.reached(run.ran)
    reports = []
    for label, outputs in wanted.items():
        found = {name: builder.content(run, artifact) for name, artifact in outputs.items()}
        contents = {name: content for name, content in found.items() if content is not None}
        if len(contents) < len(found):
            reports.append(TargetReport(label, "failed"))
            continue
        own = {artifact.action for artifact in outputs.values() if isinstance(artifact, Derived)}
        reports.append(_report(session, label, contents, "cached" if own.isdisjoint(ran) else "built", evidence))
    return reports


def outputs_of(actions: ActionGraph, label: Label, *, tests: bool = True) -> dict[str, Artifact]:
    """Name a target's outputs, and what its digest is read from."""
    provider = actions.providers[label]
    if isinstance(provider, TestInfo) and not tests and isinstance(provider.report, Derived):
        # `build` makes what a test needs, as in Bazel; `test` runs it.
        root = actions.actions[provider.report.action].root
        return {"": root} if root is not None else {}
    found = dict(provider.files)
    if isinstance(provider, (ImageInfo, IndexInfo)) and provider.digest is not None:
        found[""] = provider.digest
    return found


def only_tests(session: Session, graph: TargetGraph) -> TargetGraph:
    """Keep the test targets of what was asked for; NoTestsError when there are none."""
    kept = tuple(label for label in graph.requested if session.rules[graph.targets[label].rule].is_test)
    if not kept:
        raise NoTestsError("No test target matches", hint='A test is a target with `rule = "test"`')
    return replace(graph, requested=kept, outright=graph.outright & frozenset(kept))


def _report(
    session: Session,
    label: Label,
    contents: Mapping[str, Content],
    status: Literal["built", "cached"],
    evidence: Evidence,
) -> TargetReport:
    digest, size = _identity(session, contents)
    paths = []
    for name, content in contents.items():
        if not name:
            continue
        link, target = publish(session.store, session.root, f"{label.package}/{name}".lstrip("/"), content)
        evidence.links[str(link)] = str(target)
        paths.append(link.relative_to(session.root).as_posix())
        if isinstance(content, FileContent):
            evidence.blobs[str(target)] = content.digest.size
        else:
            files, folders = tree_evidence(session.store, content)
            evidence.blobs.update(files)
            evidence.folders.update(folders)
    return TargetReport(label, status, digest, size, tuple(paths))


def _identity(session: Session, contents: Mapping[str, Content]) -> tuple[str, int]:
    """Tell a target's digest: of an image's manifest, of a file, of a tree's root."""
    described = contents.get("")
    if isinstance(described, FileContent):
        table = json.loads(session.store.read(described.digest))
        return str(table["manifest"]), 0
    for content in contents.values():
        digest = content.digest if isinstance(content, FileContent) else content.root
        return digest.oci, digest.size
    return "", 0


def _again(outcome: Outcome) -> Outcome:
    """What the same command says when nothing has changed since."""
    reports = [TargetReport(r.label, "unchanged", r.digest, r.size, r.paths) for r in outcome.reports]
    return Outcome(outcome.command, reports, outcome.skipped, [], 0, 0.0)


def _say(outcome: Outcome, form: str, console: Console) -> None:
    if form == "json":
        sys.stdout.write(render_json(outcome))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in render_text(outcome)))
    sys.stdout.flush()
    for label, fault in outcome.skipped.items():
        console.line(f"skipped {label}: {fault.text}", "warning")
    console.line(outcome.summary)


def _save_snapshot(
    session: Session, flags: Mapping[str, Any], actions: ActionGraph, outcome: Outcome, evidence: Evidence
) -> None:
    argv = sys.argv[1:]
    files = dict(session.reader.files)
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name.partition(".")[0] == "forge" and path and path not in files:
            files[path] = signature(path)
    for action in actions.actions.values():
        for _, artifact in action.inputs:
            if isinstance(artifact, Source):  # also those that rules bring along, which loading did not read
                path = str(session.sources.path(artifact))
                files.setdefault(path, signature(path))
    folders = {**session.reader.folders, **evidence.folders}
    cas = session.store.home / "cas"
    for folder in [*(cas / name for name in os.listdir(cas)), cas, session.store.home / "recipes"]:
        folders[str(folder)] = os.stat(folder).st_mtime_ns
    notes = "".join(f"skipped {label}: {fault.text}\n" for label, fault in outcome.skipped.items())
    text = "".join(f"{line}\n" for line in render_text(outcome))
    stdout = render_json(outcome) if flags.get("output") == "json" else text
    quiet = flags.get("progress") == "quiet"
    snapshot.save(
        snapshot.snapshot_path(str(session.state), argv),
        snapshot.identity(argv, str(session.root), str(session.cwd), dict(session.environ)),
        started=session.started,
        files=files,
        folders=folders,
        blobs=evidence.blobs,
        links=evidence.links,
        said={"stdout": stdout, "stderr": "" if quiet else notes + outcome.summary + "\n"},
    )

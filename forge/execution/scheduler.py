"""Runs a graph of actions: each as soon as its inputs are there, and only if its key is not cached."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from forge.core import wire
from forge.core.action import Action, ActionKey, action_key
from forge.core.artifact import Artifact, Source
from forge.core.digest import Digest, Hash, Pin
from forge.core.errors import ForgeError, InternalError, Interrupted
from forge.core.event import ActionFinished, ActionProgress, ActionStarted, Listener
from forge.core.graph import ActionGraph
from forge.core.tool import Content, FileContent, TreeContent
from forge.core.tree import Directory
from forge.execution.action_cache import ActionCache, encode_result
from forge.execution.claim import Claims
from forge.execution.executor import Executor
from forge.execution.remote import Remote
from forge.execution.run import Run
from forge.execution.source import SourceCache
from forge.execution.store import LocalStore, MissingBlob
from forge.execution.trace import TraceLog, parts_of

_DOWNLOADS = 8
"""Fetches at a time: they wait for others, not for this machine."""
_QUESTIONS = 16
"""Questions to the remote cache at a time, for the same reason."""

_Done = queue.SimpleQueue[tuple[str, Callable[[], Mapping[str, Content]] | None]]
"""Name of an action that has ended, and what gives its outputs or raises its error."""


class _NotTried(Exception):
    """An action was not begun, because another had failed."""


@dataclass(slots=True)
class Scheduler:
    """One build's worth of scheduling."""

    store: LocalStore
    cache: ActionCache
    sources: SourceCache
    executor: Executor
    traces: TraceLog
    listener: Listener
    jobs: int
    keep_going: bool = False
    remote: Remote | None = None
    careful: bool = False
    """Look at every file of every result that is found: the store has lost something."""
    _failed: threading.Event = field(default_factory=threading.Event)
    """Set by the thread in which an action fails, so that the next of its queue is not begun meanwhile."""
    _flights: dict[str, threading.Lock] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _roots: dict[str, Directory] = field(default_factory=dict)
    _slots: threading.Semaphore = field(init=False)
    """Actions that may run at a time: with a remote cache more of them are looked at."""
    _claims: Claims = field(init=False)

    def __post_init__(self) -> None:
        self._slots = threading.Semaphore(self.jobs)
        self._claims = Claims(self.store.home / "running")

    def run(self, graph: ActionGraph, names: Sequence[str], ran: Sequence[str] = ()) -> Run:
        """Run the named actions, which must be closed under dependencies; MissingBlob when something vanished.

        After a failure nothing more is started (unless `keep_going`), and what runs may end: it is kept.
        `ran` is what an earlier attempt has run.
        """
        result = Run(ran=list(ran))
        self._failed.clear()
        wanted = set(names)
        needs = {name: {dep for dep in graph.dependencies(name) if dep in wanted} for name in names}
        dependents: dict[str, list[str]] = {name: [] for name in names}
        for name, deps in needs.items():
            for dep in deps:
                dependents[dep].append(name)
        done: _Done = queue.SimpleQueue()
        ready = [name for name in names if not needs[name]]
        running: dict[str, Future[None]] = {}
        width = max(self.jobs, _QUESTIONS) if self.remote else self.jobs
        with ThreadPoolExecutor(width, "action") as workers, ThreadPoolExecutor(_DOWNLOADS, "fetch") as fetchers:
            try:
                if self.remote:
                    self.remote.foresee(graph.actions[name] for name in names)
                while ready or running:
                    for name in ready:
                        pool = fetchers if graph.actions[name].is_download else workers
                        running[name] = pool.submit(self._perform, graph, name, result, done)
                    ready = []
                    name, outcome = done.get()
                    del running[name]
                    if outcome is None:
                        result.abandoned.add(name)
                        continue
                    try:
                        result.contents[name] = outcome()
                    except ForgeError as error:
                        result.failures[name] = error
                        result.abandoned |= _dependents_of(name, dependents)
                        if not self.keep_going or error.exit_code != 1:
                            result.abandoned |= wanted - result.contents.keys() - result.failures.keys()
                            running = {each: future for each, future in running.items() if not future.cancel()}
                        continue
                    result.abandoned.discard(name)
                    for dependent in dependents[name]:
                        needs[dependent].discard(name)
                        if not needs[dependent] and dependent not in result.abandoned:
                            ready.append(dependent)
            except (KeyboardInterrupt, Interrupted):
                self._claims.stop()
                self.executor.stop()
                raise
            except MissingBlob as error:
                error.ran = tuple(result.ran)
                raise
            finally:
                workers.shutdown(wait=False, cancel_futures=True)
                fetchers.shutdown(wait=False, cancel_futures=True)
        return result

    def _perform(self, graph: ActionGraph, name: str, result: Run, done: _Done) -> None:
        if self._failed.is_set():
            done.put((name, None))
            return
        try:
            contents = self._resolve(graph, name, result)
            done.put((name, lambda: contents))
        except _NotTried:
            done.put((name, None))
        except BaseException as error:
            failure = error
            if not self.keep_going or getattr(error, "exit_code", 1) != 1:
                self._failed.set()
            done.put((name, lambda: _throw(failure)))

    def _resolve(self, graph: ActionGraph, name: str, result: Run) -> Mapping[str, Content]:
        action = graph.actions[name]
        if action.fixed_output is not None:
            with self._flight(action.fixed_output):
                return self._bring(name, action, action.fixed_output, result)
        inputs = {path: self._content(artifact, result) for path, artifact in action.inputs}
        root = self._content(action.root, result) if action.root is not None else None
        if root is not None and not isinstance(root, TreeContent):
            raise InternalError(f"The root of `{name}` is no tree")
        key = action_key(action, inputs, self._root_directory(root))
        with self._flight(key.digest):
            found, is_remote = self._find(action, key.digest), False
            if found is None and self.remote:
                found = self.remote.result(action, key)
                is_remote = found is not None
            if found is None:
                self._ingest(action, inputs)
                with self._slot(action), self._claims.hold(key.digest.hash):
                    found = self._find(action, key.digest)  # another build may have run it meanwhile
                    if found is None:
                        return self._execute(name, action, inputs, root, key, result)
            elif is_remote:
                self.cache.put(key.digest, found)
        self._note_cached(name, action, found, result, key=key, is_remote=is_remote)
        if not self.traces.knows(name, key.digest.hash):
            parts, made = parts_of(action, inputs, root), Digest.of(encode_result(found)).hash
            self.traces.record(name, key.digest.hash, parts, ran=False, reasons=[], made=made)
        return found

    def _bring(self, name: str, action: Action, pin: Pin, result: Run) -> Mapping[str, Content]:
        held, is_remote = self.store.find(pin), False
        if held is not None and self._holds(held):
            is_remote = not self.store.holds(held)
        elif self.remote and isinstance(pin, Hash) and (content := self.remote.pinned(action)) is not None:
            held, is_remote = content.digest, True
        else:
            return self._execute(name, action, {}, None, None, result)
        found = {action.outputs[0]: FileContent(held)}
        self._note_cached(name, action, found, result, is_remote=is_remote)
        return found

    def _note_cached(
        self,
        name: str,
        action: Action,
        found: Mapping[str, Content],
        result: Run,
        *,
        key: ActionKey | None = None,
        is_remote: bool,
    ) -> None:
        result.cached += 1
        if self.remote is None:
            pass
        elif is_remote:
            self.remote.hits.add(name)
        else:
            self.remote.made(action, key, found, ran=False)
        self.listener(ActionFinished(name, action, "cached", remote=is_remote))

    def _find(self, action: Action, key: Digest) -> Mapping[str, Content] | None:
        found = self.cache.get(key, verify=self.careful)
        return found if found is not None and set(found) == set(action.outputs) else None

    def _execute(
        self,
        name: str,
        action: Action,
        inputs: Mapping[str, Content],
        root: TreeContent | None,
        key: ActionKey | None,
        result: Run,
    ) -> Mapping[str, Content]:
        pin = key.digest if key is not None else action.fixed_output
        assert pin is not None
        self.listener(ActionStarted(name, action))
        start = time.monotonic()
        parts = parts_of(action, inputs, root)
        reasons = self.traces.reasons(name, parts)
        try:
            outcome = self.executor.run(
                action, inputs, root, lambda done, total: self.listener(ActionProgress(name, done, total))
            )
        except (ForgeError, MissingBlob) as error:
            log = getattr(error, "log", "")
            self.listener(ActionFinished(name, action, "failed", time.monotonic() - start, log))
            raise
        if key is not None:
            self.cache.put(key.digest, outcome.outputs)
        elif self.store.find(pin) is None:
            raise InternalError(f"`{name}` did not bring {pin}")
        if self.remote:
            self.remote.made(action, key, outcome.outputs, ran=True)
        made = Digest.of(encode_result(outcome.outputs)).hash
        self.traces.record(name, pin.hash, parts, ran=True, reasons=reasons, made=made)
        result.ran.append(name)
        self.listener(ActionFinished(name, action, "ran", time.monotonic() - start, outcome.log))
        return outcome.outputs

    def _content(self, artifact: Artifact, result: Run) -> Content:
        if isinstance(artifact, Source):
            return self.sources.content(artifact)
        return result.contents[artifact.action][artifact.output]

    def _ingest(self, action: Action, inputs: Mapping[str, Content]) -> None:
        for path, artifact in action.inputs:
            content = inputs[path]
            if isinstance(artifact, Source) and isinstance(content, FileContent) and not self._holds(content.digest):
                self.sources.ingest(artifact, content, self.store)

    def _root_directory(self, root: TreeContent | None) -> Directory | None:
        if root is None:
            return None
        known = self._roots.get(root.root.hash)
        if known is not None:
            return known
        # The root folder is the first field of the Tree message; the rest need not be read into values.
        for number, value in wire.fields(self.store.read(root.tree)):
            if number == 1:
                known = self._roots[root.root.hash] = Directory.decode(wire.as_bytes(value))
                return known
        raise MissingBlob(root.tree)

    def _holds(self, digest: Digest) -> bool:
        return self.store.vouches(digest) if self.careful else self.store.contains(digest)

    @contextmanager
    def _slot(self, action: Action) -> Iterator[None]:
        """Wait for a turn to run; _NotTried where something failed meanwhile."""
        with nullcontext() if action.is_download else self._slots:
            if self._failed.is_set():
                raise _NotTried
            yield

    def _flight(self, key: Pin) -> threading.Lock:
        with self._guard:
            return self._flights.setdefault(key.hash, threading.Lock())


def _dependents_of(name: str, dependents: Mapping[str, Sequence[str]]) -> set[str]:
    found: set[str] = set()
    pending = [name]
    while pending:
        for each in dependents[pending.pop()]:
            if each not in found:
                found.add(each)
                pending.append(each)
    return found


def _throw(error: BaseException) -> Mapping[str, Content]:
    raise error

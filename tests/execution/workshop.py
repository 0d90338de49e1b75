"""A workspace, a store and a fake executor: what tests of the scheduler need, wired as the command wires it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from forge.core.action import TOOL, Action
from forge.core.artifact import Artifact, Derived, Source
from forge.core.digest import Digest, Hash
from forge.core.errors import ActionFailed
from forge.core.event import Event
from forge.core.graph import ActionGraph
from forge.core.remote import RemoteCache
from forge.core.tool import Content, FileContent, TreeContent
from forge.core.tree import File, Tree
from forge.execution.action_cache import ActionCache
from forge.execution.builder import Builder
from forge.execution.executor import Executor, Outcome
from forge.execution.remote import Remote
from forge.execution.run import Run
from forge.execution.scheduler import Scheduler
from forge.execution.source import SourceCache
from forge.execution.store import LocalStore
from forge.execution.trace import TraceLog

Hook = Callable[[Action], None]


class FakeExecutor:
    """Makes outputs that are a function of the action's words and inputs, and notes what it ran.

    argv[0] says how: `join` gives the inputs after one another, `count` the number of their bytes,
    `fail` fails; an output that ends with `/` is a folder with a file per input.
    """

    def __init__(self, store: LocalStore) -> None:
        self.store = store
        self.ran: list[str] = []
        self.hook: Hook = lambda action: None
        self.stopped = threading.Event()

    def run(
        self,
        action: Action,
        inputs: Mapping[str, Content],
        root: TreeContent | None,
        progress: Callable[[int, int], None],
    ) -> Outcome:
        self.ran.append(action.description)
        self.hook(action)
        if action.argv[0] == "fail":
            raise ActionFailed("It failed", place=action.description, log="last words")
        texts = {path: self._text(content) for path, content in inputs.items()}
        if action.fixed_output is not None:
            data = action.argv[1].encode()
            assert Digest.of(data).hash == action.fixed_output.hash
            return Outcome({action.outputs[0]: FileContent(self.store.put(data))})
        return Outcome({output: self._make(action, output, texts) for output in action.outputs}, "log")

    def stop(self) -> None:
        self.stopped.set()

    def _text(self, content: Content) -> bytes:
        if isinstance(content, FileContent):
            return self.store.read(content.digest)
        tree = Tree.decode(self.store.read(content.tree))
        return b"".join(name.encode() + self.store.read(file.digest) for name, file in tree.files())

    def _make(self, action: Action, output: str, texts: Mapping[str, bytes]) -> Content:
        if output.endswith("/"):
            tree = Tree.of({path.replace("/", "_"): File(self.store.put(text)) for path, text in texts.items()})
            self.store.put(tree.encoded)
            return TreeContent(tree.digest, tree.root)
        joined = b"".join(texts.values())
        data = str(len(joined)).encode() if action.argv[0] == "count" else " ".join(action.argv).encode() + joined
        return FileContent(self.store.put(data))


class Workshop:
    """A workspace in a folder; each `build` starts from what is on disk, as a new process does."""

    def __init__(self, folder: Path, *, home: Path | None = None) -> None:
        self.root = folder / "workspace"
        self.root.mkdir(parents=True, exist_ok=True)
        self.home = home or folder / "home"
        self.events: list[Event] = []
        self.actions: dict[str, Action] = {}
        self.ran: list[str] = []
        self.executor: Executor | None = None
        self.hook: Hook = lambda action: None
        self.cache: RemoteCache | None = None
        """A remote cache that builds use."""
        self.upload, self.upload_cached = True, False

    @property
    def store(self) -> LocalStore:
        """The store, opened anew."""
        return LocalStore(self.home)

    def write(self, path: str, text: str) -> Source:
        """Write a source."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)
        return Source(path)

    def action(
        self,
        name: str,
        *inputs: Artifact,
        argv: Iterable[str] = ("join",),
        outputs: tuple[str, ...] = ("out",),
        fixed: bytes | None = None,
        sized: bool = True,
        env: Mapping[str, str] | None = None,
        root: Artifact | None = None,
    ) -> Derived:
        """Declare an action; its first output."""
        self.actions[name] = Action(
            argv=tuple(argv) if fixed is None else ("fetch", fixed.decode()),
            env=tuple(sorted((env or {}).items())),
            inputs=tuple(sorted((_place(artifact), artifact) for artifact in inputs)),
            outputs=outputs,
            root=root,
            fixed_output=None if fixed is None else Digest.of(fixed) if sized else Hash(Digest.of(fixed).hash),
            description=name,
        )
        return Derived(name, outputs[0])

    def build(self, *artifacts: Artifact, jobs: int = 1, keep_going: bool = False) -> Run:
        """Build artifacts; `ran` then has what this build ran."""
        store = self.store
        fake = FakeExecutor(store)
        fake.hook = self.hook
        self.ran = fake.ran
        state = self.home / "workspaces"
        sources, traces = SourceCache({"workspace": self.root}, state / "sources"), TraceLog(state / "traces")
        self.traces = traces
        scheduler = Scheduler(
            store=store,
            cache=ActionCache(store),
            sources=sources,
            executor=self.executor or fake,
            traces=traces,
            listener=self.events.append,
            jobs=jobs,
            keep_going=keep_going,
            remote=self._remote(store),
        )
        self.builder = Builder(scheduler, store)
        try:
            return self.builder.build(self.graph, artifacts)
        finally:
            sources.save()
            traces.save()

    def _remote(self, store: LocalStore) -> Remote | None:
        if self.cache is None:
            return None
        return Remote(self.cache, store, self.events.append, upload=self.upload, upload_cached=self.upload_cached)

    @property
    def graph(self) -> ActionGraph:
        """What has been declared."""
        return ActionGraph(dict(self.actions), {}, {})

    def text(self, run: Run, artifact: Artifact) -> bytes:
        """Read a built artifact: a file's bytes, or those of a folder's files with their names."""
        content = self.builder.content(run, artifact)
        assert content is not None
        store = self.builder.store
        if isinstance(content, FileContent):
            return store.read(content.digest)
        tree = Tree.decode(store.read(content.tree))
        return b"".join(name.encode() + store.read(file.digest) for name, file in tree.files())


def tool_action(name: str, params: Mapping[str, object], outputs: tuple[str, ...]) -> Action:
    """Make an action of a tool of forge's own."""
    return Action((TOOL, name, "1", json.dumps(params, sort_keys=True)), outputs=outputs, description=name)


def sha256(data: bytes) -> str:
    """Hash without forge."""
    return hashlib.sha256(data).hexdigest()


def _place(artifact: Artifact) -> str:
    if isinstance(artifact, Source):
        return artifact.path
    return f"{artifact.action}/{artifact.output}".rstrip("/")

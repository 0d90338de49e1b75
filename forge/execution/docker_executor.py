"""Runs actions in containers, where this machine has no namespaces to give: macOS, or CI that is a container itself.

What a command sees is what it sees in the sandbox, but for what every engine adds: /.dockerenv, and in /etc `hosts`,
`hostname`, `mtab` and `resolv.conf`, which tell nothing of this machine. So its action has the same key. The engine may
be elsewhere: trees go there once, as images; inputs and outputs go as archives.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from forge.core.action import OUT, WORK, Action
from forge.core.errors import ActionFailed, HostError, InternalError, Interrupted
from forge.core.tool import Content, TreeContent
from forge.execution.archive import pack_inputs, pack_root, unpack_left, unpack_outputs
from forge.execution.container import (
    KEPT_LABEL,
    OWNER_LABEL,
    Container,
    ContainerEngine,
    is_left,
    labels_of,
    owner_of,
)
from forge.execution.executor import LOG_BYTES, LocalExecutor, Outcome, failure_of, named
from forge.execution.sandbox import UID
from forge.execution.store import LocalStore

IMAGE: Final = "image"
"""Input that is the image to run in, of an action that has the property CONTAINER: its layout is not seen inside."""
CONTAINER: Final = ("container", "1")
"""Property of an action that runs in a container of a real image, and of the version of what that means."""

ROOTS: Final = "forge-root"
"""Repository of the images that are trees."""
TESTED: Final = "forge-test"
"""Repository of the images that tests run in."""
_GRACE: Final = 3600
"""Seconds after its action's time that a container may be there, whoever made it."""
_OWN: Final = (f"/{WORK}", f"/{WORK}/{OUT}", "/tmp")


@dataclass(slots=True)
class DockerExecutor:
    """Runs commands in containers, and forge's own tools in its process."""

    local: LocalExecutor
    connect: Callable[[], ContainerEngine]
    """Finds the engine when it is first needed."""
    load: Callable[[TreeContent], str]
    """Puts an image's layout into the engine; the name that it has there."""
    everything: bool = True
    """Whether commands run here that need no image of their own; else they run in the sandbox."""
    _engine: ContainerEngine | None = None
    _running: set[str] = field(default_factory=set)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _loading: threading.Lock = field(default_factory=threading.Lock)
    _images: dict[str, str] = field(default_factory=dict)
    """Root or layout -> the image that the engine is known to have of it."""

    def run(
        self,
        action: Action,
        inputs: Mapping[str, Content],
        root: TreeContent | None,
        progress: Callable[[int, int], None],
    ) -> Outcome:
        """Run it in a container, or by a tool."""
        if action.tool or not (self.everything or CONTAINER in action.properties):
            return self.local.run(action, inputs, root, progress)
        with named(action):
            engine = self._connected()
            if CONTAINER in action.properties:
                layout = inputs[IMAGE]
                if not isinstance(layout, TreeContent):
                    raise InternalError(f"`{action.owner}` runs in an image that is no layout")
                rest = {path: content for path, content in inputs.items() if path != IMAGE}
                return self._run(engine, action, rest, self._image(layout, self.load), user="")
            if root is None:
                raise InternalError(f"`{action.owner}` runs a command without an environment")
            image = self._image(root, lambda root: root_image(engine, self.local.store, root))
            return self._run(engine, action, inputs, image, user=f"{UID}:{UID}")

    def stop(self) -> None:
        """End every container, and start no more."""
        self.local.stop()
        with self._guard:
            running = list(self._running)
        for name in running:
            with suppress(HostError):
                assert self._engine is not None
                self._engine.kill(name)

    def _run(
        self, engine: ContainerEngine, action: Action, inputs: Mapping[str, Content], image: str, *, user: str
    ) -> Outcome:
        """Run a command: a container that is never started owns the folders, so that one sees its inputs read-only."""
        store = self.local.store
        labels = labels_of(str(store.home), Path(store.scratch.folder).name, int(time.time()) + action.timeout + _GRACE)
        log = _Tail()
        with self._container(engine, Container(image, labels=labels, volumes=_OWN, read_only=False)) as owner:
            engine.put(owner, pack_inputs(store, inputs, action.outputs, any_user=not user))
            volumes = engine.volumes(owner)
            mounts = tuple((volumes[path], path, path != f"/{WORK}") for path in _OWN)
            env = {"PWD": f"/{WORK}", **dict(action.env)}  # as the sandbox sets it
            box = Container(image, action.argv, env, user, f"/{WORK}", labels, mounts=mounts)
            if self.local.debug:
                box = replace(box, labels={**labels, KEPT_LABEL: "1"})
            with self._container(engine, box) as name:
                code = engine.run(name, action.timeout, log)
                if self.local.processes.stopped:
                    raise Interrupted("The build was stopped")
                if code == 0:
                    found = unpack_outputs(store, lambda: engine.take(name, f"/{WORK}/{OUT}"), action.outputs)
                    return Outcome(found, log.text)
                failure = failure_of(store, action, code, log.text, self._hint(name))
                if isinstance(failure, ActionFailed) and code is not None:
                    failure.left = unpack_left(engine.take(name, f"/{WORK}/{OUT}"), action.outputs)
                raise failure

    def _image(self, content: TreeContent, bring: Callable[[TreeContent], str]) -> str:
        with self._loading:
            if content.root.hash not in self._images:
                self._images[content.root.hash] = bring(content)
            return self._images[content.root.hash]

    @contextmanager
    def _container(self, engine: ContainerEngine, container: Container) -> Iterator[str]:
        """Make a container that is gone afterwards; Interrupted once the build is stopped."""
        name = engine.create(container)
        try:
            with self._guard:
                self._running.add(name)
            if self.local.processes.stopped:
                raise Interrupted("The build was stopped")
            yield name
        except ActionFailed:
            if KEPT_LABEL in container.labels:
                name = ""
            raise
        finally:
            with self._guard:
                self._running.discard(name)
            if name:
                engine.remove(name)

    def _hint(self, name: str) -> str:
        return f"Repeat it with: docker start --attach {name[:12]}" if self.local.debug else ""

    def _connected(self) -> ContainerEngine:
        with self._guard:
            if self._engine is None:
                self._engine = self.connect()
                sweep(self._engine, self.local.store)
            return self._engine


def root_image(engine: ContainerEngine, store: LocalStore, root: TreeContent) -> str:
    """Name the image that is a tree, which the engine is given if it lacks that."""
    name = f"{ROOTS}:{root.root.hash}"
    if not engine.has_image(name):
        engine.import_image(name, pack_root(store, root))
    return name


def sweep(engine: ContainerEngine, store: LocalStore) -> int:
    """Remove the containers of builds that are gone; how many those were."""
    own = Path(store.scratch.folder)  # making it removes the folders of sessions that are over
    living = os.listdir(own.parent)
    left = [name for name, labels in engine.containers() if is_left(labels, str(store.home), living, time.time())]
    for name in left:
        engine.remove(name)
    return len(left)


def prune(engine: ContainerEngine, store: LocalStore) -> tuple[int, int]:
    """Remove forge's own images, and containers that were left; how many images went, and how many are in use."""
    sweep(engine, store)
    for name, labels in engine.containers():
        if KEPT_LABEL in labels and labels.get(OWNER_LABEL) == owner_of(str(store.home)):
            engine.remove(name)
    names = [*engine.images(ROOTS), *engine.images(TESTED)]
    removed = sum(engine.remove_image(name) for name in names)
    return removed, len(names) - removed


class _Tail:
    """Keeps the end of what is printed."""

    def __init__(self) -> None:
        self._data = bytearray()

    def __call__(self, chunk: bytes) -> None:
        self._data += chunk
        if len(self._data) > 2 * LOG_BYTES:
            del self._data[:-LOG_BYTES]

    @property
    def text(self) -> str:
        """What was kept."""
        return self._data[-LOG_BYTES:].decode(errors="replace")

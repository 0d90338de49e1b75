"""A build: runs what is asked for, and begins again where the store turns out to have lost something."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from forge.core.artifact import Artifact, Derived
from forge.core.digest import Digest
from forge.core.errors import InternalError
from forge.core.event import Plan, Warned
from forge.core.graph import ActionGraph
from forge.core.tool import Content, FileContent
from forge.core.tree import Tree
from forge.execution.run import Run
from forge.execution.scheduler import Scheduler
from forge.execution.store import LocalStore, MissingBlob

_ATTEMPTS = 20


@dataclass(slots=True)
class Builder:
    """Builds artifacts of an action graph."""

    scheduler: Scheduler
    store: LocalStore

    def build(self, graph: ActionGraph, artifacts: Iterable[Artifact], unread: Collection[Artifact] = ()) -> Run:
        """Run the actions that the artifacts need, and verify what they came to.

        Of those that nobody reads when it is done (`unread`), what lies in a remote cache may stay there.

        A blob that is gone or damaged makes its action run again: everything that was finished is
        cached, so beginning again costs little. What goes to a remote cache is there when it returns.
        """
        remote = self.scheduler.remote
        try:
            run = self._build(graph, artifacts, unread)
            if remote is not None:
                run.remote = frozenset(remote.hits) - frozenset(run.ran)
                remote.finish()
            return run
        except BaseException:
            if remote is not None:
                remote.stop()
            raise

    def _build(self, graph: ActionGraph, artifacts: Iterable[Artifact], unread: Collection[Artifact]) -> Run:
        wanted = list(artifacts)
        names = graph.closure(wanted)
        ran: Sequence[str] = ()
        for _ in range(_ATTEMPTS):
            self.scheduler.listener(Plan(len(names)))
            try:
                run = self.scheduler.run(graph, names, ran)
                ran = run.ran
                self._verify(run, wanted, unread)
            except MissingBlob as error:
                how = "was damaged" if error.corrupt else "is gone"
                where = "remote cache" if error.promised else "store"
                self.scheduler.listener(Warned(f"`{error.digest.short}` of the {where} {how}: making it again"))
                self.scheduler.cache.forget_presence()
                if error.promised and self.scheduler.remote is not None:
                    self.scheduler.remote.disappoint()
                self.scheduler.careful = True
                ran = error.ran or ran
                continue
            run.ran[:] = dict.fromkeys(run.ran)
            return run
        raise InternalError("The store keeps losing what is written to it")

    def content(self, run: Run, artifact: Artifact) -> Content | None:
        """Look up what an artifact came to; None when its action failed or was not tried."""
        if isinstance(artifact, Derived):
            return run.contents.get(artifact.action, {}).get(artifact.output)
        return self.scheduler.sources.content(artifact)

    def _verify(self, run: Run, artifacts: Sequence[Artifact], unread: Collection[Artifact]) -> None:
        digests: list[Digest] = []
        for artifact in artifacts:
            content = self.content(run, artifact)
            if content is None or not isinstance(artifact, Derived):
                continue
            if isinstance(content, FileContent):
                found = [content.digest]
            else:
                found = [file.digest for _, file in Tree.decode(self.store.read(content.tree)).files()]
            may_stay = artifact in unread
            digests += [digest for digest in found if not (may_stay and self.store.vouches(digest))]
        self.store.expect(digests)
        for digest in digests:
            self.store.verify(digest)


def failed_labels(run: Run, graph: ActionGraph, outputs: Mapping[object, Iterable[Artifact]]) -> set[object]:
    """Tell which of some targets lack an output."""
    bad = set(run.failures) | run.abandoned
    return {
        key
        for key, artifacts in outputs.items()
        if any(name in bad or name not in run.contents for name in graph.closure(artifacts))
    }

"""A build's remote cache: results that other machines made, and those that this one gives them.

The key of an action is the digest of its Action message, so results lie in the remote cache as those of any client of
the Remote Execution API do. A result counts once its Tree messages are here and are what it says; files come when
somebody reads them (`origin`). Whatever goes wrong, the build goes on as if it had no remote cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from forge.core.action import OUT, Action, ActionKey, action_key
from forge.core.digest import Digest, Hash
from forge.core.event import Listener, Transferred
from forge.core.remote import RemoteCache
from forge.core.tool import Content, FileContent, TreeContent
from forge.core.tree import Tree
from forge.execution.action_cache import decode_result, encode_result
from forge.execution.breaker import Breaker
from forge.execution.origin import RemoteOrigin
from forge.execution.store import LocalStore
from forge.execution.upload import Parcel, Uploads, parcel_of

_DISAPPOINTMENTS = 4
"""How often a build may begin anew because of the remote cache."""


class Remote:
    """One build's use of a remote cache; safe to share between threads."""

    def __init__(
        self,
        cache: RemoteCache,
        store: LocalStore,
        listener: Listener,
        *,
        upload: bool = True,
        upload_cached: bool = False,
    ) -> None:
        self._cache, self._store = cache, store
        self._upload, self._upload_cached = upload, upload_cached
        self._breaker = Breaker(cache, listener)
        self._origin = RemoteOrigin(
            store, self._breaker, lambda done, total: listener(Transferred("Download", cache.name, done, total))
        )
        self._uploads = Uploads(
            store,
            self._breaker,
            self._origin,
            lambda done, total: listener(Transferred("Upload", cache.name, done, total)),
        )
        store.origin = self._origin
        self._disappointments = 0
        self.hits: set[str] = set()
        """Names of the actions whose results came from there: the scheduler notes them."""

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes of blobs that came, and that went."""
        return self._origin.brought, self._uploads.sent

    def foresee(self, actions: Iterable[Action]) -> None:
        """Ask about what actions bring whose outcome is known beforehand, all at once."""
        pins = [action.fixed_output for action in actions]
        wanted = {pin for pin in pins if isinstance(pin, Digest) and self._store.find(pin) is None}
        if wanted:
            self._origin.promise(wanted - self._origin.lacks(wanted, ask=True))

    def result(self, action: Action, key: ActionKey) -> dict[str, Content] | None:
        """Look an action up; None unless all that it made is here or promised."""
        message = self._breaker.ask(lambda cache: cache.result(key.digest), None)
        if message is None:
            return None
        try:
            outputs = _decoded(action, message)
            blobs = self._blobs(outputs)
        except (KeyError, ValueError) as error:
            if not self._breaker.is_open:
                self._breaker.tell("torn", f"has a result that cannot be used ({error}): the action runs here")
            return None
        can_ask = self._breaker.ask(lambda cache: cache.batch, 0) > 0
        if self._origin.lacks(blobs, ask=can_ask) or self._breaker.is_open:
            return None
        self._origin.promise(blobs)
        return outputs

    def pinned(self, action: Action) -> FileContent | None:
        """Look up what an action brings of which only the hash is known beforehand, not the size."""
        found = self.result(action, action_key(action, {}, None))
        content = next(iter(found.values())) if found else None
        pin = action.fixed_output
        return content if isinstance(content, FileContent) and pin and content.digest.hash == pin.hash else None

    def made(self, action: Action, key: ActionKey | None, outputs: Mapping[str, Content], *, ran: bool) -> None:
        """Give others what an action came to here; what was cached, only where that is asked for."""
        if not self._upload or not (ran or self._upload_cached):
            return
        if action.fixed_output is not None and not isinstance(action.fixed_output, Hash):
            self._uploads.add(Parcel(blobs=(action.fixed_output,)))
            return
        key = key or action_key(action, {}, None)
        self._uploads.add(parcel_of(key, encode_result(_placed(outputs)), outputs, if_absent=not ran))

    def disappoint(self) -> None:
        """Take note of a build that began anew because of a promise that was not kept; too often is too often."""
        self._disappointments += 1
        if self._disappointments == _DISAPPOINTMENTS:
            self._breaker.give_up(f"did not give what it had promised, {_DISAPPOINTMENTS} times")

    def finish(self) -> None:
        """Wait until all is sent that goes to others, and hang up."""
        self._uploads.finish()
        self._cache.close()

    def stop(self) -> None:
        """Hang up, whatever is on its way."""
        self._uploads.stop()
        self._cache.close()

    def _blobs(self, outputs: Mapping[str, Content]) -> set[Digest]:
        """List all blobs of outputs, having read their trees; ValueError where these are not what the result says."""
        found = set()
        for content in outputs.values():
            if isinstance(content, FileContent):
                found.add(content.digest)
                continue
            if not self._store.holds(content.tree) and not self._origin.bring(content.tree):
                raise ValueError(f"`{content.tree.short}`, a tree, is not there")
            tree = Tree.decode(self._store.read(content.tree))
            if tree.root != content.root:
                raise ValueError(f"`{content.tree.short}` is the tree of another folder")
            found |= {content.tree, *(file.digest for _, file in tree.files())}
        return found


def _placed(outputs: Mapping[str, Content]) -> dict[str, Content]:
    """Name outputs as the API does: relative to the folder that the action starts in, folders without a slash."""
    return {f"{OUT}/{path.rstrip('/')}": content for path, content in outputs.items()}


def _decoded(action: Action, message: bytes) -> dict[str, Content]:
    """Read a result; ValueError unless it has each output of the action, of its kind, and nothing else."""
    found = decode_result(message)
    names = {f"{OUT}/{path.rstrip('/')}": path for path in action.outputs}
    if found.keys() != names.keys():
        raise ValueError("it has other outputs")
    outputs = {names[path]: content for path, content in found.items()}
    if any(isinstance(content, TreeContent) != path.endswith("/") for path, content in outputs.items()):
        raise ValueError("it has a file for a folder, or a folder for a file")
    return outputs

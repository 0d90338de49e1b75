"""Runs one action: in the sandbox, or by one of forge's own tools."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from forge.core.action import OUT, WORK, Action
from forge.core.digest import Digest
from forge.core.errors import ActionFailed, Fault, ForgeError, InternalError, Interrupted, MaterialError
from forge.core.tool import Content, FileContent, Tool, ToolRequest, TreeContent
from forge.execution.collect import collect, left_files
from forge.execution.home import free_bytes, host_error, host_errors
from forge.execution.materialize import materialize
from forge.execution.process import ProcessGroup
from forge.execution.sandbox import Sandbox, refused
from forge.execution.scratch import remove
from forge.execution.store import LocalStore, MissingBlob

_LOG_LINES = 20
LOG_BYTES = 1 << 18
"""How much of what an action prints is kept."""
_FULL = 1 << 16
"""Bytes: where fewer are free, an action failed for want of them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an action brought."""

    outputs: Mapping[str, Content]
    log: str = ""


class Executor(Protocol):
    """Runs one action whose inputs are in the store."""

    def run(
        self,
        action: Action,
        inputs: Mapping[str, Content],
        root: TreeContent | None,
        progress: Callable[[int, int], None],
    ) -> Outcome:
        """Run it; ActionFailed, MaterialError, HostError or MissingBlob when that does not work out."""

    def stop(self) -> None:
        """End what runs, and start no more."""


@dataclass(slots=True)
class LocalExecutor:
    """Runs actions on this machine."""

    store: LocalStore
    tools: Mapping[str, Tool]
    bwrap: Callable[[], str]
    """Finds bubblewrap when it is first needed."""
    debug: bool = False
    """Leave the folders of failed actions."""
    processes: ProcessGroup = field(default_factory=ProcessGroup)

    def run(
        self,
        action: Action,
        inputs: Mapping[str, Content],
        root: TreeContent | None,
        progress: Callable[[int, int], None],
    ) -> Outcome:
        """Run it in the sandbox, or by a tool."""
        with named(action):
            if action.tool:
                return self._run_tool(action, inputs, progress)
            return self._run_command(action, inputs, root)

    def stop(self) -> None:
        """End every process; a tool ends when it next tells how far it is."""
        self.processes.stop()

    def _run_tool(self, action: Action, inputs: Mapping[str, Content], progress: Callable[[int, int], None]) -> Outcome:
        _, name, _, params = action.argv
        request_params = json.loads(params)
        if action.fixed_output is not None:
            request_params["sha256"] = action.fixed_output.hash
            if isinstance(action.fixed_output, Digest):
                request_params["size"] = action.fixed_output.size
        if name == "write":
            request_params["output"] = action.outputs[0]

        def tell(done: int, total: int) -> None:
            if self.processes.stopped:
                raise Interrupted("The build was stopped")
            progress(done, total)

        lost = len(self.store.lost)
        request = ToolRequest(request_params, dict(sorted(inputs.items())), self.store, tell)
        try:
            outputs = self.tools[name](request)
        except (ActionFailed, MaterialError) as error:
            if len(self.store.lost) > lost:
                raise self.store.lost[-1] from error
            raise
        if len(outputs) == len(action.outputs) == 1:
            outputs = dict(zip(action.outputs, outputs.values(), strict=True))
        renamed = {output: outputs.get(output, outputs.get(output.rstrip("/"))) for output in action.outputs}
        missing = [output for output, content in renamed.items() if content is None]
        if missing:
            raise InternalError(f"Tool `{name}` did not make [{', '.join(missing)}]")
        return Outcome({output: content for output, content in renamed.items() if content is not None})

    def _run_command(self, action: Action, inputs: Mapping[str, Content], root: TreeContent | None) -> Outcome:
        if root is None:
            raise InternalError(f"`{action.owner}` runs a command without an environment")
        bwrap = self.bwrap()
        rootfs = materialize(self.store, root)
        base = self._base()
        keep = False
        try:
            sandbox = self._stage(base, rootfs, action, inputs)
            line = sandbox.command(bwrap, action.argv)
            with host_errors(base):
                code, began = self.processes.run_sandbox(line, log=base / "log", timeout=action.timeout)
                log = _tail(base / "log")
            if code is not None and code > 0 and not began:
                self._check_trees(sandbox, root)
                if error := refused(log, code):
                    raise error
            if code != 0:
                keep = self.debug
                hint = f"Repeat it with: {shlex.join(line)}" if keep else ""
                failure = failure_of(self.store, action, code, log, hint)
                if isinstance(failure, ActionFailed) and code is not None:
                    failure.left = left_files(base / OUT, action.outputs)
                raise failure
            return Outcome(collect(self.store, str(base / OUT), action.outputs), log)
        finally:
            if not keep:
                remove(base)

    def _stage(self, base: Path, rootfs: Path, action: Action, inputs: Mapping[str, Content]) -> Sandbox:
        work, out, tmp = base / WORK, base / OUT, base / "tmp"
        with host_errors(base):
            for folder in (work, out, tmp, work / OUT):
                folder.mkdir(mode=0o755)
                folder.chmod(0o755)
            tmp.chmod(0o1777)
            binds: dict[str, Path] = {}
            for path, content in inputs.items():
                target = work / path
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, FileContent):
                    self.store.link(content.digest, target, executable=content.executable)
                else:
                    target.mkdir()
                    binds[path] = materialize(self.store, content)
            for output in action.outputs:
                folder = out / output if output.endswith("/") else (out / output).parent
                folder.mkdir(parents=True, exist_ok=True)
            for top in (work, out):
                for parent, _, _ in os.walk(top):
                    os.chmod(parent, 0o755)
        return Sandbox(rootfs, work, out, tmp, dict(action.env), binds)

    def _base(self) -> Path:
        """Make the folder of one action; one that may have to be looked at later outlives this process."""
        if not self.debug:
            return self.store.scratch.subfolder()
        with host_errors(self.store.home / "sandbox"):
            return Path(tempfile.mkdtemp(dir=self.store.home / "sandbox"))

    def _check_trees(self, sandbox: Sandbox, root: TreeContent) -> None:
        """Tell a tree that another build has just put away from a machine that refuses; MissingBlob for the former."""
        if not all(folder.is_dir() for folder in (sandbox.root, *sandbox.binds.values())):
            self.store.intact.clear()
            raise MissingBlob(root.tree)


__all__ = ["Executor", "LocalExecutor", "Outcome", "failure_of", "named", "remove"]


@contextmanager
def named(action: Action) -> Iterator[None]:
    """Say of what fails inside which action that was."""
    try:
        yield
    except ActionFailed as error:
        first = error.faults[0]
        said = action.description or action.mnemonic
        text = first.text if str(action.owner) in said else f"{said}: {first.text}"
        fault = Fault(f"{action.mnemonic} failed: {text}", str(action.owner), first.hint)
        failed = ActionFailed(fault, *error.faults[1:], log=error.log)
        failed.left = error.left
        raise failed from error


def failure_of(store: LocalStore, action: Action, code: int | None, log: str, hint: str = "") -> ForgeError:
    """Say why a command failed: its exit code, None where its time was up, or a full disk here."""
    if free_bytes(store.home) < _FULL:
        return host_error(OSError(errno.ENOSPC, ""), store.home)
    how = f"no end after {action.timeout} s"
    if code is not None:
        how = f"exit code {code}" if 0 < code <= 128 else _signal(code)
    tail = "\n".join(log.splitlines()[-_LOG_LINES:])
    return ActionFailed(how, hint=hint or "See its folder and command with `--sandbox_debug`", log=tail)


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG_BYTES))
        return file.read().decode(errors="replace")


def _signal(code: int) -> str:
    number = -code if code < 0 else code - 128
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"exit code {code}"

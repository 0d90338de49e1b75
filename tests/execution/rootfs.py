"""A sandbox root out of this very interpreter and the libraries it needs, and a way to run scripts in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from forge.core.action import Action
from forge.core.tool import Content, FileContent, TreeContent
from forge.core.tree import Entry, File, Folder, Tree
from forge.execution.executor import LocalExecutor, Outcome
from forge.execution.materialize import materialize
from forge.execution.sandbox import Sandbox, find_bwrap
from forge.execution.store import LocalStore

PYTHON = os.path.realpath(sys.executable)
_STANDARD = Path(sysconfig.get_path("stdlib"))


def python_root(store: LocalStore) -> TreeContent:
    """Put a root with Python, as much of it as `python -I -S` needs, and nothing else into the store."""
    files = [Path(PYTHON), _STANDARD / "os.py", *(_STANDARD / "encodings").glob("*.py")]
    extensions = [*(_STANDARD / "lib-dynload").glob("_socket.*")]
    for binary in (Path(PYTHON), *extensions):
        found = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
        files += [Path(path) for path in re.findall(r"(/\S+) \(0x", found)]
    entries: dict[str, Entry] = {name: Folder() for name in ("build", "dev", "proc", "tmp")}
    entries[f"{_STANDARD}/lib-dynload".lstrip("/")] = Folder()
    for file in {*files, *extensions}:
        digest = store.put(file.read_bytes())
        entries[str(file).lstrip("/")] = File(digest, os.access(file, os.X_OK))
    tree = Tree.of(entries)
    store.put(tree.encoded)
    return TreeContent(tree.digest, tree.root)


@dataclass
class Shell:
    """Runs scripts of this Python in the sandbox."""

    store: LocalStore
    root: TreeContent
    bwrap: str = ""
    timeout: int = 20

    @property
    def executor(self) -> LocalExecutor:
        """A new executor."""
        return LocalExecutor(self.store, {}, lambda: self.bwrap or find_bwrap(os.environ))

    def action(self, script: str, outputs: tuple[str, ...] = ("text",), env: Mapping[str, str] | None = None) -> Action:
        """An action that runs a script."""
        argv = (PYTHON, "-I", "-S", "-c", "import posix, sys\n" + script)
        return Action(argv, tuple((env or {}).items()), outputs=outputs, timeout=self.timeout)

    def run(
        self,
        script: str,
        inputs: Mapping[str, Content] | None = None,
        outputs: tuple[str, ...] = ("text",),
        env: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run a script."""
        return self.executor.run(self.action(script, outputs, env), inputs or {}, self.root, lambda done, total: None)

    def say(
        self, expression: str, inputs: Mapping[str, Content] | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        """Evaluate an expression, after statements if need be; what it comes to, as text."""
        *statements, last = expression.rsplit("\n", 1)
        script = "\n".join([*statements, f"open('out/text', 'w').write(str({last}))"])
        content = self.run(script, inputs, env=env).outputs["text"]
        assert isinstance(content, FileContent)
        return self.store.read(content.digest).decode()


def sandbox_command(shell: Shell, script: str, folder: Path, *, network: bool = False) -> list[str]:
    """Write the command line of a sandbox by hand."""
    for name in ("build", "build/out", "out", "tmp"):
        (folder / name).mkdir()
    root = materialize(shell.store, shell.root)
    box = Sandbox(root, folder / "build", folder / "out", folder / "tmp", {}, network=network)
    return box.command(find_bwrap(os.environ), [PYTHON, "-I", "-S", "-c", f"import posix\n{script}"])

"""Byte code beside Python modules: a service that compiles what it imports starts later, each time."""

from __future__ import annotations

from forge.analysis.context import Context
from forge.core.artifact import Artifact, Source
from forge.core.provider import EnvironmentInfo

_SCRIPT = Source("actions/compile_python.py", "rules")


def with_byte_code(
    context: Context, compiler: EnvironmentInfo | None, tree: Artifact, place: str, what: str
) -> Artifact:
    """Add to a tree, which will lie at `place`, its modules' byte code; without a compiler it stays as it is."""
    if compiler is None:
        return tree
    (made,) = context.run(
        ["/usr/bin/python3", "-I", "compile_python.py", f"/{place}"],
        environment=compiler,
        inputs={"compile_python.py": _SCRIPT, "tree": tree},
        outputs=["tree/"],
        mnemonic="Compile",
        description=f"Compile {what} {context.label}",
    )
    (merged,) = context.tool(
        "root",
        {"conflicts": "replace", "name": f"{context.label} ({what})"},
        inputs={"0000": tree, "0001": made},
        outputs=["tree/"],
        description=f"Merge byte code {what} {context.label}",
    )
    return merged

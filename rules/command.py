"""`command`: any argv in any locked environment."""

from __future__ import annotations

from forge.api import (
    Annotated,
    Artifact,
    Attributes,
    Context,
    EnvironmentInfo,
    Field,
    ForExecution,
    Label,
    Provider,
    SourceFiles,
    TargetLabel,
    location,
    rule,
)

_BUSYBOX = Label("toolchains", "busybox")


class Attrs(Attributes):
    """Attributes of `command`."""

    srcs: SourceFiles = ()
    """Files of the package; `$SRCS`."""
    deps: tuple[TargetLabel, ...] = ()
    """Targets whose outputs it reads; `$DEPS`."""
    environment: Annotated[TargetLabel, ForExecution()] = _BUSYBOX
    """Locked environment that it runs in."""
    argv: tuple[str, ...] = ()
    """Program and arguments; the words `$SRCS`, `$DEPS` become one word a file, `$OUT` is filled in anywhere."""
    shell: str = ""
    """Or a script for the environment's `/bin/sh`, with `$SRCS`, `$DEPS` and `$OUT` set."""
    outs: tuple[str, ...] = Field(min_length=1)
    """What it makes; a name that ends with `/` is a folder. `$OUT` is the only one, or the folder of several."""
    env: dict[str, str] = Field(default_factory=dict)
    """More environment variables."""
    timeout: int = Field(default=3600, gt=0)
    """Seconds."""


@rule("command", Attrs)
def analyze(context: Context, attrs: Attrs) -> Provider:
    """Ask for the one action."""
    if bool(attrs.argv) == bool(attrs.shell):
        raise context.error(f"`{context.label}` needs `argv` or `shell`, and not both")
    for out in attrs.outs:
        if not {"", ".", ".."}.isdisjoint(out.removesuffix("/").split("/")) or "\0" in out:
            raise context.error(f"`{out}` of `{context.label}` cannot be an output: it must lie below the package")
    inputs: dict[str, Artifact] = {location(source): source for source in attrs.srcs}
    sources = list(inputs)
    needed = []
    for label in attrs.deps:
        for provider in context.deps(label, Provider):
            for artifact in provider.files.values():
                path = location(artifact)
                inputs[path] = artifact
                needed.append(path)
    out = f"out/{attrs.outs[0]}".rstrip("/") if len(attrs.outs) == 1 else "out"
    variables = {"SRCS": " ".join(sources), "DEPS": " ".join(needed), "OUT": out}
    words = ("/bin/sh", "-euc", attrs.shell) if attrs.shell else _words(attrs.argv, sources, needed, out)
    made = context.run(
        words,
        environment=context.dep(attrs.environment, EnvironmentInfo),
        inputs=inputs,
        outputs=attrs.outs,
        env={**(variables if attrs.shell else {}), **attrs.env},
        description=context.target.description,
        timeout=attrs.timeout,
    )
    return Provider({out.rstrip("/"): artifact for out, artifact in zip(attrs.outs, made, strict=True)})


def _words(argv: tuple[str, ...], sources: list[str], needed: list[str], out: str) -> tuple[str, ...]:
    words: list[str] = []
    for word in argv:
        if word == "$SRCS":
            words.extend(sources)
        elif word == "$DEPS":
            words.extend(needed)
        else:
            words.append(word.replace("$OUT", out))
    return tuple(words)

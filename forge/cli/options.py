"""Options that several commands take; `_` and `-` are alike in their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from forge.core.errors import LoadError, UsageError
from forge.core.label import Label
from forge.loading.workspace import Workspace
from forge.remote.address import TIMEOUT_S, RemoteSettings, parse_headers

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT = {
    "token_normalize_func": lambda token: token.replace("_", "-"),
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}

_BUILD = [
    click.option("--jobs", "-j", type=click.IntRange(0), help="Actions at a time [default: one per processor]."),
    click.option("--keep-going/--nokeep-going", "-k", default=None, help="Go on with what does not need what failed."),
    click.option(
        "--executor", type=click.Choice(["local", "docker"]), default=None, help="Where commands run [default: local]."
    ),
    click.option("--offline/--nooffline", default=None, help="Download nothing."),
    click.option("--override", multiple=True, metavar="//A=//B", help="Put target B wherever A is a dependency."),
    click.option("--assembler", type=click.Choice(["embedded", "buildx"]), default=None, help="Who assembles images."),
    click.option("--builder", metavar="NAME", help="Builder of buildx."),
    click.option("--cache-from", multiple=True, metavar="CACHE", help="Cache that buildx reads, such as `type=gha`."),
    click.option("--cache-to", multiple=True, metavar="CACHE", help="Cache that buildx writes."),
    click.option("--remote-cache", metavar="URL", help="Remote cache: http(s)://host/prefix, or grpc(s)://host:port."),
    click.option("--remote-header", multiple=True, metavar="NAME=VALUE", help="Header for it, such as a token."),
    click.option(
        "--remote-upload-local-results/--noremote-upload-local-results",
        default=None,
        help="Give it what runs here [default: yes].",
    ),
    click.option(
        "--remote-upload-cached-results/--noremote-upload-cached-results",
        default=None,
        help="Give it also what is cached here and not there [default: no].",
    ),
    click.option("--remote-timeout", type=click.FloatRange(0.1), metavar="SECONDS", help="For a call to it."),
    click.option("--remote-instance-name", metavar="NAME", help="Instance name of the Remote Execution API."),
    click.option(
        "--sandbox-debug/--nosandbox-debug", default=None, help="Keep a failed action's folder, show its command."
    ),
    click.option(
        "--noblock-for-lock", is_flag=True, default=None, help="Give up (exit 9) instead of waiting for another build."
    ),
    click.option("--config", metavar="NAME", help="Take flags from [build.NAME] of WORKSPACE.toml too."),
    click.option(
        "--progress", type=click.Choice(["auto", "tty", "plain", "quiet"]), default=None, help="How to show progress."
    ),
    click.option("--color", type=click.Choice(["auto", "yes", "no"]), default=None, help="NO_COLOR is honoured too."),
    click.option(
        "--build-event-json-file", type=click.Path(dir_okay=False), help="Write what happens, a JSON object a line."
    ),
    click.option("--profile", type=click.Path(dir_okay=False), help="Write where the time went, as a Chrome trace."),
    click.option(
        "--output", type=click.Choice(["text", "json"]), default=None, help="Form of the result on standard output."
    ),
]


def build_options(function: F) -> F:
    """Add the options of everything that builds."""
    for option in reversed(_BUILD):
        function = option(function)
    return function


def merged(given: Mapping[str, Any], workspace: Workspace) -> dict[str, Any]:
    """Fill flags that were not given: environment `FORGE_*`, then `[build.NAME]`, `[build]`, `[remote]`.

    Raises UsageError for a setting that is no flag, or a configuration that is not there.
    """
    table = workspace.build
    name = given.get("config") or os.environ.get("FORGE_CONFIG")
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if name is not None and not isinstance(table.get(name), dict):
        raise UsageError(f"WORKSPACE.toml has no [build.{name}]", hint="Add it, or leave `--config` out")
    settings = {**plain, **(table.get(name, {}) if name else {})}
    for key in settings:
        if key.replace("-", "_") not in given:
            raise LoadError(f"Unknown flag `{key}` in [build]", place="WORKSPACE.toml")
    remote = {f"remote_{key}": value for key, value in workspace.remote.model_dump(exclude_unset=True).items()}
    settings = remote | {key.replace("-", "_"): value for key, value in settings.items()}
    result = dict(given)
    for key, value in given.items():
        if value is None or value == ():
            environment = os.environ.get(f"FORGE_{key.upper()}")
            chosen = settings.get(key)
            if environment:
                result[key] = _typed(key, environment, f"FORGE_{key.upper()}")
            elif chosen is not None:
                result[key] = _typed(key, chosen, f"`{key}` in [build] of WORKSPACE.toml")
    return result


def overrides(texts: tuple[str, ...]) -> dict[Label, Label]:
    """Read `--override //a:b=//c:d`."""
    found = {}
    for text in texts or ():
        left, equals, right = text.partition("=")
        if not equals:
            raise UsageError(f"`--override {text}` has no `=`", hint="Write --override //a:b=//c:d")
        found[Label.parse(left)] = Label.parse(right)
    return found


def remote_of(flags: Mapping[str, Any]) -> RemoteSettings | None:
    """Take the remote cache out of merged flags; UsageError where its address or a header is none."""
    if not flags.get("remote_cache"):
        return None
    return RemoteSettings(
        str(flags["remote_cache"]),
        parse_headers(tuple(flags.get("remote_header") or ())),
        float(flags.get("remote_timeout") or TIMEOUT_S),
        flags.get("remote_instance_name") or "",
    )


def working_folder() -> Path:
    """The folder that the command was called in."""
    return Path(os.getcwd())


def _typed(key: str, value: Any, origin: str) -> Any:
    """Read a setting as its flag would be read; UsageError says where a wrong one comes from."""
    context = click.get_current_context()
    option = next(each for each in context.command.params if each.name == key)
    if option.multiple and isinstance(value, str):
        # A header may have a space in it, and each stands in a line of its own.
        value = value.splitlines() if key == "remote_header" else value.split()
    try:
        return option.type_cast_value(context, value)
    except click.UsageError as error:
        raise UsageError(f"{origin} is `{value}`: {error.message}") from error

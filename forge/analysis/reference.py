"""Names of images, as the workspace wants them."""

from __future__ import annotations

import re

from forge.analysis.context import Context

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(rf"(?:[a-z0-9.-]+(?::[0-9]+)?/)?{_PART}(?:/{_PART})*:[a-z0-9_][a-z0-9_.-]{{0,127}}")


def image_reference(context: Context) -> str:
    """Name an image, `<repository>/<package>:<tag>`; what is for several platforms has its target's name for theirs."""
    platform = context.platform.name if context.platform is not None else context.label.name
    tag = context.settings["tag"].replace("{name}", context.label.name).replace("{platform}", platform)
    tag = re.sub(r"[^a-z0-9_.-]", "_", tag.replace("{package}", context.label.package).lower())
    name = "/".join(filter(None, (context.settings["repository"], context.label.package))).lower().replace("+", "_")
    if not _REFERENCE.fullmatch(f"{name}:{tag}"):
        hint = "Set `repository` and `tag` of `[image]` in WORKSPACE.toml"
        raise context.error(f"`{name}:{tag}` of `{context.label}` cannot be the name of an image", hint)
    return f"{name}:{tag}"

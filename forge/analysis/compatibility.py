"""Whether what a platform's environment has been locked to goes together, and with its device."""

from __future__ import annotations

from collections.abc import Iterable

from forge.analysis.context import Context
from forge.core.compatibility import clashes
from forge.core.lock import Lock


def check_compatibility(context: Context, locks: Iterable[Lock]) -> None:
    """Raise AnalysisError that names both sides and the row, for each that the table has against it.

    Only a platform's own environment is looked at: no other one meets a driver.
    """
    platform = context.platform
    toolchain = context.toolchains.get(platform.name) if platform is not None else None
    if platform is None or toolchain is None or toolchain.environment != context.label:
        return
    device = f"device `{platform.device}`, {toolchain.place}"
    versions = {"python": (toolchain.python, toolchain.place)}
    versions |= {name: (value, device) for name in ("driver", "jetpack") if (value := getattr(platform, name))}
    for lock in locks:
        for each in lock.materials if lock.kind == "python" else ():
            name = "nvidia-cuda-runtime" if each.name.startswith("nvidia-cuda-runtime") else each.name
            versions[name] = (each.version, f"locked for `{context.label}`")
    found = clashes(toolchain.compatibility, versions)
    # Resolvers take a local version, of whatever index or folder, for newer than the plain one.
    builds = [name for name, (version, _) in versions.items() if version.endswith("+cpu")]
    if builds and platform.accelerator != "none":
        both = f"[{', '.join(builds)}] are builds for CPUs, `{platform.device}` has `{platform.accelerator}`"
        hint = "Run `forge lock` where pip's settings name no place with such builds (PIP_FIND_LINKS, PIP_CONFIG_FILE)"
        raise context.error(f"{both} ({toolchain.place})", f"{hint} ({context.label})")
    if found:
        hint = "Ask for other versions in `requirements`, and run `forge lock`; or correct the device"
        raise context.error("; ".join(found), f"{hint} ({context.label})")

"""A lock of Python packages as pylock.toml, which pip and uv install from.

PEP 751, https://packaging.python.org/en/latest/specifications/pylock-toml/. It wants a place for each file. A lock of
forge's has names and digests and no address, so each file is placed by its name in one folder, such as
`forge vendor` fills.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from forge.core.digest import Digest
from forge.core.errors import UserError
from forge.core.lock import Material
from forge.packages.target_python import PythonTarget


def render_pylock(
    target: PythonTarget, wheels: Iterable[Material], sdists: Iterable[Material] = (), *, folder: str
) -> str:
    """Write the file; UserError when a name stands for two files, which the format has no room for.

    `folder` is where the files lie, as seen from the file. Of `sdists` the wheels have to be built.
    """
    entries: dict[str, tuple[Material, str]] = {}
    for material, kind in [*((each, "wheels") for each in wheels), *((each, "sdist") for each in sdists)]:
        other = entries.setdefault(material.name, (material, kind))
        if other[0] != material:
            text = f"`{material.name}` is locked twice, as `{other[0].file}` and as `{material.file}`"
            raise UserError(text, hint="Export the environments one by one")
    marker = f"sys_platform == 'linux' and platform_machine == '{target.machine}'"
    marker += " and implementation_name == 'cpython'"
    lines = ['lock-version = "1.0"', f"environments = [{_quoted(marker)}]"]
    lines += [f'requires-python = "=={target.python}.*"', 'created-by = "forge"']
    for name, (material, kind) in sorted(entries.items()):
        file = _file(material, folder)
        lines += ["", "[[packages]]", f"name = {_quoted(name)}", f"version = {_quoted(material.version)}"]
        lines.append(f"wheels = [{file}]" if kind == "wheels" else f"sdist = {file}")
    return "\n".join(lines) + "\n"


def _file(material: Material, folder: str) -> str:
    path = f"{folder.rstrip('/')}/{material.file}" if folder not in ("", ".") else material.file
    fields = [f"name = {_quoted(material.file)}", f"path = {_quoted(path)}"]
    if isinstance(material.digest, Digest):
        fields.append(f"size = {material.digest.size}")
    fields.append(f"hashes = {{ sha256 = {_quoted(material.digest.hash)} }}")
    return f"{{ {', '.join(fields)} }}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

"""pip's configuration, as much of it as says where packages are.

pip reads its files from the least to the most specific, `[install]` over `[global]`, and the environment
over all of them; a later value replaces an earlier one. https://pip.pypa.io/en/stable/topics/configuration/
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_KEYS = ("index-url", "extra-index-url", "find-links", "no-index")
_SECTIONS = ("global", "install")
_TRUE = frozenset(("1", "true", "yes", "on", "t", "y"))


@dataclass(frozen=True, slots=True)
class Setting:
    """One value and the file or variable that it stands in."""

    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class PipConfig:
    """Where pip looks for packages, with the origin of each address."""

    index: Setting | None
    """None where nothing is set: pip then takes its own default."""
    extra: tuple[Setting, ...]
    links: tuple[Setting, ...]
    """Folders and pages of `find-links`."""
    no_index: bool
    """Only `links` are to be used."""


def read_pip_config(environ: Mapping[str, str], etc: Path) -> PipConfig:
    """Read the files that pip would, then the environment."""
    found: dict[str, Setting] = {}
    for file in _files(environ, etc):
        found.update(_read(file))
    for key in _KEYS:
        name = f"PIP_{key.upper().replace('-', '_')}"
        if environ.get(name):
            found[key] = Setting(environ[name], name)
    index = found.get("index-url")
    flag = found.get("no-index")
    return PipConfig(
        index=index,
        extra=_words(found.get("extra-index-url")),
        links=_words(found.get("find-links")),
        no_index=flag is not None and flag.value.strip().lower() in _TRUE,
    )


def _files(environ: Mapping[str, str], etc: Path) -> Iterator[Path]:
    named = environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:  # pip's way to switch all files off
        return
    yield etc / "xdg/pip/pip.conf"
    yield etc / "pip.conf"
    if home := environ.get("HOME"):
        yield Path(home, ".pip/pip.conf")
        yield Path(environ.get("XDG_CONFIG_HOME") or Path(home, ".config"), "pip/pip.conf")
    if virtual := environ.get("VIRTUAL_ENV"):
        yield Path(virtual, "pip.conf")
    if named:
        yield Path(named)


def _read(file: Path) -> dict[str, Setting]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        return {}  # pip itself would stop here and say so; what it cannot read configures nothing
    found: dict[str, Setting] = {}
    for section in _SECTIONS:
        if not parser.has_section(section):
            continue
        for key, value in parser.items(section):
            name = key.replace("_", "-")
            if name in _KEYS and value.strip():
                found[name] = Setting(value.strip(), str(file))
    return found


def _words(setting: Setting | None) -> tuple[Setting, ...]:
    return tuple(Setting(word, setting.origin) for word in setting.value.split()) if setting else ()

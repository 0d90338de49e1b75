"""Where source ids lead, by WORKSPACE.toml, pip and apt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from forge.core.digest import EMPTY
from forge.core.errors import MaterialError
from forge.core.lock import Material
from forge.net.address import mask
from forge.packages import sources as module
from forge.packages.sources import DEBIAN_MIRROR, DEBIAN_SECURITY_MIRROR, HUB, PYTORCH_CPU, Sources

WHEEL = Material("thing", "1", "thing-1-py3-none-any.whl", EMPTY, "pypi")
DEB = Material("libc6", "2.36-9", "libc6_2.36-9_amd64.deb", EMPTY, "debian", "pool/l/libc6.deb", "bookworm")

SOURCES_LIST = """
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main  # comment
deb-src http://mirror.example/src bookworm main
deb cdrom:[Debian]/ bookworm main
# deb http://off.example/debian bookworm main
deb http://third.example/apt stable main
"""
DEB822 = """# the host's
Types: deb
# a comment inside
URIs: http://one.example/debian/
 http://two.example/debian
Suites: trixie
 trixie-updates
Components: main

Types: deb-src
URIs: http://src.example/debian
Suites: trixie

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
"""


class Host:
    """A machine's configuration files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {"HOME": str(folder / "home")}

    def write(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def read(self, table: Mapping[str, str | Sequence[str]] | None = None, **environ: str) -> Sources:
        return Sources.read(
            table or {}, self.environ | environ, root=self.folder / "workspace", etc=self.folder / "etc"
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def addresses(sources: Sources, source: str, suite: str = "") -> list[str]:
    return [each.address for each in sources.places(source, suite=suite)]


def test_without_any_configuration_the_tools_defaults_hold(host: Host) -> None:
    from pip._internal.models.index import PyPI

    found = host.read()

    assert addresses(found, "pypi") == [PyPI.simple_url]
    assert addresses(found, "pytorch-cpu") == [PYTORCH_CPU]
    assert addresses(found, "debian", "bookworm") == [DEBIAN_MIRROR, DEBIAN_SECURITY_MIRROR]
    assert addresses(found, "hf") == [HUB]


def test_without_pip_its_default_is_read_from_the_wheel_in_ensurepip() -> None:
    assert module._bundled_default() in ("", module._default_index_address())


def test_the_environment_goes_before_pips_files(host: Host) -> None:
    host.write(
        "etc/pip.conf", "[global]\nindex-url = http://etc.example/simple\nextra-index-url = http://x.example/s\n"
    )
    found = host.read(PIP_INDEX_URL="http://env.example/simple/", PIP_FIND_LINKS=f"{host.folder}/w http://l.example/p")

    assert addresses(found, "pypi") == [
        f"{host.folder}/w", "http://l.example/p", "http://env.example/simple", "http://x.example/s",
    ]  # fmt: skip
    assert [(each.kind, each.origin) for each in found.places("pypi")] == [
        ("links", "PIP_FIND_LINKS"),
        ("links", "PIP_FIND_LINKS"),
        ("index", "PIP_INDEX_URL"),
        ("index", str(host.folder / "etc/pip.conf")),
    ]


PIP_FILES = ["etc/pip.conf", "home/.pip/pip.conf", "home/.config/pip/pip.conf", "venv/pip.conf", "named.conf"]


@pytest.mark.parametrize("count", range(1, len(PIP_FILES) + 1), ids=PIP_FILES)
def test_pips_files_are_read_from_the_least_specific_on(host: Host, count: int) -> None:
    for position, path in enumerate(PIP_FILES[:count]):
        host.write(path, f"[global]\nindex_url = http://h{position}.example/simple\n")
    found = host.read(VIRTUAL_ENV=str(host.folder / "venv"), PIP_CONFIG_FILE=str(host.folder / "named.conf"))

    assert addresses(found, "pypi") == [f"http://h{count - 1}.example/simple"]


def test_install_goes_before_global(host: Host) -> None:
    host.write("etc/pip.conf", "[install]\nindex-url = http://a.example/s\n[global]\nindex-url = http://b.example/s\n")

    assert addresses(host.read(), "pypi") == ["http://a.example/s"]


def test_the_null_device_switches_pips_files_off(host: Host) -> None:
    host.write("etc/pip.conf", "[global]\nindex-url = http://etc.example/simple\n")

    assert "http://etc.example/simple" not in addresses(host.read(PIP_CONFIG_FILE="/dev/null"), "pypi")


def test_no_index_leaves_the_links(host: Host) -> None:
    found = host.read(PIP_NO_INDEX="1", PIP_FIND_LINKS="http://l.example", PIP_EXTRA_INDEX_URL="http://x.example")

    assert addresses(found, "pypi") == ["http://l.example"]


def test_a_pip_file_that_cannot_be_read_configures_nothing(host: Host) -> None:
    host.write("etc/pip.conf", "index-url = http://etc.example/simple\n")

    assert "http://etc.example/simple" not in addresses(host.read(), "pypi")


def test_workspace_goes_before_everything(host: Host) -> None:
    found = host.read(
        {"pypi": ["http://m.example/s", "file:///srv/my%20index"], "corp": "vendor"}, PIP_INDEX_URL="http://x"
    )

    assert addresses(found, "pypi") == ["http://m.example/s", "/srv/my index"]
    assert addresses(found, "corp") == [str(host.folder / "workspace/vendor")]


def test_a_folder_of_wheels_is_no_index(host: Host) -> None:
    host.write("workspace/vendor/thing-1-py3-none-any.whl", "")
    host.write("workspace/mirror/thing/index.html", "")
    found = host.read({"pypi": ["vendor", "mirror"]})

    assert [each.kind for each in found.places("pypi")] == ["links", "index"]


@pytest.mark.parametrize("address", ["ftp://a.example/x", "s3://bucket"])
def test_an_unknown_scheme_is_refused(host: Host, address: str) -> None:
    with pytest.raises(MaterialError, match="neither http") as caught:
        host.read({"pypi": address})

    assert caught.value.faults[0].place == "[sources] pypi"


def test_apt_is_asked_for_suites_that_it_has(host: Host) -> None:
    host.write("etc/apt/sources.list", SOURCES_LIST)
    host.write("etc/apt/sources.list.d/host.sources", DEB822)
    found = host.read()

    assert addresses(found, "debian", "bookworm") == ["http://mirror.example/debian"]
    assert addresses(found, "debian", "trixie-updates") == ["http://one.example/debian", "http://two.example/debian"]


def test_a_suite_that_apt_lacks_comes_from_the_mirror(host: Host) -> None:
    host.write("etc/apt/sources.list.d/host.sources", DEB822)

    assert addresses(host.read(), "debian", "bookworm") == [DEBIAN_MIRROR, DEBIAN_SECURITY_MIRROR]


def test_a_workspaces_archive_may_have_every_suite(host: Host) -> None:
    host.write("etc/apt/sources.list", SOURCES_LIST)
    found = host.read({"debian": ["http://m.example/debian", "http://m.example/security"]})

    assert addresses(found, "debian", "bookworm") == ["http://m.example/debian", "http://m.example/security"]


def test_the_hub_has_an_endpoint_and_a_token(host: Host) -> None:
    (place,) = host.read(HF_ENDPOINT="http://hub.example/", HF_TOKEN="hf_secret").places("hf")

    assert (place.address, place.token) == ("http://hub.example", "hf_secret")
    assert "hf_secret" not in repr(place)


@pytest.mark.parametrize(
    ("file", "environ"),
    [
        ("home/.cache/huggingface/token", {}),
        ("cache/huggingface/token", {"XDG_CACHE_HOME": "{}/cache"}),
        ("hub/token", {"HF_HOME": "{}/hub"}),
        ("elsewhere", {"HF_TOKEN_PATH": "{}/elsewhere"}),
    ],
)
def test_the_hubs_token_may_be_in_the_file_of_its_clients(host: Host, file: str, environ: dict[str, str]) -> None:
    host.write(file, "hf_secret\n")
    (place,) = host.read({}, **{name: value.format(host.folder) for name, value in environ.items()}).places("hf")

    assert place.token == "hf_secret"


def test_a_token_file_that_is_no_text_is_none(host: Host) -> None:
    host.write("home/.cache/huggingface/token", "").write_bytes(b"\xff\xfe")

    assert [each.token for each in host.read().places("hf")] == [""]


def test_the_users_token_goes_where_the_user_says_and_not_where_a_workspace_says(host: Host) -> None:
    chosen = {"hf": ["https://mirror.example", HUB]}
    first, second = host.read(chosen, HF_TOKEN="hf_secret").places("hf")

    assert (first.address, first.token) == ("https://mirror.example", "")
    assert (second.address, second.token) == (HUB, "hf_secret")


@pytest.mark.parametrize(
    ("folder", "environ"),
    [
        ("home/.cache/huggingface/hub", {}),
        ("h/hub", {"HF_HOME": "{}/h"}),
        ("c", {"HF_HUB_CACHE": "{}/c"}),
    ],
)
@pytest.mark.parametrize("table", [{}, {"hf": "https://mirror.example"}], ids=["default", "mirror"])
def test_what_the_hubs_clients_have_downloaded_is_a_place(
    host: Host, folder: str, environ: dict[str, str], table: dict[str, str | Sequence[str]]
) -> None:
    (host.folder / folder).mkdir(parents=True)
    found = host.read(table, **{name: value.format(host.folder) for name, value in environ.items()})

    assert addresses(found, "hf") == [str(host.folder / folder), table.get("hf", HUB)]


def test_without_a_home_there_is_no_cache(host: Host) -> None:
    host.environ.clear()

    assert addresses(host.read(), "hf") == [HUB]


def test_what_a_declaration_has_the_address_of_is_there(host: Host) -> None:
    material = Material("m.gguf", "", "m.gguf", EMPTY, "https", "https://a.example/m.gguf?v=1")

    assert [each.address for each in host.read({"*": "vendor"}).where(material)] == [
        str(host.folder / "workspace/vendor"),
        "https://a.example/m.gguf?v=1",
    ]


def test_a_wheel_may_be_in_pips_places_whatever_its_source(host: Host) -> None:
    found = host.read(PIP_FIND_LINKS=f"{host.folder}/w", PIP_INDEX_URL="http://i.example/s")
    places = [each.address for each in found.where(replace(WHEEL, source="pytorch-cpu"))]

    assert places == [f"{host.folder}/w", PYTORCH_CPU]


def test_the_place_for_anything_is_asked_for_all(host: Host) -> None:
    found = host.read({"*": "vendor", "debian": "http://m.example/debian"})

    assert [each.address for each in found.where(DEB)] == [
        str(host.folder / "workspace/vendor"),
        "http://m.example/debian",
    ]


def test_a_material_without_a_place_says_which_setting_helps(host: Host) -> None:
    with pytest.raises(MaterialError, match="Source `corp` of `thing-1") as caught:
        host.read().where(replace(WHEEL, source="corp"))

    assert caught.value.faults[0].hint == 'Set `corp = "https://…"` (or a folder) in `[sources]` of WORKSPACE.toml'


def test_shown_addresses_hold_no_credentials(host: Host) -> None:
    rows = host.read({"corp": "https://me:secret@corp.example/simple?sig=secret"}).show()

    assert [(each.address, each.origin) for each in rows if each.source == "corp"] == [
        ("https://***@corp.example/simple?***", "[sources] corp")
    ]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://h.example/a", "http://h.example/a"),
        ("http://token@h.example:8080/a", "http://***@h.example:8080/a"),
        ("http://u:p@h.example", "http://***@h.example"),
        ("/srv/me@home", "/srv/me@home"),
    ],
)
def test_masking(address: str, shown: str) -> None:
    assert mask(address) == shown

"""One declaration, several platforms: instances, their names, overrides and dependencies."""

from __future__ import annotations

import pytest

from forge.core.label import Label, TargetPattern
from tests.fakes.workspace import MODEL, SERVER, FakeWorkspace

COMMAND = "[x]\nrule = 'command'\nouts = ['a']\n"


@pytest.fixture
def package(workspace: FakeWorkspace) -> FakeWorkspace:
    workspace.write("targets/pkg/handler.py")
    workspace.write("targets/pkg/cases.json")
    return workspace


def params(workspace: FakeWorkspace, label: str) -> object:
    return getattr(workspace.target(label).attrs, "params")  # noqa: B009 - attributes are the rule's own type


@pytest.mark.parametrize(
    ("globs", "expected"),
    [
        ("['cpu_llm_trf']", ["cpu_llm_trf"]),
        ("['*_llm_*']", ["cpu_llm_llama", "cpu_llm_trf", "gpu_llm_trf"]),
        ("['*']", ["client", "cpu_llm_llama", "cpu_llm_trf", "gpu_llm_trf"]),
        ("['*', '!gpu_*']", ["client", "cpu_llm_llama", "cpu_llm_trf"]),
        ("['*_trf', '!*_trf', 'gpu_*']", ["gpu_llm_trf"]),
        ("['amd64']", ["amd64"]),
        ("['amd64', 'arm64', '!arm64']", ["amd64"]),
    ],
)
def test_a_generator_has_an_instance_per_platform(package: FakeWorkspace, globs: str, expected: list[str]) -> None:
    package.build(COMMAND + f"platforms = {globs}\n")

    assert package.requested("//pkg:all") == [f"//pkg:x@{name}" for name in expected]


@pytest.mark.parametrize(
    ("globs", "fault"),
    [
        (
            "['cpu_llm_tfr']",
            "Platform glob `cpu_llm_tfr` of `//pkg:x` matches nothing\n  hint: Did you mean `cpu_llm_trf`?",
        ),
        ("['*', '!tpu_*']", "Platform glob `!tpu_*` of `//pkg:x` matches nothing"),
        ("['am*']", "Platform glob `am*` of `//pkg:x` matches nothing"),
        ("['gpu_*', '!*']", "`platforms` of `//pkg:x` selects none"),
        ("[]", "`platforms` of `//pkg:x` selects none"),
        ("'*'", "`platforms` of `//pkg:x` must be a list of globs"),
        ("[3]", "`platforms` of `//pkg:x` must be a list of globs"),
    ],
)
def test_globs_must_select_something(package: FakeWorkspace, globs: str, fault: str) -> None:
    package.build(COMMAND + f"platforms = {globs}\n")

    assert package.error("//pkg:x").startswith(f"targets/pkg/BUILD.toml:4: {fault}")


def test_a_generator_s_name_means_all_of_its_instances(package: FakeWorkspace) -> None:
    package.build(COMMAND + "platforms = ['gpu_*', 'client']\n")
    graph = package.load("//pkg:x")

    assert graph.generators[Label("pkg", "x")] == (Label("pkg", "x@client"), Label("pkg", "x@gpu_llm_trf"))
    assert graph.outright == set(graph.requested)


def test_an_instance_knows_where_it_is_from(package: FakeWorkspace) -> None:
    package.build(COMMAND + "platforms = ['gpu_*']\n")
    target = package.target("//pkg:x@gpu_llm_trf")

    assert (target.generator, target.platform and target.platform.name) == (Label("pkg", "x"), "gpu_llm_trf")


def test_name_names_the_instances(package: FakeWorkspace) -> None:
    package.build(COMMAND + "platforms = ['gpu_*']\nname = '{platform}-{target}'\n")

    assert package.requested("//pkg:all") == ["//pkg:gpu_llm_trf-x"]


@pytest.mark.parametrize(
    "name", ["{device}", "{target.x}", "{target[0]}", "{", "{}", "", "a b", "{platform:>9}", "all"]
)
def test_name_must_give_names(package: FakeWorkspace, name: str) -> None:
    package.build(COMMAND + f"platforms = ['gpu_*']\nname = '{name}'\n")

    assert package.error("//pkg:x") == (
        f'targets/pkg/BUILD.toml:5: `name = "{name}"` gives no name\n  hint: Use `{{target}}` and `{{platform}}`'
    )


def test_two_instances_of_one_name_name_both_places(package: FakeWorkspace) -> None:
    package.build(COMMAND + "platforms = ['gpu_*']\nname = 'y'\n\n[y]\nrule = 'command'\nouts = ['a']\n")

    assert package.error("//pkg:x") == (
        "targets/pkg/BUILD.toml:5: `//pkg:y` is also the name of a target at targets/pkg/BUILD.toml:7\n"
        "  hint: Give one another name"
    )


def test_two_generators_of_one_name_name_both_places(package: FakeWorkspace) -> None:
    one = "rule = 'command'\nouts = ['a']\nplatforms = ['gpu_*']\nname = '{platform}'\n"
    package.build(f"[x]\n{one}\n[y]\n{one}")

    assert package.error("//pkg:x").startswith(
        "targets/pkg/BUILD.toml:11: `//pkg:gpu_llm_trf` is also the name of a target at targets/pkg/BUILD.toml:1"
    )


def test_one_name_for_several_platforms_is_taken_twice(package: FakeWorkspace) -> None:
    package.build(COMMAND + "platforms = ['*_trf']\nname = 'y'\n")

    assert "`//pkg:y` is also the name of a target at targets/pkg/BUILD.toml:1" in package.error("//pkg:x")


OVERRIDES = (
    SERVER.replace('["cpu_llm_trf"]', '["*_trf"]').lstrip()
    + """
[server.params]
batch_size = 1
temperature = 0.5

[server.override]
{}
"""
)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("cpu.batch_size = 2", {"batch_size": 2, "temperature": 0.5}),
        ("gpu.batch_size = 2", {"batch_size": 1, "temperature": 0.5}),
        ("trf.batch_size = 3\ncpu.batch_size = 2", {"batch_size": 3, "temperature": 0.5}),
        ("cpu_llm_trf.batch_size = 4\ncpu.batch_size = 2\ntrf.batch_size = 3", {"batch_size": 4, "temperature": 0.5}),
        ("cpu.do_sample = true", {"batch_size": 1, "temperature": 0.5, "do_sample": True}),
        ("cpu.params = { batch_size = 2 }", {"batch_size": 2, "temperature": 0.5}),
    ],
)
def test_the_most_specific_override_of_a_parameter_wins(
    package: FakeWorkspace, override: str, expected: dict[str, object]
) -> None:
    package.build(OVERRIDES.replace("{}", override))

    assert params(package, "//pkg:server@cpu_llm_trf") == expected


def test_an_override_may_give_the_first_parameter(package: FakeWorkspace) -> None:
    package.build(SERVER + "\n[server.override]\ncpu.batch_size = 2\n")

    assert params(package, "//pkg:server@cpu_llm_trf") == {"batch_size": 2}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("cpu.port = 4000", 4000),
        ("cpu.port = 4000\ntrf.port = 5000", 5000),
        ("cpu_llm_trf.port = 6000\ntrf.port = 5000", 6000),
        ("gpu_llm_trf.port = 6000", 3000),
    ],
)
def test_the_most_specific_override_of_an_attribute_wins(package: FakeWorkspace, override: str, expected: int) -> None:
    package.build(OVERRIDES.replace("{}", override))

    assert getattr(package.target("//pkg:server@cpu_llm_trf").attrs, "port") == expected  # noqa: B009 - as above


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("cpu.tags = ['manual']", {"manual"}),
        ("gpu.tags = ['manual']", {"slow"}),
        ("cpu_llm_trf.tags = []\ncpu.tags = ['manual']", set()),
        ("trf.tags = ['exclusive']\ncpu.tags = ['manual']", {"exclusive"}),
    ],
)
def test_an_override_may_replace_the_tags(package: FakeWorkspace, override: str, expected: set[str]) -> None:
    package.build(OVERRIDES.replace("[server.params]", "tags = ['slow']\n[server.params]").replace("{}", override))
    target = package.target("//pkg:server@cpu_llm_trf")

    assert expected == set(target.tags)
    assert {"batch_size": 1, "temperature": 0.5} == params(package, "//pkg:server@cpu_llm_trf")


def test_tags_of_an_override_are_checked_as_any(package: FakeWorkspace) -> None:
    package.build(OVERRIDES.replace("{}", "cpu.tags = 'manual'"))

    assert "`tags` of `//pkg:server` must be a list of texts" in package.error("//pkg:server")


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        (
            "cup.batch_size = 2",
            "`override.cup` of `//pkg:server` matches no selected platform\n  hint: Did you mean `cpu`?",
        ),
        ("llama.batch_size = 2", "`override.llama` of `//pkg:server` matches no selected platform"),
        ("client.batch_size = 2", "`override.client` of `//pkg:server` matches no selected platform"),
        ("cpu = 3", "`override` of `//pkg:server` must hold tables"),
    ],
)
def test_an_override_must_be_for_a_selected_platform(package: FakeWorkspace, override: str, fault: str) -> None:
    package.build(OVERRIDES.replace("{}", override))

    assert fault in package.error("//pkg:server")


def test_an_override_without_platforms_is_for_none(package: FakeWorkspace) -> None:
    package.build(COMMAND + "override = { cpu = { timeout = 3 } }\n")

    assert "`override.cpu` of `//pkg:x` matches no selected platform" in package.error("//pkg:x")


def test_an_override_is_a_table(package: FakeWorkspace) -> None:
    package.build(SERVER.lstrip() + "override = 3\n")

    assert "`override` of `//pkg:server` must hold tables" in package.error("//pkg:server")


@pytest.mark.parametrize("override", ["cpu.port = 'x'", "cpu.params = 3", "cpu.batch_size = []"])
def test_a_bad_value_is_found_where_the_override_gives_it(package: FakeWorkspace, override: str) -> None:
    package.build(OVERRIDES.replace("{}", override))
    line = OVERRIDES.splitlines().index("{}") + 1

    assert package.error("//pkg:server").startswith(f"targets/pkg/BUILD.toml:{line}: ")


def test_a_bad_parameter_is_one_fault(package: FakeWorkspace) -> None:
    package.build(SERVER.lstrip() + "[server.params]\nbatch_size = []\n")

    assert package.error("//pkg:server") == (
        "targets/pkg/BUILD.toml:17: `params.batch_size` of `compose` target `//pkg:server`: "
        "must be true or false or a whole number or a number or text"
    )


IMAGES = (
    SERVER.lstrip()
    + """
[images]
rule = "image"
apps = [":server"]
name = "{platform}"

[check]
rule = "test"
image = ":images"
cases = "cases.json"
"""
)


def test_an_image_takes_the_platforms_of_its_services(package: FakeWorkspace) -> None:
    package.build(IMAGES)

    assert package.requested("//pkg:images", "//pkg:check") == ["//pkg:check@cpu_llm_trf", "//pkg:cpu_llm_trf"]


def test_an_instance_depends_on_the_instance_of_its_platform(package: FakeWorkspace) -> None:
    package.build(IMAGES.replace('["cpu_llm_trf"]', '["*_trf"]'))
    target = package.target("//pkg:gpu_llm_trf")

    assert target.dependencies() == (Label("pkg", "server@gpu_llm_trf"),)


def test_an_image_takes_of_its_services_those_that_have_its_platform(package: FakeWorkspace) -> None:
    client = "[loadgen]\nrule = 'compose'\nhandler = 'handler.py'\nplatforms = ['client']\n"
    package.build(IMAGES.replace('[":server"]', '[":server", ":loadgen"]') + client)
    graph = package.load("//pkg:images")

    assert {str(label): [str(dep) for dep in graph.targets[label].dependencies()] for label in graph.requested} == {
        "//pkg:client": ["//pkg:loadgen@client"],
        "//pkg:cpu_llm_trf": ["//pkg:server@cpu_llm_trf"],
    }


def test_an_image_may_name_an_instance(package: FakeWorkspace) -> None:
    """And stands before what it names, so that expansion meets it first."""
    head, _, tail = IMAGES.replace('apps = [":server"]', 'apps = [":server@gpu_llm_trf"]').partition("\n[server]")
    server, _, images = tail.partition("\n[images]")
    package.build(f"{head}\n[images]{images}\n[server]{server}".replace('["cpu_llm_trf"]', '["*_trf"]'))

    assert package.requested("//pkg:images", "//pkg:check") == ["//pkg:check@gpu_llm_trf", "//pkg:gpu_llm_trf"]


def test_an_image_may_have_platforms_of_its_own(package: FakeWorkspace) -> None:
    package.build(IMAGES.replace('name = "{platform}"', 'platforms = ["cpu_llm_trf"]', 1))

    assert package.requested("//pkg:images") == ["//pkg:images@cpu_llm_trf"]


def test_a_platform_that_no_service_has_is_an_error(package: FakeWorkspace) -> None:
    package.build(IMAGES.replace('name = "{platform}"', 'platforms = ["gpu_llm_trf"]', 1))

    assert package.error("//pkg:images") == (
        "targets/pkg/BUILD.toml:19: `//pkg:server` has no instance for platform `gpu_llm_trf`\n"
        "  hint: It has [cpu_llm_trf]"
    )


@pytest.mark.parametrize(
    ("apps", "fault"),
    [
        ("[':weihgts']", "Unknown target `//pkg:weihgts`\n  hint: Did you mean `weights`?"),
        ("['//gone:server']", "Unknown package `//gone`"),
        ("['server']", "`apps.0` of `image` target `//pkg:images`: `server` is not a label"),
        ("[3]", "`apps.0` of `image` target `//pkg:images`: must be a label"),
        ("3", "`apps` of `image` target `//pkg:images`: must be a list"),
        ("[]", "`apps` of `image` target `//pkg:images`: "),
    ],
)
def test_an_image_of_nothing_is_an_error_at_its_place(package: FakeWorkspace, apps: str, fault: str) -> None:
    package.build(MODEL.lstrip() + f"[images]\nrule = 'image'\napps = {apps}\n")
    line = MODEL.lstrip().count("\n") + 3

    assert package.error("//pkg:images").startswith(f"targets/pkg/BUILD.toml:{line}: {fault}")


@pytest.mark.parametrize("apps", ["[3, ':server']", "['!', ':server']"])
def test_a_bad_label_among_good_ones_is_found(package: FakeWorkspace, apps: str) -> None:
    package.build(IMAGES.replace('[":server"]', apps))

    assert "`apps.0` of `image` target `//pkg:images`" in package.error("//pkg:images")


def test_images_of_each_other_are_a_cycle(package: FakeWorkspace) -> None:
    package.build("[a]\nrule = 'image'\napps = [':b']\n\n[b]\nrule = 'image'\napps = [':a']\n")

    assert "Targets depend on each other: `//pkg:a` -> `//pkg:b` -> `//pkg:a`" in package.error("//pkg:all")


def test_a_fault_of_the_platforms_is_told_to_all_that_take_them(package: FakeWorkspace) -> None:
    package.build(SERVER.replace("cpu_llm_trf", "nope"), "broken")
    package.build("[images]\nrule = 'image'\napps = ['//broken:server']\n")
    package.write("targets/broken/handler.py")

    assert package.error("//pkg:images") == (
        "targets/broken/BUILD.toml:15: Platform glob `nope` of `//broken:server` matches nothing\n"
        "  hint: Known are [amd64, arm64, client, cpu_llm_llama, cpu_llm_trf, gpu_llm_trf]"
    )


def test_a_dependency_on_something_broken_tells_what_is_broken(package: FakeWorkspace) -> None:
    package.build(MODEL.replace('rule = "command"', 'rule = "comand"').lstrip())

    assert package.error("//pkg:weights") == (
        "targets/pkg/BUILD.toml:2: Unknown rule `comand` of target `//pkg:checkpoint`\n  hint: Did you mean `command`?"
    )


def test_a_dependency_on_a_generator_that_cannot_be_expanded_tells_why(package: FakeWorkspace) -> None:
    package.build(COMMAND + "platforms = ['nope']\n\n[y]\nrule = 'command'\nouts = ['b']\ndeps = [':x']\n")

    assert package.error("//pkg:y").count("\n") == 1


def test_without_a_platform_a_generator_means_all_of_its_instances(package: FakeWorkspace) -> None:
    package.build(COMMAND + "platforms = ['*_trf']\n\n[y]\nrule = 'command'\nouts = ['b']\ndeps = [':x']\n")
    target = package.target("//pkg:y")

    assert target.deps[Label("pkg", "x")] == (Label("pkg", "x@cpu_llm_trf"), Label("pkg", "x@gpu_llm_trf"))


def test_an_architecture_serves_all_its_platforms(package: FakeWorkspace) -> None:
    package.build(
        COMMAND + "platforms = ['amd64']\n\n[y]\nrule = 'command'\nouts = ['b']\ndeps = [':x']\nplatforms = ['gpu_*']\n"
    )
    target = package.target("//pkg:y@gpu_llm_trf")

    assert target.deps[Label("pkg", "x")] == (Label("pkg", "x@amd64"),)


def test_the_sandbox_s_environment_is_that_of_the_execution_platform(package: FakeWorkspace) -> None:
    package.arch = "arm64"
    package.build(COMMAND + "platforms = ['gpu_*']\n")
    target = package.target("//pkg:x@gpu_llm_trf")

    assert target.deps[Label("toolchains", "busybox")] == (Label("toolchains", "busybox@arm64"),)


def test_one_label_for_sandbox_and_image_is_refused_when_it_means_two_things(package: FakeWorkspace) -> None:
    package.build(COMMAND + "platforms = ['arm64']\nshell = 'x'\ndeps = ['//toolchains:busybox']\n")

    assert "`//toolchains:busybox` means one instance for the sandbox and another one beside it" in package.error(
        "//pkg:x"
    )


def test_a_service_depends_on_the_environment_of_its_platform(package: FakeWorkspace) -> None:
    package.build(SERVER)

    assert Label("toolchains", "cpu_llm_trf") in package.target("//pkg:server@cpu_llm_trf").dependencies()


def test_override_puts_one_target_in_place_of_another(package: FakeWorkspace) -> None:
    package.build(MODEL)
    package.build(MODEL.replace("make", "make other"), "other")
    package.overrides = {Label("pkg", "checkpoint"): Label("other", "checkpoint")}
    graph = package.load("//pkg:weights")

    assert list(map(str, graph.order())) == [
        "//toolchains:busybox@amd64", "//other:checkpoint", "//pkg:weights",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("patterns", "asked"),
    [
        (["//pkg/..."], False),
        (["//pkg:all"], False),
        (["//pkg:checkpoint"], True),
        (["//...", "//pkg:checkpoint"], True),
    ],
)
def test_a_wildcard_does_not_ask_for_what_is_replaced(package: FakeWorkspace, patterns: list[str], asked: bool) -> None:
    package.build(MODEL)
    package.build(MODEL.replace("make", "make other"), "other")
    package.overrides = {Label("pkg", "checkpoint"): Label("other", "checkpoint")}

    assert asked == (Label("pkg", "checkpoint") in package.load(*patterns).requested)


def test_override_gives_its_platforms_too(package: FakeWorkspace) -> None:
    package.build(IMAGES)
    package.build(SERVER.replace("cpu_llm_trf", "gpu_llm_trf"), "other")
    package.write("targets/other/handler.py")
    package.overrides = {Label("pkg", "server"): Label("other", "server")}

    assert package.requested("//pkg:images") == ["//pkg:gpu_llm_trf"]


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        (
            {Label("pkg", "wieghts"): Label("pkg", "weights")},
            "Unknown target `//pkg:wieghts`\n  hint: Did you mean `weights`?",
        ),
        ({Label("gone", "x"): Label("pkg", "weights")}, "Unknown package `//gone`"),
        ({Label("pkg", "checkpoint"): Label("pkg", "x")}, "Unknown target `//pkg:x`"),
        (
            {Label("pkg", "checkpoint"): Label("pkg", "weights")},
            "depend on each other: `//pkg:weights` -> `//pkg:weights`",
        ),
    ],
)
def test_override_of_what_is_not_there_is_an_error(
    package: FakeWorkspace, override: dict[Label, Label], fault: str
) -> None:
    package.build(MODEL)
    package.overrides = override

    assert fault in package.error("//pkg:weights")


def test_override_of_something_broken_tells_what_is_broken(package: FakeWorkspace) -> None:
    package.build(MODEL)
    package.build("x = 3", "broken")
    package.overrides = {Label("broken", "x"): Label("pkg", "weights")}

    assert package.error("//pkg:weights").startswith("targets/broken/BUILD.toml:1: `x` must be a table")


def test_images_carry_the_files_of_the_runtime(package: FakeWorkspace) -> None:
    package.build(MODEL)
    package.write("forge_runtime/backends/trf.py")
    package.write("forge_runtime/notes.txt")

    assert [each.path for each in package.load("//pkg:all").runtime] == [
        "forge_runtime/backends/trf.py", "forge_runtime/harness.py",
    ]  # fmt: skip


def test_without_a_runtime_there_are_no_files_of_it(package: FakeWorkspace) -> None:
    package.build(MODEL)
    loader = package.loader()
    loader.runtime_folder = None

    assert loader.load([TargetPattern("package", "pkg")]).runtime == ()

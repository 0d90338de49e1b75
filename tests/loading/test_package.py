"""What a BUILD.toml may say, and what is said about one that says something else."""

from __future__ import annotations

import pytest

from tests.fakes.workspace import MODEL, FakeWorkspace


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            """
            [x]
            rule = "command"
            outs = ["a"]
            shel = "true"
            """,
            "targets/pkg/BUILD.toml:4: Unknown attribute `shel` of `command` target `//pkg:x`\n"
            "  hint: Did you mean `shell`?",
        ),
        (
            """
            [x]
            rule = "comand"
            """,
            "targets/pkg/BUILD.toml:2: Unknown rule `comand` of target `//pkg:x`\n  hint: Did you mean `command`?",
        ),
        (
            """
            [x]
            shell = "true"
            """,
            "targets/pkg/BUILD.toml:1: `x` needs the attribute `rule`\n"
            "  hint: Known are [client, command, compose, convert, dockerfile, environment, image, index, model, test, "
            "wheel]",
        ),
        (
            """
            x = 3
            """,
            "targets/pkg/BUILD.toml:1: `x` must be a table\n  hint: Write `[x]` and `rule = …` below it",
        ),
        (
            """
            ["a b"]
            rule = "command"
            """,
            "targets/pkg/BUILD.toml:1: `a b` cannot be the name of a target",
        ),
        (
            """
            [all]
            rule = "command"
            """,
            "targets/pkg/BUILD.toml:1: `all` cannot be the name of a target",
        ),
        (
            """
            [x]
            rule = "command"
            shell = "true"
            """,
            "targets/pkg/BUILD.toml:1: `command` target `//pkg:x` needs the attribute `outs`",
        ),
        (
            """
            [x]
            rule = "command"
            outs = 3
            env = { A = 1 }
            timeout = 0
            """,
            "targets/pkg/BUILD.toml:3: `outs` of `command` target `//pkg:x`: must be a list\n"
            "targets/pkg/BUILD.toml:4: `env.A` of `command` target `//pkg:x`: must be text\n"
            "targets/pkg/BUILD.toml:5: `timeout` of `command` target `//pkg:x`: input should be greater than 0",
        ),
        (
            """
            [x]
            rule = "command"
            outs = ["a"]
            deps = [3]
            environment = "x:y"
            """,
            "targets/pkg/BUILD.toml:4: `deps.0` of `command` target `//pkg:x`: must be a label\n"
            "targets/pkg/BUILD.toml:5: `environment` of `command` target `//pkg:x`: `x:y` is not a label",
        ),
        (
            """
            [x]
            rule = "command"
            outs = ["a"]
            deps = [{ package = "pkg", name = "y" }]
            """,
            "targets/pkg/BUILD.toml:4: `deps.0` of `command` target `//pkg:x`: must be a label",
        ),
        (
            """
            [x]
            rule = "command"
            outs = ["a"]
            tags = "manual"
            name = 3
            description = false
            """,
            "targets/pkg/BUILD.toml:4: `tags` of `//pkg:x` must be a list of texts\n"
            "targets/pkg/BUILD.toml:5: `name` of `//pkg:x` must be text\n"
            "targets/pkg/BUILD.toml:6: `description` of `//pkg:x` must be text\n"
            "targets/pkg/BUILD.toml:5: `name` has no meaning without platforms\n"
            "  hint: The header is the name of a target; `name` is that of its instances",
        ),
        (
            """
            [x]
            rule = "command"
            outs = ["a"]
            deps = ["//toolchain:busybox", ":y"]
            """,
            "targets/pkg/BUILD.toml:4: Unknown package `//toolchain` of `//toolchain:busybox`: there is no "
            "`targets/toolchain/BUILD.toml`\n  hint: Did you mean `toolchains`?\n"
            "targets/pkg/BUILD.toml:4: Unknown target `//pkg:y`\n  hint: Known are [x]",
        ),
    ],
    ids=[
        "unknown attribute", "unknown rule", "no rule", "no table", "bad name", "all", "missing attribute", "ill typed",
        "no labels", "a label is no table", "reserved keys", "unknown dependencies",
    ],
)  # fmt: skip
def test_says_what_is_wrong_and_where(workspace: FakeWorkspace, text: str, expected: str) -> None:
    workspace.build(text)

    assert workspace.error("//pkg:all") == expected


def test_reports_all_faults_of_a_file_at_once(workspace: FakeWorkspace) -> None:
    """Of the tables, of the expansion and of the attributes: one run, one list."""
    workspace.build("""
        [a]
        rule = "nonsense"

        [b]
        rule = "command"
        outs = ["a"]
        platforms = ["nowhere"]

        [c]
        rule = "command"
        outs = ["a"]
        srcs = ["missing.txt"]

        [d]
        rule = "command"
        outs = ["a"]
        deps = [":nothing"]
        """)

    assert [line for line in workspace.error("//pkg:d").splitlines() if "hint" not in line] == [
        "targets/pkg/BUILD.toml:2: Unknown rule `nonsense` of target `//pkg:a`",
        "targets/pkg/BUILD.toml:7: Platform glob `nowhere` of `//pkg:b` matches nothing",
        "targets/pkg/BUILD.toml:12: `srcs` of `command` target `//pkg:c`: `missing.txt` does not exist",
        "targets/pkg/BUILD.toml:17: Unknown target `//pkg:nothing`",
    ]


def test_reports_the_faults_of_every_package(workspace: FakeWorkspace) -> None:
    workspace.build("x = 1", "a")
    workspace.build("x = 1", "b")

    assert [line.partition(" ")[0] for line in workspace.error("//...").splitlines() if "hint" not in line] == [
        "targets/a/BUILD.toml:1:",
        "targets/b/BUILD.toml:1:",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [("[a]\nrule = \n", 2), ("[a]\nb = 1\nb = 2\n", 3), ("[a\n", 1), ("[a]\nb = [1,\n\n", 2), ('[a]\nb = """x', 2)],
)
def test_a_syntax_error_has_its_line(workspace: FakeWorkspace, text: str, line: int) -> None:
    workspace.write("targets/pkg/BUILD.toml", text)

    assert workspace.error("//pkg:x").startswith(f"targets/pkg/BUILD.toml:{line}: Is not TOML: ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[a]\nx = '\xff'\n", "targets/pkg/BUILD.toml:2: Is not UTF-8"),
        (b"[a]\nx = " + b"1" * 5000, "targets/pkg/BUILD.toml: Is not TOML: exceeds the limit"),
        (b"[a]\n\nx = [{ y = 99999999999999999999 }]", "targets/pkg/BUILD.toml:3: Is a number of more than 64 bits"),
        (b"x = " + b"[" * 3000, "targets/pkg/BUILD.toml: Is not TOML: "),
    ],
)
def test_refuses_what_no_other_program_would_read(workspace: FakeWorkspace, content: bytes, expected: str) -> None:
    workspace.write("targets/pkg/BUILD.toml").write_bytes(content)

    assert workspace.error("//pkg:x").startswith(expected)


def test_finds_the_lines_of_keys_between_texts_and_lists_of_many_lines(workspace: FakeWorkspace) -> None:
    workspace.build('''
        # a comment \u2028 with a line separator, which ends no line in TOML
        [x]
        rule = "command"
        shell = """
        [y]
        bad = 1
        """
        outs = [
            "a",
        ]
        "bad" = 1
        ''')

    assert workspace.error("//pkg:x").startswith("targets/pkg/BUILD.toml:11: Unknown attribute `bad`")


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (
            "//pgk:x",
            "Unknown package `//pgk` of `//pgk:x`: there is no `targets/pgk/BUILD.toml`\n  hint: Did you mean `pkg`?",
        ),
        ("//pgk:all", "Unknown package `//pgk` of `//pgk:all`"),
        ("//pkg/...", ""),
        ("//none/...", "No package matches `//none/...`\n  hint: A package is a folder with a BUILD.toml"),
        ("//pkg:wiegths", "Unknown target `//pkg:wiegths`\n  hint: Did you mean `weights`?"),
        ("//pkg/BUILD.toml:x", "Unknown package `//pkg/BUILD.toml`"),
    ],
)
def test_says_what_the_command_line_names_and_is_not_there(
    workspace: FakeWorkspace, patterns: str, expected: str
) -> None:
    workspace.build(MODEL)
    if expected:
        assert workspace.error(patterns).startswith(expected)
    else:
        assert workspace.requested(patterns) == ["//pkg:checkpoint", "//pkg:weights"]


def test_a_name_unknown_in_a_broken_package_is_unknown(workspace: FakeWorkspace) -> None:
    workspace.build("[a]\nrule = 'command'\nouts = ['a']\nplatforms = ['nope']\n", "broken")
    workspace.build("[b]\nrule = 'command'\nouts = ['a']\ndeps = ['//broken:c']\n")

    assert workspace.error("//pkg:b").startswith("targets/pkg/BUILD.toml:4: Unknown target `//broken:c`")


def test_a_cycle_is_shown(workspace: FakeWorkspace) -> None:
    workspace.build("""
        [a]
        rule = "command"
        outs = ["a"]
        deps = [":b"]

        [b]
        rule = "command"
        outs = ["b"]
        deps = [":a"]
        """)

    assert workspace.error("//pkg:a") == (
        "targets/pkg/BUILD.toml:1: Targets depend on each other: `//pkg:a` -> `//pkg:b` -> `//pkg:a`\n"
        "  hint: Take one of these dependencies away"
    )


def test_packages_lie_in_folders_below(workspace: FakeWorkspace) -> None:
    for package in ("", "a", "a/b", "_private", ".hidden", "forge-out"):
        workspace.build("[x]\nrule = 'command'\nouts = ['a']\n", package)
    (workspace.root / "targets" / "link").symlink_to("a")

    assert workspace.requested("//...") == ["//:x", "//a:x", "//a/b:x"]


@pytest.mark.parametrize("package", ["my folder", "ä", b"\xff".decode(errors="surrogateescape")])
def test_a_folder_whose_name_is_no_package_s_is_named(workspace: FakeWorkspace, package: str) -> None:
    workspace.build("[x]\nrule = 'command'\nouts = ['a']\n", package)

    assert f"{package!a} cannot be the name of a package" in workspace.error("//...")


def test_what_is_excluded_is_not_read(workspace: FakeWorkspace) -> None:
    workspace.build(MODEL)
    workspace.build("[", "broken")

    assert workspace.requested("//...", "-//broken/...") == ["//pkg:checkpoint", "//pkg:weights"]


def test_an_excluded_package_that_something_needs_is_read_but_not_built(workspace: FakeWorkspace) -> None:
    workspace.build(MODEL)
    workspace.build("[m]\nrule = 'model'\nsource = '//pkg:checkpoint'\n", "other")

    assert workspace.requested("//...", "-//pkg:all") == ["//other:m"]


def test_a_target_taken_away_with_its_package_is_not_read(workspace: FakeWorkspace) -> None:
    workspace.build(MODEL)

    assert workspace.requested("//pkg:weights", "-//pkg:all") == []


def test_the_package_toolchains_is_taken(workspace: FakeWorkspace) -> None:
    workspace.build("[x]\nrule = 'command'\nouts = ['a']\n", "toolchains")

    assert workspace.error("//...").startswith(
        "targets/toolchains/BUILD.toml: The package `//toolchains` is forge's own"
    )


def test_wildcards_skip_what_is_manual(workspace: FakeWorkspace) -> None:
    workspace.build(MODEL + "[m]\nrule = 'command'\nouts = ['a']\ntags = ['manual']\n")

    assert workspace.requested("//...") == ["//pkg:checkpoint", "//pkg:weights"]


def test_what_is_manual_can_be_named(workspace: FakeWorkspace) -> None:
    assert workspace.requested("//toolchains:busybox") == ["//toolchains:busybox@amd64", "//toolchains:busybox@arm64"]


def test_the_toolchains_can_be_named_as_a_folder(workspace: FakeWorkspace) -> None:
    assert workspace.requested("//toolchains/...") == []


def test_a_build_file_that_is_a_folder_is_an_error(workspace: FakeWorkspace) -> None:
    workspace.write("targets/pkg/BUILD.toml/x")

    assert "Is not a regular file" in workspace.error("//pkg:x")


def test_a_target_is_what_was_declared(workspace: FakeWorkspace) -> None:
    workspace.build("[x]\nrule = 'command'\nouts = ['a']\ntags = ['slow']\ndescription = 'Make a'\n")
    target = workspace.target("//pkg:x")

    assert (target.rule, target.place, target.tags, target.description, dict(target.declared)) == (
        "command", "targets/pkg/BUILD.toml:1", frozenset({"slow"}), "Make a", {"rule": "command", "outs": ["a"]},
    )  # fmt: skip


def test_a_bare_name_where_there_is_no_package_says_how_to_write_it(workspace: FakeWorkspace) -> None:
    assert "is a name in the package `//`, and there is no `targets/BUILD.toml`" in workspace.error(":nope")

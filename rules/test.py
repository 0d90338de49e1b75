"""`test`: boots an image's file system, waits until it is ready, sends requests and checks the answers."""

from __future__ import annotations

from forge.api import Attributes, Context, Field, ImageInfo, Source, SourceFile, TargetLabel, TestInfo, rule

_HARNESS = Source("forge_runtime/harness.py", "runtime")


class Attrs(Attributes):
    """Attributes of `test`."""

    image: TargetLabel
    """Image to boot."""
    cases: SourceFile
    """JSON: a list of requests, each with what its answer must be; see the runtime's README."""
    timeout: int = Field(default=300, gt=0)
    """Seconds for everything."""


@rule("test", Attrs, platforms_from="image", is_test=True)
def analyze(context: Context, attrs: Attrs) -> TestInfo:
    """Ask for one action: server and client in one sandbox, with a loopback of its own."""
    image = context.dep(attrs.image, ImageInfo)
    report = context.boot(
        image,
        ["/usr/bin/python3", "/build/harness.py", "--cases", "/build/cases.json", "--report", "/build/out/report.json"],
        inputs={"harness.py": _HARNESS, "cases.json": attrs.cases},
        outputs=["report.json"],
        timeout=attrs.timeout,
    )
    return TestInfo({f"{context.label.name}.report.json": report}, report)

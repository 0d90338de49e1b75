"""The command: options to calls, results to files and text, errors to exit statuses."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import selectors
import signal
import sys
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, TypeVar

from forge_client import errand
from forge_client.bench import Outcome, Plan, Tolerance, bench
from forge_client.error import ClientError, UsageFault
from forge_client.loop import Bound, Record
from forge_client.option import Options, parse
from forge_client.page import page
from forge_client.preparation import Prepared, data_of, prepare, retries_of, server_of, timeouts_of
from forge_client.report import Report, environment, table, to_json
from forge_client.sweep import steps

__all__ = ["main"]

T = TypeVar("T")
INTERRUPTED = 130
SELECTABLE = 900
"""Connections for which `select` will do: it knows files up to 1024."""


def main(argv: list[str]) -> int:
    """Run a command line; its exit status."""
    try:
        options = parse(argv, os.environ)
        _check_places(options)
        if options.command == "bench":
            return _bench(options)
        return _infer(options) if options.command == "infer" else _errand(options)
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("forge_client: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _bench(options: Options) -> int:
    plan = _plan(options)
    tags = _tags(options)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    prepared, outcome = _run(_measure(options, plan), precise=bool(plan.rates) and plan.connections <= SELECTABLE)
    report = Report(
        target=str(prepared.asking.address),
        api=prepared.api,
        model=prepared.model,
        dataset=prepared.data,
        started=started,
        levels=outcome.levels,
        good=outcome.good,
        stopped=outcome.stopped,
        warmup_errors=outcome.warmup_errors,
        tags=tags,
        plan={**dataclasses.asdict(plan), **_asked(prepared)},
        client=environment(),
    )
    if options.json is not None:
        _write(options.json, to_json(report).encode())
    if options.html is not None:
        _write(options.html, page(report).encode())
    sys.stdout.write(to_json(report) if options.output == "json" else table(report))
    sys.stdout.flush()
    if not outcome.good:
        print(f"error: {outcome.stopped}", file=sys.stderr)
    return 0 if outcome.good else 1


async def _measure(options: Options, plan: Plan) -> tuple[Prepared, Outcome]:
    server = server_of(options)
    dataset = data_of(options)
    await server.wait_until_ready(options.wait)
    prepared = await prepare(server, options, dataset, batch=options.batch, stream=options.stream)
    show = _Progress(not options.quiet and sys.stderr.isatty())
    try:
        return prepared, await bench(server, prepared.calls, plan, show)
    finally:
        show.clear()


def _plan(options: Options) -> Plan:
    rates = steps(options.rate, "--rate", whole=False) if options.rate is not None else ()
    concurrency = steps(options.concurrency, "--concurrency", whole=True)
    pacing: Literal["constant", "poisson"] = "poisson" if options.pacing == "poisson" else "constant"
    return Plan(
        concurrency=tuple(int(each) for each in concurrency),
        rates=rates,
        pacing=pacing,
        bound=Bound(options.requests, options.duration),
        warmup=options.warmup,
        seed=options.seed,
        retries=retries_of(options),
        timeouts=timeouts_of(options),
        tolerance=Tolerance.parse(options.max_errors),
        max_latency_ms=options.max_latency_ms,
        connections=options.max_connections,
        server_metrics=options.server_metrics,
    )


def _asked(prepared: Prepared) -> Mapping[str, object]:
    """Tell how requests were made, but for their headers: there may be a secret in one."""
    asking = prepared.asking
    return {
        "batch": asking.batch,
        "max_tokens": asking.max_tokens,
        "stream": asking.stream,
        "check": asking.check,
    }


def _tags(options: Options) -> dict[str, str]:
    pairs = [text.partition("=") for text in options.tag]
    if wrong := [text for text, (name, equals, _) in zip(options.tag, pairs, strict=True) if not (name and equals)]:
        raise UsageFault(f"--tag {wrong[0]!a} has no name and `=`")
    return {name: value for name, _, value in pairs}


def _infer(options: Options) -> int:
    answered = _run(errand.infer(options))
    _deliver(options, answered.body)
    per_second = answered.items / answered.seconds if answered.seconds else 0.0
    took = f"{answered.items} items in {answered.seconds:.3f} s, {per_second:.3g} a second"
    if not options.quiet:
        print(took, file=sys.stderr)
    return 0


def _errand(options: Options) -> int:
    _deliver(options, _run(errand.run(options)))
    return 0


def _deliver(options: Options, body: bytes) -> None:
    if options.to is not None:
        _write(options.to, body)
        return
    sys.stdout.buffer.write(body if body.endswith(b"\n") or not body else body + b"\n")
    sys.stdout.flush()


def _check_places(options: Options) -> None:
    """Look beforehand whether what is measured for an hour can be written."""
    for path in (options.json, options.html, options.to):
        if path is not None and (path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK)):
            raise UsageFault(f"{path}: Cannot be written", "Name a file in a folder that is there")


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ClientError(f"{path}: Cannot be written: {error.strerror}") from error


def _run(work: Coroutine[None, None, T], *, precise: bool = False) -> T:
    """Run a coroutine; a signal to stop cancels it.

    `precise` wakes up when it is time to: epoll counts whole milliseconds, and rounds up.
    """
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector() if precise else None)
    try:
        task = loop.create_task(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(ValueError, RuntimeError):  # not in the main thread
                loop.add_signal_handler(number, task.cancel)
        return loop.run_until_complete(task)
    finally:
        loop.run_until_complete(_wind_up())
        loop.close()


async def _wind_up() -> None:
    """Let everything that still runs end, and what was hung up be closed."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for each in left:
        each.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.sleep(0)


class _Progress:
    """One line on a terminal that says what runs."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown

    def __call__(self, name: str, record: Record | None) -> None:
        if not self._shown:
            return
        done = f": {len(record.samples)} of {record.begun} answered" if record is not None else ""
        lost = (
            f", {len(record.samples) - record.answered} badly"
            if record and record.answered < len(record.samples)
            else ""
        )
        sys.stderr.write(f"\r\033[K{name}{done}{lost}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

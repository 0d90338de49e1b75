"""The process of an image: configure, serve, end with a status that says how it went."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from forge_runtime import config_file, log
from forge_runtime.backend import Backend, check_backend
from forge_runtime.error import StartError
from forge_runtime.handler import load_handler
from forge_runtime.service import EXIT_OK, EXIT_USAGE, Service

__all__ = ["main", "run"]

logger = logging.getLogger("forge_runtime")


def main(environ: Mapping[str, str], *, backend: Callable[[], Backend] | None = None) -> int:
    """Serve what the configuration says; return the exit status."""
    tail = log.Tail()
    log.configure(tail=tail, waits=False)
    # As process 1 a signal without a handler is ignored: nothing is in flight yet, so end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_OK))
    # The root file system is read-only, and handler.py's folder is nobody's to write.
    sys.dont_write_bytecode = True
    try:
        config = config_file.load(environ)
        logging.getLogger().setLevel(logging.DEBUG if config.debug else logging.INFO)
        if backend is None:
            check_backend(config.backend)
        handler = load_handler(config.server)
        service = Service(config, handler=handler, backend=backend, tail=tail)
    except StartError as error:
        log.event(logger, logging.ERROR, str(error), error=error.__cause__)
        return EXIT_USAGE
    # What was imported stays: to look through it for garbage takes 20 ms and more, in which nobody is served.
    gc.freeze()
    status = service.run()
    if not service.end():
        log.event(logger, logging.WARNING, "Ending while something still runs")
    return status


def run(environ: Mapping[str, str], *, backend: Callable[[], Backend] | None = None) -> NoReturn:
    """Serve likewise, and end the process: whatever thread still runs, or waits for a stream that nobody reads."""
    status = main(environ, backend=backend)
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(status)


if __name__ == "__main__":
    run(os.environ)

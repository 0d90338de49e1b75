"""What every forge image carries: a server around one model and its backend."""

from forge_runtime.backend import Generation
from forge_runtime.error import LoadError, RequestError
from forge_runtime.lifecycle import Lifecycle
from forge_runtime.request import Request, Sampling
from forge_runtime.server import BaseServer

__all__ = ["BaseServer", "Generation", "Lifecycle", "LoadError", "Request", "RequestError", "Sampling"]

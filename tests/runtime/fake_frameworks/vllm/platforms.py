"""On what it runs."""

from types import SimpleNamespace

current_platform = SimpleNamespace(device_type="cuda")

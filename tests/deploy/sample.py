"""Services to write about."""

from __future__ import annotations

from forge.core.label import Label
from forge.deploy.service import Service

CPU = Service(
    label=Label("shop", "cpu_llm_trf"),
    name="shop-cpu-llm-trf",
    image="acme/shop:cpu_llm_trf",
    port=3000,
    arch="amd64",
    is_probed=True,
    drain_s=12.5,
    environ=(("GREETING", "a\nb: $(id) ${HOME} $$ {{x}} #"),),
    secrets=("HF_TOKEN",),
)
GPU = Service(Label("shop", "gpu"), "shop-gpu", "acme/shop:gpu", 3000, "amd64", has_cuda=True, is_probed=True)
JETSON = Service(
    Label("shop", "agx"), "shop-agx", "acme/shop:agx", 3000, "arm64", has_cuda=True, is_jetson=True, is_probed=True
)
OWN = Service(Label("own", "tool"), "own-tool", "acme/own:tool", 80)
"""Of somebody's own Dockerfile, for several architectures."""

"""`python3 -m forge_client`."""

from __future__ import annotations

import sys

from forge_client.cli import main

sys.exit(main(sys.argv[1:]))

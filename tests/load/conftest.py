"""What the tests of load and faults share."""

from __future__ import annotations

import resource

import pytest

DESCRIPTORS = 4096


@pytest.fixture(scope="session", autouse=True)
def many_descriptors() -> None:
    """Raise the limit, here and for the servers that are started here: a thousand connections are held."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        pytest.skip(f"Only {hard} descriptors may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, DESCRIPTORS), hard))

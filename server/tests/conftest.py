"""Fixtures of all tests."""

from pathlib import Path

import pytest

from support import Site


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)

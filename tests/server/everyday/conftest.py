from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clap_server.clap.builtin import load_builtin

if TYPE_CHECKING:
    from clap_server.clap.model import ClapModel


@pytest.fixture(scope="session")
def builtin() -> ClapModel:
    return load_builtin("cpu")

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clap_server.clap.builtin import load_builtin
from clap_server.detection.everyday.preparing import prepared

if TYPE_CHECKING:
    from clap_server.clap.model import ClapModel


@pytest.fixture(scope="session")
def builtin(tmp_path_factory: pytest.TempPathFactory) -> ClapModel:
    return prepared(load_builtin("cpu"), tmp_path_factory.mktemp("models"), print)

"""Runs `wsseg` as users do."""

import os

import pytest

from tests import commands


@pytest.fixture
def wsseg(tmp_path):
    """Return a function that runs a command line in `tmp_path` and returns the finished process."""
    env = {name: value for name, value in os.environ.items() if name != "WSSEG_STORE"}
    return lambda *arguments: commands.run(*arguments, cwd=tmp_path, env=env)

"""Stacks that several tests share: they are started once, and all of them end with the run."""
import os

import pytest

import engine
from engine import Project

# A run that was told to need an engine does not pass without one.
REQUIRED = os.environ.get("DOCKER_TESTS") == "required"


def pytest_collection_modifyitems(items):
    needing = [item for item in items if item.get_closest_marker("engine")]
    if not needing or engine.there():
        return
    if REQUIRED:
        raise pytest.UsageError("no Docker engine with Compose answers, and DOCKER_TESTS=required")
    for item in needing:
        item.add_marker(pytest.mark.skip(reason="no Docker engine with Compose answers"))


@pytest.fixture(scope="session")
def production():
    project = Project("production")
    try:
        project.output = project.start().stdout
        yield project
    finally:
        project.close()


@pytest.fixture(scope="session")
def http(production):
    with production.client() as client:
        yield client


@pytest.fixture
def copy():
    """A checkout in which nothing runs yet."""
    made = []

    def make(environment, **settings):
        made.append(Project(environment, **settings))
        return made[-1]

    yield make
    for project in made:
        project.close()

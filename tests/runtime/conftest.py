"""Models that the tests of this folder share; Keras is imported by the first test that asks for one."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What the probes remember goes to a folder of the tests."""
    from deeplabv3p.runtime.probe import CACHE_VARIABLE

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def model():
    from tiny_model import make_model

    return make_model()


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """The model in both formats, by suffix."""
    from tiny_model import SUFFIXES, make_spec

    from deeplabv3p.runtime.keras_engine import save_model

    folder = tmp_path_factory.mktemp("saved")
    for suffix in SUFFIXES:
        save_model(model, make_spec(), folder / f"m{suffix}")
    return {suffix: folder / f"m{suffix}" for suffix in SUFFIXES}


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A model of fixed size in every format that can be written here."""
    from exported import export_all

    return export_all(tmp_path_factory.mktemp("exported"))

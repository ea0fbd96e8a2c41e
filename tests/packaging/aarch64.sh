#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the wheel for aarch64 by a cross compiler and passes the tests of the CPU ops in
# an emulator: aarch64.sh FOLDER [OPTION OF PYTEST ...]. As root on Debian or Ubuntu, whose
# Python for arm64 is unpacked into FOLDER, not installed.
set -euo pipefail

folder=$(realpath -m "$1")
shift
repository=$(realpath "$(dirname "$0")/../..")
root=$folder/root site=$folder/site source=$folder/source
tests=(cross_selective_scan derivatives dilated_depthwise extension memory_readout
       memory_select selective_scan)

emulated() {
  qemu-aarch64-static -cpu neoverse-n1 -L "$root" \
    -E LD_LIBRARY_PATH="$site/torch/lib" -E PYTHONPATH="$PYTHONPATH" \
    -E OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" "$root/usr/bin/python3" "$@"
}

install() {
  python3 -m pip install --quiet --root-user-action ignore --disable-pip-version-check \
    --upgrade --target "$1" "${@:2}"
}

if ! command -v qemu-aarch64-static aarch64-linux-gnu-g++ > /dev/null; then
  apt-get update -qq
  apt-get install -qq g++-aarch64-linux-gnu qemu-user-static > /dev/null
fi
if [ ! -e "$root/usr/bin/python3" ]; then
  dpkg --add-architecture arm64
  apt-get update -qq
  mkdir -p "$folder/packages" "$root"
  cd "$folder/packages"
  # What Python needs, without what its packages suggest.
  apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
    --no-replaces --no-enhances python3:arm64 libgomp1:arm64 libstdc++6:arm64 | grep -o '^[a-z].*:arm64' |
    sort -u | xargs apt-get download -qq
  for package in *.deb; do dpkg -x "$package" "$root"; done
fi

export PYTHONPATH=$site
if [ ! -e "$site/torch" ]; then
  version=$(emulated -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  # The oldest torch that the wheel supports; the wheel for aarch64 is for the CPU alone.
  install "$site" --no-deps --only-binary=:all: --python-version "$version" \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
    --platform manylinux2014_aarch64 --platform any \
    torch==2.10.0 numpy pytest pluggy iniconfig packaging pygments typing_extensions sympy \
    mpmath networkx filelock fsspec jinja2 markupsafe safetensors 'setuptools>=77,<82'
fi

rm -rf "$source"
git clone --quiet "$repository" "$source"
cd "$source"
CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++ FORCE_CUDA=0 USE_NINJA=0 \
  emulated setup.py --quiet bdist_wheel
rm -rf mmadaptor build "$folder/installed"
python3 -m pip --disable-pip-version-check install --quiet --no-deps --no-compile \
  --root-user-action ignore --target "$folder/installed" --python-version 3.11 \
  --only-binary=:all: --platform linux_aarch64 dist/*.whl
files=("${tests[@]/#/tests/ops/test_}")
PYTHONPATH=$folder/installed:$site:$source/tests:$source
# That test starts another Python, which the machine cannot run by itself.
emulated -m pytest -q -p no:cacheprovider --deselect \
  tests/ops/test_selective_scan.py::test_without_the_library_the_call_says_how_to_build_it \
  "$@" "${files[@]/%/.py}"

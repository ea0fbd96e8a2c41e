# SPDX-License-Identifier: Apache-2.0
"""What torch's dispatcher calls around the compiled kernels, in Python.

The library registers kernels for the CPU and CUDA. Fake kernels, autocast rules and
errors are the same for all devices and are registered from here.
"""

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from mmadaptor.environment import install
from mmadaptor.ops import _extension

_AGAIN = install('mmadaptor', '--force-reinstall', '--no-deps')
_NO_CUDA = (
    "mmadaptor::{}: mmadaptor's compiled ops were built for the CPU alone. Run on the "
    'CPU with CUDA_VISIBLE_DEVICES=-1, or build them again (the build reports missing '
    f'parts of the CUDA toolkit): FORCE_CUDA=1 {_AGAIN}'
)


class _Library(torch.library.Library):
    """A library whose autograd kernels refuse forward-mode derivatives.

    torch's own kernels would drop them. The functions of `mmadaptor.ops` compute them
    by the definitions; a traced or exported graph calls the ops directly.
    """

    def impl(
        self, op_name: str, fn: Callable, dispatch_key: str = '', **options: Any
    ) -> None:
        """Register a kernel; see torch.library.Library.impl."""
        if dispatch_key == 'Autograd':
            fn = functools.partial(_without_tangents, fn, op_name)
        super().impl(op_name, fn, dispatch_key, **options)


LIBRARY = _Library('mmadaptor', 'IMPL')


def _without_tangents(kernel: Callable, name: str, keys: Any, *args: Any) -> Any:
    if forward_ad._current_level >= 0:
        op = getattr(torch.ops.mmadaptor, name).default
        for argument, value in zip(op._schema.arguments, args, strict=True):
            if (
                isinstance(value, Tensor)
                and forward_ad.unpack_dual(value).tangent is not None
            ):
                raise NotImplementedError(
                    f'mmadaptor::{name}: `{argument.name}` has a forward-mode '
                    'derivative, which the compiled op does not propagate: call the '
                    'function of mmadaptor.ops, not the op or a traced or exported '
                    'graph'
                )
    try:
        return kernel(keys, *args)
    except RuntimeError as error:
        raise_out_of_memory(error, *args)
        raise


def raise_out_of_memory(error: RuntimeError, *args: Any) -> None:
    """Raise torch's own exception of a GPU without memory, if that was the error.

    A library on the stable ABI can only raise RuntimeErrors.
    """
    on_gpu = any(isinstance(x, Tensor) and x.is_cuda for x in args)
    if on_gpu and 'mmadaptor: out of memory' in str(error):
        raise torch.OutOfMemoryError(str(error)) from None


def register(name: str, kernel: Callable, key: str, **options: Any) -> None:
    """Register a kernel in Python for an op and a dispatch key."""
    if _extension.PROBLEM is None:
        LIBRARY.impl(name, kernel, key, **options)


def register_fake(name: str) -> Callable:
    """Return a decorator that registers an op's fake kernel.

    It also registers an error for tensors on a GPU if the library has no CUDA kernels.
    """

    def decorate(kernel: Callable) -> Callable:
        if _extension.PROBLEM is None:
            torch.library.register_fake(f'mmadaptor::{name}', kernel)
            if not _extension.HAS_CUDA:
                register(name, functools.partial(_refuse_cuda, name), 'CUDA')
        return kernel

    return decorate


def _refuse_cuda(name: str, *args: Any) -> None:
    raise RuntimeError(_NO_CUDA.format(name))


_AUTOCAST: dict[str, Callable] = {}


def register_autocast(name: str, lower: Callable) -> None:
    """Register the autocast rule of an op.

    Args:
        name: The op.
        lower: Returns the arguments in the dtypes in which the op is to be called,
            given autocast's dtype and the arguments.
    """
    _AUTOCAST[name] = lower
    op = getattr(torch.ops.mmadaptor, name, None)
    for key in ('AutocastCPU', 'AutocastCUDA'):
        device = key.removeprefix('Autocast').lower()
        itself = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

        def call(*args: Any, device: str = device, itself: Any = itself) -> Any:
            lowered = lower(torch.get_autocast_dtype(device), *args)
            # As torch.library.register_autocast; the context of torch.autocast takes
            # longer than a small op.
            with torch._C._ExcludeDispatchKeyGuard(itself):
                return op(*lowered)

        register(name, call, key)


def full_precision(device: torch.device) -> AbstractContextManager:
    """Return a context without autocast; the meta device has no autocast."""
    if device.type == 'meta':
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def as_autocast(function: Callable, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Return the arguments of a public function in the dtypes that autocast wants."""
    device = device_of(args, kwargs).type
    rule = _AUTOCAST.get(function.__name__)
    if rule is None or device == 'meta' or not torch.is_autocast_enabled(device):
        return args, kwargs
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return rule(torch.get_autocast_dtype(device), *bound.args), {}


def device_of(args: tuple, kwargs: dict) -> torch.device:
    """Return the device of the first tensor."""
    tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
    return tensors[0].device


def lower(dtype: torch.dtype, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """Cast maps and coefficients to autocast's dtype; float64 and None stay.

    float16 becomes float32: the sum over the directions, of states that are sums over
    all steps, exceeds 65504, the largest number of float16.
    """
    if dtype == torch.float16:
        dtype = torch.float32
    return tuple(
        t.to(dtype)
        if t is not None and t.is_floating_point() and t.dtype != torch.float64
        else t
        for t in tensors
    )


def to_dtype_of_first(_: torch.dtype, first: Tensor, *others: Any) -> tuple:
    """Cast floating-point tensors to the dtype of the first: an autocast rule.

    The maps that memory ops sample are never lowered. Predictions, which linear layers
    under autocast computed in the lower dtype, are cast to the dtype of the maps. Even
    so, a location with an 8-bit mantissa is off by up to half a pixel on a map of 128
    pixels.
    """
    return (
        first,
        *(
            t.to(first.dtype) if isinstance(t, Tensor) and t.is_floating_point() else t
            for t in others
        ),
    )


def find_problem(function: Callable, args: tuple, kwargs: dict) -> str | None:
    """Call a function without data, so that fake kernels check the arguments.

    Returns:
        The message of their ValueError; None if they accept the arguments, or if the
        call cannot be made without data.
    """
    if torch.compiler.is_compiling():
        return None
    mode = FakeTensorMode()

    def fake(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if x.layout != torch.strided:
            return mode.from_tensor(x)
        # From its metadata: torch.func's tensors cannot be converted.
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)

    try:
        with mode:
            function(*map(fake, args), **{name: fake(x) for name, x in kwargs.items()})
    except ValueError as error:
        return str(error)
    except Exception:  # the caller raises the error of the real call
        return None
    return None

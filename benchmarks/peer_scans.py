# SPDX-License-Identifier: Apache-2.0
"""The selective scan by other packages, with the arguments of ours.

Each peer is a function that prepares the scan for given inputs and returns a function
of these inputs. Where a package only solves `h_t = a_t h_{t-1} + b_t`, the rest of the
scan is done here in torch.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmadaptor import ops
from mmadaptor.export.custom_ops import custom_op_table, custom_ops_library
from mmadaptor.export.decompositions import Decompositions
from mmadaptor.export.onnx import FUSED_OPSET, OPSETS
from mmadaptor.ops.selective_scan import reference

Inputs = dict[str, Tensor]
Scan = Callable[..., Tensor]

MOST_FILLED = 1e10
"""Bound of `B D N L^2`, above which a backward pass quadratic in L is not run."""


@dataclass(frozen=True)
class Case:
    """Sizes of a scan.

    Args:
        name: Where these sizes occur.
        batch: B.
        channels: D.
        length: L.
        states: N.
    """

    name: str
    batch: int
    channels: int
    length: int
    states: int

    @property
    def title(self) -> str:
        """Name and sizes."""
        shape = (self.batch, self.channels, self.length)
        return f'{self.name}: {shape}, N = {self.states}'

    def inputs(self, device: str = 'cpu') -> Inputs:
        """Create random inputs of the scan with `delta_softplus`, float32."""
        generator = torch.Generator().manual_seed(0)
        maps = (self.batch, self.channels, self.length)
        groups = (self.batch, self.states, self.length)
        shapes = dict(
            u=maps,
            delta=maps,
            A=(self.channels, self.states),
            B=groups,
            C=groups,
            D=(self.channels,),
            delta_bias=(self.channels,),
        )
        inputs = {n: torch.randn(s, generator=generator) for n, s in shapes.items()}
        inputs['A'] = -inputs['A'].abs()
        inputs['delta'] -= 2
        return {name: t.to(device) for name, t in inputs.items()}


CASES = (
    Case('VMamba-T, stage 1', 1, 384, 3136, 1),
    Case('the same with 16 states', 1, 384, 3136, 16),
    Case('Vim-Ti, 8 images', 8, 384, 197, 16),
    Case('Mamba-130M', 1, 1536, 1024, 16),
)


@dataclass(frozen=True)
class Peer:
    """A scan to compare with.

    Args:
        name: Name of its row.
        build: Prepares the scan for inputs.
        packages: Modules that must be importable.
        gradients: Whether it has a backward pass.
        longest: Largest L.
        quadratic: Whether its backward pass takes time quadratic in L.
        devices: Devices that it runs on.
    """

    name: str
    build: Callable[[Inputs], Scan]
    packages: tuple[str, ...] = ()
    gradients: bool = True
    longest: float = float('inf')
    quadratic: bool = False
    devices: tuple[str, ...] = ('cpu', 'cuda')

    def problem(self, case: Case, device: str) -> str | None:
        """Return why it cannot run, or None."""
        if device not in self.devices:
            return f'not run: needs {self.devices[0]}'
        missing = [p for p in self.packages if importlib.util.find_spec(p) is None]
        if missing:
            return f'missing: {", ".join(missing)} is not installed'
        if case.length > self.longest:
            return f'not run: L is above {self.longest}'
        return None

    def has_step(self, case: Case) -> bool:
        """Return whether forward and backward are run at these sizes."""
        filled = case.batch * case.channels * case.states * case.length**2
        return self.gradients and not (self.quadratic and filled > MOST_FILLED)


def ours(**inputs: Tensor) -> Tensor:
    """Call :func:`mmadaptor.ops.selective_scan`."""
    return ops.selective_scan(**inputs, delta_softplus=True)


def definition(**inputs: Tensor) -> Tensor:
    """Call the definition of the op in torch."""
    return reference.selective_scan(**inputs, delta_softplus=True)


def _of_recurrence(solve: Callable[[Tensor, Tensor], Tensor]) -> Scan:
    """Return the scan by a solver of `h_t = a_t h_{t-1} + b_t`.

    Args:
        solve: Takes a and b `(B, L, D, N)`, returns h.
    """

    def scan(
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        delta_bias: Tensor,
    ) -> Tensor:
        x, step = u.transpose(1, 2), F.softplus(delta.transpose(1, 2) + delta_bias)
        B, C = B.transpose(1, 2), C.transpose(1, 2)  # (B, L, N)
        a = torch.exp(step.unsqueeze(-1) * A)  # (B, L, D, N)
        h = solve(a, (step * x).unsqueeze(-1) * B.unsqueeze(2))
        return ((h @ C.unsqueeze(-1)).squeeze(-1) + D * x).transpose(1, 2)

    return scan


def _mambapy(_: Inputs) -> Scan:
    from mambapy.pscan import pscan

    return _of_recurrence(pscan)


def _assoc_scan(_: Inputs) -> Scan:
    from assoc_scan import AssocScan

    return _of_recurrence(AssocScan())


def _by_channels(solve: Callable[[Tensor, Tensor], Tensor]) -> Scan:
    """Return the scan by a solver that takes `(B, C, L)`, L a power of 2."""

    def states(a: Tensor, b: Tensor) -> Tensor:
        length, inner = a.shape[1], a.shape[2:]
        padding = (0, max(32, 1 << (length - 1).bit_length()) - length)
        a, b = (F.pad(t.flatten(2).transpose(1, 2), padding) for t in (a, b))
        h = solve(a.contiguous(), b.contiguous())
        return h[..., :length].transpose(1, 2).unflatten(2, inner)

    return _of_recurrence(states)


def _accelerated_reference(_: Inputs) -> Scan:
    from accelerated_scan.ref import scan

    return _by_channels(scan)


def _accelerated_triton(_: Inputs) -> Scan:
    from accelerated_scan.scalar import scan

    return _by_channels(scan)


def _associative(_: Inputs) -> Scan:
    from torch._higher_order_ops.associative_scan import associative_scan

    def combine(left: list[Tensor], right: list[Tensor]) -> tuple[Tensor, Tensor]:
        return left[0] * right[0], right[0] * left[1] + right[1]

    def solve(a: Tensor, b: Tensor) -> Tensor:
        return associative_scan(combine, (a, b), dim=1, combine_mode='generic')[1]

    return torch.compile(_of_recurrence(solve), dynamic=False)


def _one_step(
    h: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the next state `(B, D, N)` and the output `(B, D)`."""
    step = F.softplus(delta + delta_bias)
    h = torch.exp(step.unsqueeze(-1) * A) * h + (step * u).unsqueeze(-1) * B[:, None]
    return h, (h * C[:, None]).sum(-1) + D * u


def _loop(one_step: Callable) -> Scan:
    def scan(
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        delta_bias: Tensor,
    ) -> Tensor:
        h, outputs = A.new_zeros(len(u), *A.shape), []
        # Slices by an index would each have a gradient of the size of the whole.
        for now in zip(*(t.unbind(-1) for t in (u, delta, B, C)), strict=True):
            x, step, b, c = now
            h, y = one_step(h, x, step, A, b, c, D, delta_bias)
            outputs.append(y)
        return torch.stack(outputs, dim=-1)

    return scan


def _transformers(mambapy: bool) -> Callable[[Inputs], Scan]:
    def build(_: Inputs) -> Scan:
        from transformers.models.mamba.modeling_mamba import mamba_selective_scan

        def scan(
            u: Tensor,
            delta: Tensor,
            A: Tensor,
            B: Tensor,
            C: Tensor,
            D: Tensor,
            delta_bias: Tensor,
        ) -> Tensor:
            return mamba_selective_scan(
                u, delta, A, B, C, D, None, delta_bias, True, use_mambapy=mambapy
            )

        return scan

    return build


def _mamba_ssm(_: Inputs) -> Scan:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    return lambda **inputs: selective_scan_fn(**inputs, delta_softplus=True)


class _Ours(nn.Module):
    """Our op as a model to export; the order of arguments is that of the inputs."""

    def forward(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        delta_bias: Tensor,
    ) -> Tensor:
        """Call the op."""
        return ours(u=u, delta=delta, A=A, B=B, C=C, D=D, delta_bias=delta_bias)


def _onnxruntime(kind: str) -> Callable[[Inputs], Scan]:
    """Return what builds the scan as a graph of onnxruntime.

    Args:
        kind: `'com.microsoft'` or `''`, the domain of LinearAttention, or
            `'mmadaptor'` for a custom op with our kernel.
    """

    def build(inputs: Inputs) -> Scan:
        import onnxruntime

        custom = kind == 'mmadaptor'
        table = custom_op_table() if custom else Decompositions(kind).table()
        with torch.no_grad():
            program = torch.export.export(_Ours(), (), dict(inputs), strict=False)
            program = program.run_decompositions(table)
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(inputs),
            opset_version=FUSED_OPSET if kind else OPSETS[0],
            verbose=False,
        )
        if not kind:
            exported.model.opset_imports[''] = OPSETS[1]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that go on spinning would slow the next peer down.
        options.add_session_config_entry('session.force_spinning_stop', '1')
        options.enable_cpu_mem_arena = False  # memory is given back, and seen
        if custom:
            options.register_custom_ops_library(str(custom_ops_library()))
        session = onnxruntime.InferenceSession(
            exported.model_proto.SerializeToString(),
            options,
            providers=['CPUExecutionProvider'],
        )

        def scan(**inputs: Tensor) -> Tensor:
            feed = {name: t.numpy() for name, t in inputs.items()}
            return torch.from_numpy(session.run(None, feed)[0])

        return scan

    return build


OURS = Peer('mmadaptor', lambda _: ours)
CPU_ONNX = dict(packages=('onnxruntime',), gradients=False, devices=('cpu',))
ACCELERATED = ('accelerated_scan',)
PEERS = (
    OURS,
    Peer('mmadaptor, in onnxruntime', _onnxruntime('mmadaptor'), **CPU_ONNX),
    Peer('onnxruntime, fused', _onnxruntime('com.microsoft'), **CPU_ONNX),
    Peer('onnxruntime, standard', _onnxruntime(''), **CPU_ONNX),
    Peer('mambapy', _mambapy, ('mambapy',)),
    Peer('transformers', _transformers(False), ('transformers',), quadratic=True),
    Peer('transformers, use_mambapy', _transformers(True), ('transformers', 'mambapy')),
    Peer('assoc-scan', _assoc_scan, ('assoc_scan',)),
    Peer('accelerated-scan, reference', _accelerated_reference, ACCELERATED),
    Peer("torch's associative_scan, compiled", _associative),
    Peer('loop', lambda _: _loop(_one_step)),
    Peer(
        'loop, a step compiled',
        lambda _: _loop(torch.compile(_one_step, dynamic=False)),
    ),
    # Its loop is unrolled, which takes minutes.
    Peer(
        'definition, compiled',
        lambda _: torch.compile(definition, dynamic=False),
        longest=256,
    ),
    Peer(
        'accelerated-scan, Triton', _accelerated_triton, ACCELERATED, devices=('cuda',)
    ),
    Peer('mamba_ssm', _mamba_ssm, ('mamba_ssm',), devices=('cuda',)),
)

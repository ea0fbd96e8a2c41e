# SPDX-License-Identifier: Apache-2.0
"""Reference VMamba and Vim in plain torch, for published state dicts.

Written from the definitions of the models, independently of mmadaptor.models, with
loops over pixels, maps `(C, H, W)` and the published names of the tensors.
"""

import math

import torch
import torch.nn.functional as F


def vmamba_shapes(dims, depths, states=1, ratio=1, classes=1000, dense=False):
    """Return the names and shapes of the tensors of a published VMamba."""
    half = dims // 2
    shapes = {
        'patch_embed.0.weight': (half, 3, 3, 3),
        'patch_embed.0.bias': (half,),
        'patch_embed.2.weight': (half,),
        'patch_embed.2.bias': (half,),
        'patch_embed.5.weight': (dims, half, 3, 3),
        'patch_embed.5.bias': (dims,),
        'patch_embed.7.weight': (dims,),
        'patch_embed.7.bias': (dims,),
    }
    for i, depth in enumerate(depths):
        c = dims * 2**i
        d, r = int(c * ratio), math.ceil(c / 16)
        for j in range(depth):
            block = {
                'norm.weight': (c,),
                'norm.bias': (c,),
                'op.x_proj_weight': (4, r + 2 * states, d),
                'op.A_logs': (4 * d, states),
                'op.Ds': (4 * d,),
                'op.dt_projs_weight': (4, d, r),
                'op.dt_projs_bias': (4, d),
                'op.out_norm.weight': (d,),
                'op.out_norm.bias': (d,),
                'op.in_proj.weight': (d, c),
                'op.conv2d.weight': (d, 1, 3, 3),
                'op.out_proj.weight': (c, d),
                'norm2.weight': (c,),
                'norm2.bias': (c,),
                'mlp.fc1.weight': (4 * c, c),
                'mlp.fc1.bias': (4 * c,),
                'mlp.fc2.weight': (c, 4 * c),
                'mlp.fc2.bias': (c,),
            }
            shapes |= {f'layers.{i}.blocks.{j}.{k}': v for k, v in block.items()}
        if i < 3:
            down = f'layers.{i}.downsample'
            shapes |= {
                f'{down}.1.weight': (2 * c, c, 3, 3),
                f'{down}.1.bias': (2 * c,),
                f'{down}.3.weight': (2 * c,),
                f'{down}.3.bias': (2 * c,),
            }
        if dense:
            shapes |= {f'outnorm{i}.weight': (c,), f'outnorm{i}.bias': (c,)}
    if not dense:
        shapes |= {
            'classifier.norm.weight': (c,),
            'classifier.norm.bias': (c,),
            'classifier.head.weight': (classes, c),
            'classifier.head.bias': (classes,),
        }
    return shapes


def vim_shapes(dims, depth, tokens=196, patch=16, states=16, classes=1000):
    """Return the names and shapes of the tensors of a published Vim."""
    d, r = 2 * dims, math.ceil(dims / 16)
    shapes = {
        'cls_token': (1, 1, dims),
        'pos_embed': (1, tokens + 1, dims),
        'patch_embed.proj.weight': (dims, 3, patch, patch),
        'patch_embed.proj.bias': (dims,),
        'head.weight': (classes, dims),
        'head.bias': (classes,),
    }
    for i in range(depth):
        block = {
            'norm.weight': (dims,),
            'mixer.in_proj.weight': (2 * d, dims),
            'mixer.out_proj.weight': (dims, d),
            'mixer.A_log': (d, states),
            'mixer.A_b_log': (d, states),
            'mixer.D': (d,),
            'mixer.D_b': (d,),
        }
        for b in ('', '_b'):
            block |= {
                f'mixer.conv1d{b}.weight': (d, 1, 4),
                f'mixer.conv1d{b}.bias': (d,),
                f'mixer.x_proj{b}.weight': (r + 2 * states, d),
                f'mixer.dt_proj{b}.weight': (d, r),
                f'mixer.dt_proj{b}.bias': (d,),
            }
        shapes |= {f'layers.{i}.{k}': v for k, v in block.items()}
    return shapes | {'norm_f.weight': (dims,)}


def weights(shapes, seed=0):
    """Return random float64 weights, scaled by the fan-in."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator, dtype=torch.float64)
        fan_in = math.prod(shape[1:]) if len(shape) > 1 else 4
        state[name] = value * fan_in**-0.5 + (name.endswith('norm.weight'))
    return state


def scan(u, delta, A, B, C, D):
    """Scan a sequence: `u`, `delta` `(L, D)`; `A` `(D, N)`; `B`, `C` `(L, N)`."""
    h, outputs = torch.zeros_like(A), []
    for t in range(len(u)):
        h = (delta[t, :, None] * A).exp() * h + (delta[t] * u[t])[:, None] * B[t]
        outputs.append(h @ C[t] + D * u[t])
    return torch.stack(outputs)


def layer_norm(x, state, name):
    """Normalize a map `(C, H, W)` over its channels."""
    y = F.layer_norm(
        x.movedim(0, -1),
        x.shape[:1],
        state[f'{name}.weight'],
        state[f'{name}.bias'],
        eps=1e-5,
    )
    return y.movedim(-1, 0)


def linear(x, weight, bias=None):
    """Apply a linear layer to the channels of a map `(C, H, W)`."""
    return F.linear(x.movedim(0, -1), weight, bias).movedim(-1, 0)


def ss2d(x, state, prefix):
    p = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    x = linear(x, p['in_proj.weight'])
    x = F.silu(F.conv2d(x[None], p['conv2d.weight'], padding=1, groups=len(x))[0])
    d, height, width = x.shape
    states = p['A_logs'].shape[1]
    rank = p['dt_projs_weight'].shape[2]
    rows = [(i, j) for i in range(height) for j in range(width)]
    columns = [(i, j) for j in range(width) for i in range(height)]
    y = torch.zeros_like(x)
    for k, order in enumerate((rows, columns, rows[::-1], columns[::-1])):
        i, j = torch.tensor(order).T
        u = x[:, i, j].T  # (L, D)
        dt, B, C = (u @ p['x_proj_weight'][k].T).split([rank, states, states], 1)
        delta = F.softplus(dt @ p['dt_projs_weight'][k].T + p['dt_projs_bias'][k])
        own = slice(k * d, (k + 1) * d)
        out = scan(u, delta, -p['A_logs'][own].exp(), B, C, p['Ds'][own])
        y = y.index_put((torch.arange(d)[:, None], i, j), out.T, accumulate=True)
    return linear(layer_norm(y, p, 'out_norm'), p['out_proj.weight'])


def vmamba(state, image):
    """Return the map of each stage for an image `(3, H, W)`, before output norms."""

    def conv(x, name):
        return F.conv2d(
            x[None], state[f'{name}.weight'], state[f'{name}.bias'], stride=2, padding=1
        )[0]

    x = F.gelu(layer_norm(conv(image, 'patch_embed.0'), state, 'patch_embed.2'))
    x = layer_norm(conv(x, 'patch_embed.5'), state, 'patch_embed.7')
    maps = []
    for i in range(4):
        j = 0
        while f'layers.{i}.blocks.{j}.norm.weight' in state:
            b = f'layers.{i}.blocks.{j}.'
            x = x + ss2d(layer_norm(x, state, b + 'norm'), state, b + 'op.')
            hidden = linear(
                layer_norm(x, state, b + 'norm2'),
                state[b + 'mlp.fc1.weight'],
                state[b + 'mlp.fc1.bias'],
            )
            x = x + linear(
                F.gelu(hidden), state[b + 'mlp.fc2.weight'], state[b + 'mlp.fc2.bias']
            )
            j += 1
        maps.append(x)
        if i < 3:
            x = layer_norm(
                conv(x, f'layers.{i}.downsample.1'), state, f'layers.{i}.downsample.3'
            )
    return maps


def vmamba_logits(state, image):
    x = layer_norm(vmamba(state, image)[-1], state, 'classifier.norm')
    return F.linear(
        x.mean(dim=(1, 2)),
        state['classifier.head.weight'],
        state['classifier.head.bias'],
    )


def rms_norm(x, weight):
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def mamba(x, z, p, b):
    """Compute one direction of the mixer of Vim: `x`, `z` `(L, D)`."""
    padded = F.pad(x.T, (3, 0))  # causal
    u = F.silu(
        F.conv1d(
            padded[None],
            p[f'conv1d{b}.weight'],
            p[f'conv1d{b}.bias'],
            groups=x.shape[1],
        )[0].T
    )
    A_log = p['A_b_log' if b else 'A_log']
    states, rank = A_log.shape[1], p[f'dt_proj{b}.weight'].shape[1]
    dt, B, C = (u @ p[f'x_proj{b}.weight'].T).split([rank, states, states], 1)
    delta = F.softplus(dt @ p[f'dt_proj{b}.weight'].T + p[f'dt_proj{b}.bias'])
    return scan(u, delta, -A_log.exp(), B, C, p[f'D{b}']) * F.silu(z)


def vim(state, image):
    """Return class token `(C,)` and patches `(L, C)` after the final norm."""
    weight = state['patch_embed.proj.weight']
    patches = (
        F.conv2d(
            image[None], weight, state['patch_embed.proj.bias'], stride=weight.shape[-1]
        )[0]
        .flatten(1)
        .T
    )
    middle = len(patches) // 2
    residual = (
        torch.cat([patches[:middle], state['cls_token'][0], patches[middle:]])
        + state['pos_embed'][0]
    )
    i = 0
    while f'layers.{i}.norm.weight' in state:
        x = rms_norm(residual, state[f'layers.{i}.norm.weight'])
        prefix = f'layers.{i}.mixer.'
        p = {
            k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)
        }
        x, z = (x @ p['in_proj.weight'].T).chunk(2, dim=1)
        y = (mamba(x, z, p, '') + mamba(x.flip(0), z.flip(0), p, '_b').flip(0)) / 2
        residual = residual + y @ p['out_proj.weight'].T
        i += 1
    x = rms_norm(residual, state['norm_f.weight'])
    return x[middle], torch.cat([x[:middle], x[middle + 1 :]])


def vim_logits(state, image):
    return F.linear(vim(state, image)[0], state['head.weight'], state['head.bias'])

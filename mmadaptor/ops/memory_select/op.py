"""Adaptor-T's gather: the public function.

So far a composition: a place's four pixels are rows of a table, and a token's
memory is their weighted sum, which `torch.nn.functional.embedding_bag` computes
without writing the rows out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmadaptor.ops._checks import check_dtype, check_rank, check_shape


def _taps(locations: Tensor, height: int,
          width: int) -> tuple[Tensor, Tensor]:
    """The four pixels around each place and their bilinear weights.

    Args:
        locations: `(..., P, 2)`, (row, column) in pixels.
        height: Rows of the map.
        width: Columns of the map.

    Returns:
        Pixel indices in `[0, H W)` and weights, `(..., P, 4)` each; the weight
        of a pixel outside the map is 0, and NaN if the location is not finite.
    """
    first = locations.detach().floor()
    part = locations - first  # NaN if the location is not finite
    size = locations.new_tensor([height, width])
    # The pixels before and after, clamped so that any number is an index.
    pixels = torch.stack([first, first + 1], dim=-1)  # (..., P, 2, 2)
    inside = (pixels >= 0) & (pixels < size[:, None])
    shares = torch.stack([1 - part, part], dim=-1)
    shares = torch.where(inside | ~shares.isfinite(), shares, 0.)
    pixels = pixels.nan_to_num(0.).clamp(min=0).minimum(
        size[:, None] - 1).long()
    row, column = pixels.unbind(-2)  # (..., P, 2) each
    index = row[..., :, None] * width + column[..., None, :]
    row, column = shares.unbind(-2)
    weight = row[..., :, None] * column[..., None, :]
    return index.flatten(-2), weight.flatten(-2)


def memory_select(states: Tensor, locations: Tensor,
                  weights: Tensor) -> Tensor:
    """For each token the weighted sum of the states at a few places.

    The channels are S groups of D/S neighbours; each group has places of its
    own. A place lies between pixels and is read bilinearly; outside the map
    the states count as zero.

    Args:
        states: Maps of states, `(B, H, W, K, D, N)`, one for each of K
            directions; float32 or float64.
        locations: Places, `(B, H, W, K, S, P, 2)` as (row, column) in pixels,
            whole numbers being pixel centres; states' dtype. S divides D. A
            location that is not finite gives NaN.
        weights: Their weights, `(B, H, W, K, S, P)`, states' dtype.

    Returns:
        The sums, `(B, H, W, K, D, N)`, with gradients to all three arguments.

    Raises:
        ValueError: For a wrong shape or dtype; the message names the argument,
            what was expected and what came.

    Source:
        Mamba-Adaptor (arXiv 2505.12685), Adaptor-T; bilinear places in pixels
        are our choice.
    """
    op = 'memory_select'
    check_rank(op, 'states', states, 6,
               '(batch, height, width, directions, channels, states)')
    batch, height, width, directions, channels, _ = states.shape
    check_rank(op, 'weights', weights, 6,
               '(batch, height, width, directions, groups, places)')
    check_shape(op, 'weights', weights, (*states.shape[:4],
                                         *weights.shape[4:]),
                '(batch, height, width, directions, groups, places)')
    check_shape(op, 'locations', locations, (*weights.shape, 2),
                '(batch, height, width, directions, groups, places, 2)')
    groups = weights.shape[4]
    if channels % groups:
        raise ValueError(f'{op}: the groups of `weights` must divide the '
                         f'{channels} channels of `states`, got {groups}')
    for name, tensor in {'locations': locations, 'weights': weights}.items():
        check_dtype(op, name, tensor, states.dtype, 'the dtype of `states`')

    index, share = _taps(locations, height, width)  # (B, H, W, K, S, P, 4)
    share = share * weights[..., None]
    # Rows of the table are (b, pixel, k, s); an index so far is a pixel.
    offset = torch.arange(directions * groups, device=states.device)
    offset = offset.view(directions, groups, 1, 1)
    image = torch.arange(batch, device=states.device) * (height * width)
    index = index + image.view(-1, 1, 1, 1, 1, 1, 1)
    index = index * (directions * groups) + offset
    rows = batch * height * width * directions * groups
    table = states.reshape(rows, channels // groups * states.shape[5])
    memory = F.embedding_bag(
        index.flatten(0, 4).flatten(1), table, mode='sum',
        per_sample_weights=share.flatten(0, 4).flatten(1))
    return memory.view_as(states)

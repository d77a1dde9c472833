"""The optimizer of a recipe, and what happens to gradients before it sees them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sr_deploy.train.loop.recipe import Recipe


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimizer of ``recipe`` over all weights of ``network``; on CUDA the one that is a few kernels a step."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    fused = True if parameters[0].is_cuda else None
    if recipe.optimizer == "adam":
        betas = (recipe.momentum, 0.999)
        return torch.optim.Adam(parameters, lr=recipe.lr, betas=betas, weight_decay=recipe.weight_decay, fused=fused)
    return torch.optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=fused)


def clip_(network: nn.Module, recipe: Recipe, lr: float) -> Tensor:
    """Clip the gradients: each to +-theta/lr (VDSR, section 3.2), or their common norm to theta.

    Returns:
        Their common norm before that, a tensor () that nothing has waited for: infinite or not a number where any of them is.
    """
    parameters = [p for p in network.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if recipe.clip_mode == "value":
        nn.utils.clip_grad_value_(parameters, recipe.clip / max(lr, 1e-30))
    elif recipe.clip_mode == "norm":
        nn.utils.clip_grads_with_norm_(parameters, recipe.clip, norm)
    return norm

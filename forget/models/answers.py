"""The one module that runs a network, as far as answers need it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from forget.models.batches import Batch
from forget.models.ways import WAYS

if TYPE_CHECKING:
    from forget.models.checking import Choice

Read = Callable[[torch.Tensor], None]
"""Reader of hidden states [B, L, width]."""

MEASURING = ("ReformerModel", "AxialPositionEmbeddings")
"""Modules that, told that they are trained, refuse the lengths that they else pad themselves.

Their layers are reversible, which gives gradients only where the layers' input has one.
"""


class Answers(nn.Module):
    """The model as far as answers need it: logits where scored tokens are predicted, alone.

    The network's own forward gives them, so nothing is assumed of what it does to its logits. Only
    its head is given fewer positions, where it has one.
    """

    def __init__(self, network: PreTrainedModel) -> None:
        super().__init__()
        self.network = network
        self.choice: Choice | None = None
        """Result of trying the model (forget.models.checking); None where it was not tried."""
        self.layered = False
        """True where hidden states are read as each block gets them, so that no two are kept."""
        self.unreached: list[nn.Parameter] = []
        """Weights that no text reaches, as those of a model's eyes; they are never trained."""
        self._takes = inspect.signature(network.forward).parameters

    def unfreeze(self) -> None:
        """Let every weight be trained that a text reaches."""
        self.network.requires_grad_(True)
        for weight in self.unreached:
            weight.requires_grad_(False)

    def start_training(self) -> None:
        """Put the network into training mode, for texts of every length that it reads."""
        self.network.train()
        measuring = [one for one in self.network.modules() if type(one).__name__ in MEASURING]
        for module in measuring:
            # Those inside it, which drop out, go on as they are.
            module.training = False
        if measuring:
            self.network.disable_input_require_grads()  # else its hooks would add up
            self.network.enable_input_require_grads()

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks of the network, in order, as transformers knows them."""
        modules = self.network.base_model.modules()
        return [module for module in modules if isinstance(module, GradientCheckpointingLayer)]

    def forward(self, batch: Batch, read: Read | None = None) -> torch.Tensor:
        """Return logits [S, vocabulary].

        Args:
            batch: examples.
            read: is given the hidden states of each layer in turn: the embedding, the output of
                each block, the last after the final norm.
        """
        inputs: dict[str, Any] = {
            "use_cache": False,
            "output_hidden_states": read is not None and not self.layered,
        }
        way = WAYS[batch.way]
        if way.side_by_side:
            implementation = self.network.config.get_text_config()._attn_implementation
            inputs["attention_mask"] = way.mask(batch, self.network, implementation)
            inputs["position_ids"] = batch.positions
        if "output_router_logits" in self._takes:
            # The loss of a mixture's routers is no part of an answer's, and takes no mask of ours.
            inputs["output_router_logits"] = False
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in self._takes.values()):
            inputs = {name: value for name, value in inputs.items() if name in self._takes}
        with self._tapped(read if self.layered else None), self._thinned(batch) as thinned:
            out = self.network(input_ids=batch.ids, **inputs)
        if read and self.layered:
            read(thinned["last"])
        elif read:
            for states in out.hidden_states or ():
                read(flat(states, batch))
        rows, columns = batch.predictors.unbind(1)
        logits: torch.Tensor = out.logits
        return logits[0] if thinned else logits[rows, columns]

    @contextmanager
    def _thinned(self, batch: Batch) -> Iterator[dict[str, torch.Tensor]]:
        """Have the head see the positions that predict scored tokens alone.

        Yields:
            What the head got, under "last"; empty where the network has no head that is given
            states [B, L, width].
        """
        got: dict[str, torch.Tensor] = {}
        rows, columns = batch.predictors.unbind(1)

        def thin(head: nn.Module, args: tuple[Any, ...]) -> tuple[torch.Tensor] | None:
            if len(args) != 1 or args[0].dim() != 3 or args[0].shape[:2] != batch.ids.shape:
                return None
            got["last"] = args[0]
            return (args[0][rows, columns][None],)

        head = self.network.get_output_embeddings()
        hook = head.register_forward_pre_hook(thin) if isinstance(head, nn.Module) else None
        try:
            yield got
        finally:
            if hook:
                hook.remove()

    @contextmanager
    def _tapped(self, read: Read | None) -> Iterator[None]:
        """Give `read` what each block gets while the network runs."""

        def tap(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            assert read
            read(args[0] if args else kwargs["hidden_states"])

        blocks = self.blocks if read else []
        hooks = [block.register_forward_pre_hook(tap, with_kwargs=True) for block in blocks]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def flat(states: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return hidden states as [B, L, width].

    Some networks keep several streams a token, [B, L, streams, width] or [streams, B, L, width].

    Raises:
        ValueError: the states are not a batch's by token.
    """
    if states.dim() == 4 and states.shape[:2] != batch.ids.shape:
        states = states.movedim(0, 2)
    if states.shape[:2] != batch.ids.shape:
        raise ValueError(f"hidden states of shape {list(states.shape)}")
    return states.flatten(2)

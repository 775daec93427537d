"""Checkpoints within a training, from which it goes on to the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from forget.models.devices import process
from forget.models.sharding import like, whole
from forget.results.files import read_rows, write_rows
from forget.results.rows import Row
from forget.storage.journal import share_journal
from forget.storage.store import Store


@dataclass(frozen=True)
class Checkpoints:
    """A place where training leaves its state, now and then, and finds what an earlier one left."""

    store: Store
    name: str
    """Name of the store's folder that holds the state."""
    minutes: float = 5
    """Minutes of training between two checkpoints."""
    trial: str = ""
    """Identity of the trial that trains; its journal reaches other machines before the state."""

    def save(
        self,
        step: int,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        rows: Sequence[Row],
        state: Mapping[str, torch.Tensor],
    ) -> None:
        """Write the state; where the network is sharded, all processes call it together.

        Args:
            step: steps done.
            network: what is trained.
            optimizer: whose moments are kept.
            rows: Rows watched so far.
            state: whatever else goes on from step to step, such as a method's own variables.
        """
        weights = {name: whole(p.detach()).contiguous() for name, p in trained(network).items()}
        moments: dict[str, torch.Tensor] = {}
        for index, values in optimizer.state_dict()["state"].items():
            moments |= {f"{index}.{name}": whole(value) for name, value in values.items()}
        if not process().is_main_process:
            return
        if self.trial:
            share_journal(self.store, self.trial, step)
        with self.store.replace(self.name) as draft:
            save_file(weights, draft / "weights.safetensors")
            save_file(moments, draft / "optimizer.safetensors", metadata={"step": str(step)})
            if state:
                save_file(dict(state), draft / "state.safetensors")
            write_rows(rows, draft / "watched.parquet")

    def load(
        self, network: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[int, list[Row], dict[str, torch.Tensor]]:
        """Put the weights and moments of an earlier training in place, if there was one.

        Returns:
            The steps that it had done, the Rows watched in them, and the rest of its state.
        """
        folder = self.store.fetch_folder(self.name)
        if folder is None:
            return 0, [], {}
        weights = load_file(folder / "weights.safetensors")
        parameters = trained(network)
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(like(weights[name], p))
        order = list(parameters.values())
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in load_file(folder / "optimizer.safetensors").items():
            index, _, name = key.partition(".")
            p = order[int(index)]
            moments.setdefault(int(index), {})[name] = (
                like(value, p) if value.shape == p.shape else value
            )
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        rest = folder / "state.safetensors"
        return (
            int(next(iter(moments.values()))["step"].item()),
            read_rows(folder / "watched.parquet"),
            load_file(rest) if rest.exists() else {},
        )


def trained(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}

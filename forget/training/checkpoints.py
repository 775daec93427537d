"""Checkpoints within a training: its state, from which it goes on to the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import nn

from forget.models.sharding import like, whole
from forget.results.files import read_rows, write_rows
from forget.results.rows import Row
from forget.storage.store import Store


@dataclass(frozen=True)
class Checkpoints:
    """Where training leaves its state, and how often. Training that finds a state there goes on from it."""

    store: Store
    name: str
    """Of the store's folder that holds the state."""
    minutes: float = 5

    def save(
        self, step: int, network: nn.Module, optimizer: torch.optim.Optimizer, rows: Sequence[Row]
    ) -> None:
        """The main process writes; where the network is sharded, all call it together. `rows` were watched so far."""
        weights = {name: whole(p.detach()).contiguous() for name, p in _trained(network).items()}
        state = optimizer.state_dict()["state"]
        moments = {
            f"{index}.{name}": whole(value)
            for index, values in state.items()
            for name, value in values.items()
        }
        if not PartialState().is_main_process:
            return
        with self.store.replace(self.name) as draft:
            save_file(weights, draft / "weights.safetensors")
            save_file(moments, draft / "optimizer.safetensors", metadata={"step": str(step)})
            write_rows(rows, draft / "watched.parquet")

    def load(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, list[Row]]:
        """Steps already done and what was watched in them; the weights and moments after them are put in place."""
        folder = self.store.fetch_folder(self.name)
        if folder is None:
            return 0, []
        weights = load_file(folder / "weights.safetensors")
        trained = _trained(network)
        with torch.no_grad():
            for name, p in trained.items():
                p.copy_(like(weights[name], p))
        order = list(trained.values())
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in load_file(folder / "optimizer.safetensors").items():
            index, _, name = key.partition(".")
            p = order[int(index)]
            state.setdefault(int(index), {})[name] = (
                like(value, p) if value.shape == p.shape else value
            )
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return int(next(iter(state.values()))["step"].item()), read_rows(folder / "watched.parquet")


def _trained(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in network.named_parameters() if p.requires_grad}

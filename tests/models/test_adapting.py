"""Adapters go to the layers of a network that are linear and nothing else."""

import pytest
import torch
from configurations import configuration, made
from peft import LoraConfig, get_peft_model
from torch import nn

from forget.errors import BadInput
from forget.models import language_model
from forget.models.adapting import adaptable


def test_of_a_llama_they_are_what_peft_takes_for_all_linear_layers() -> None:
    network = language_model.tiny().network
    found = set(adaptable(network))
    adapted = get_peft_model(
        network, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    assert found == set(adapted.base_model.targeted_module_names)


@pytest.mark.parametrize("kind", ["phimoe", "deepseek_v4", "falcon", "mamba"])
def test_routers_grouped_layers_and_mixers_are_left_alone(kind: str) -> None:
    network = made(configuration(kind))
    names = adaptable(network)
    assert names
    modules = dict(network.named_modules())
    for name in names:
        layer = modules[name]
        given = layer(torch.ones(1, 1, layer.weight.shape[1]))
        assert given.shape == (1, 1, layer.weight.shape[0])
    adapted = get_peft_model(network, LoraConfig(r=2, target_modules=names, task_type="CAUSAL_LM"))
    assert adapted.base_model.targeted_module_names


def test_a_network_without_any_is_refused_with_what_it_has() -> None:
    network = language_model.tiny().network
    for module in network.modules():
        if type(module) is nn.Linear and module is not network.get_output_embeddings():
            module.weight.requires_grad_(False)
    with pytest.raises(
        BadInput, match=r'"lora" finds no linear layer in a llama, .*tuning = "full"'
    ):
        adaptable(network)

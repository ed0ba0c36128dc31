"""A model and its optimizer shared among processes (FSDP2, torch's `fully_shard`), and both made whole again.

What is written is whole: a checkpoint of many processes is one of a single process, and the other way round. Weights
are gathered in float32, a layer at a time, so that a `BitLinear` rounds just what it rounds on one device; accelerate
would round them to bfloat16 first, and leaves processes on CPUs unsharded.
"""

import copy
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

State = dict[str, Any]


def shard(model: PreTrainedModel, device: torch.device) -> None:
    """Leave to each process its share of every tensor of the model, in place; call it in all processes."""
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for layer in model.get_decoder().layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def skeleton(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of the model without the numbers of its parameters."""
    empty = {
        id(parameter): torch.nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, empty)


def whole_weights(model: PreTrainedModel, keep: bool) -> dict[str, torch.Tensor]:
    """Gather the model's weights on the CPU; call it in all processes. Those that don't `keep` them get none.

    A tensor that is in two places comes once.
    """
    once = {name for name, _ in model.named_parameters()}
    twice = {name for name, _ in model.named_parameters(remove_duplicate=False)} - once
    names = [(name, tensor) for name, tensor in model.state_dict().items() if name not in twice]
    gathered = ((name, _whole(tensor)) for name, tensor in names)
    return {name: tensor.cpu() for name, tensor in gathered if keep}


def whole_optimizer(optimizer: torch.optim.Optimizer, keep: bool) -> State:
    """Gather what an optimizer's `state_dict` is in a single process; call it in all. Those that don't `keep` get none.

    A tensor is gathered and brought to the CPU before the next one is.
    """
    state = optimizer.state_dict()
    gathered: State = {}
    for number, values in state["state"].items():
        whole = {name: _whole(value) for name, value in values.items()}
        if keep:
            gathered[number] = {
                name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in whole.items()
            }
    return {**state, "state": gathered}


def load_shares(optimizer: torch.optim.Optimizer) -> None:
    """Have the optimizer of a sharded model take its share when it is given the state of a whole one."""
    optimizer.register_load_state_dict_pre_hook(_shares)


def _shares(optimizer: torch.optim.Optimizer, state: State) -> State:
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    found = {
        number: {name: _share(value, parameter) for name, value in state["state"][number].items()}
        for number, parameter in zip(numbers, parameters, strict=True)
        if number in state["state"]
    }
    return {**state, "state": found}


def _share(value: Any, parameter: torch.Tensor) -> Any:
    """Return this process's share of a tensor that has the shape of its parameter, and other values as they are."""
    if not isinstance(parameter, DTensor) or isinstance(value, DTensor) or not isinstance(value, torch.Tensor):
        return value
    if value.shape != parameter.shape:
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


def _whole(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value

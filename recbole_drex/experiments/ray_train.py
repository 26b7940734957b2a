"""Training by the workers of Ray Train, on one or several machines."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, cast

from recbole_drex.errors import ConfigError, DrexError, ProcessError
from recbole_drex.parallel.ray_cluster import connected
from recbole_drex.registry import register_model, registered_models

_FOLDERS = {"data_path": "atomic_data", "output": "results"}
_PATIENCE = 24 * 3600  # seconds that workers wait for the first one, while it explains


def train_on_ray(
    *, workers: int, use_gpu: bool = False, address: str | None = None, **arguments: Any
) -> list[dict[str, Any]]:
    """:func:`recbole_drex.experiments.quick_start.run` by several processes that Ray schedules.

    Every machine must see ``data_path`` and ``output`` under the same path; the first worker writes.

    Args:
        workers: number of processes.
        use_gpu: each process uses one GPU; otherwise one CPU.
        address: as for :func:`recbole_drex.parallel.ray_cluster.connected`; default: the Ray cluster that this process
            is connected to, or a new one on this machine.
        arguments: of :func:`recbole_drex.experiments.quick_start.run`.

    Returns:
        What :func:`recbole_drex.experiments.quick_start.run` returns.

    Raises:
        DrexError: an invalid input, no Ray at the address, or Ray is not installed or too old.
    """
    if workers < 1:
        raise ConfigError(f"workers must be 1 or more, not {workers}")
    try:
        import ray
        from ray.train import Result, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise ProcessError('training on Ray needs it: pip install "ray[train]"') from error
    if not hasattr(Result, "return_value"):
        raise ProcessError(f"training on Ray needs a newer one than {ray.__version__}; 2.60 does")
    paths = {name: _absolute(arguments[name]) for name in ("raw", "meta", "config_files") if arguments.get(name)}
    paths |= {name: _absolute(arguments.get(name, default)) for name, default in _FOLDERS.items()}
    storage = Path(paths["output"]) / ".ray"
    trainer: Any = TorchTrainer(
        cast("Any", _work),
        train_loop_config={"arguments": {**arguments, **paths}, "use_gpu": use_gpu, "registered": registered_models()},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if use_gpu else "gloo", timeout_s=_PATIENCE),
        run_config=RunConfig(storage_path=str(storage)),
    )
    try:
        with connected(address):
            return trainer.fit().return_value
    except Exception as error:
        for cause in getattr(error, "worker_failures", {}).values():
            if isinstance(cause, DrexError):
                raise cause from None
        raise
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def _absolute(paths: Any) -> Any:
    """Absolute paths, since workers have other working directories."""
    if isinstance(paths, (str, Path)):
        return str(Path(paths).absolute())
    return [_absolute(path) for path in paths]


def _work(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The training loop of a worker; Ray has created the process group."""
    from recbole_drex.experiments.quick_start import run

    for model in config["registered"]:
        register_model(model)
    arguments = config["arguments"]
    if config["use_gpu"]:
        parameters = {**(arguments.get("parameters") or {}), "gpu_id": os.environ["CUDA_VISIBLE_DEVICES"]}
        arguments = {**arguments, "parameters": parameters}
    return run(**arguments)

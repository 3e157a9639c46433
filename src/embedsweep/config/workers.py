"""Who runs the trials of a study, as frozen types: the ``workers`` section of each option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from embedsweep.config.training import Switch
from embedsweep.config.trial import WorkersName
from embedsweep.config.types import Count, Described, HasVariants, NotNegative, Positive, WholeNumber


@dataclass(frozen=True)
class WorkersConfig(HasVariants):
    """Who runs trials: what all options have.

    Attributes:
        name: ``inline`` is this process; ``local`` starts processes on this machine, ``ray`` on the nodes of a Ray
            cluster; ``slurm`` submits jobs that each run the command on a node.
        count: how many processes (or groups of them), or jobs; None is as many as there is room for.
        per_device: how many share a GPU; ``auto`` is what a probe finds to be fastest.
        processes_per_trial: how many train one trial together.
        max_restarts: how often a worker that died is restarted before it gets any trial further.
        silence: seconds without a sign of progress after which a worker is killed; None waits for ever.
        mps: whether workers share GPUs through CUDA's Multi-Process Service; ``auto`` where several share one and it
            can be had.
    """

    name: WorkersName
    count: Count | None
    per_device: Count | Literal["auto"]
    processes_per_trial: Count
    max_restarts: WholeNumber
    silence: Positive | None
    mps: Switch

    @classmethod
    def variant(cls, name: object) -> type[WorkersConfig]:
        """Return the class of an option's keys; of an unknown option, what all have."""
        return {"ray": RayWorkersConfig, "slurm": SlurmWorkersConfig}.get(str(name), WorkersConfig)


@dataclass(frozen=True)
class RayWorkersConfig(WorkersConfig):
    """Worker processes on the nodes of a Ray cluster.

    Attributes:
        address: ``auto`` is the cluster that this machine is a node of, ``none`` one that lives as long as the
            command, else HOST:PORT of a cluster's head.
        gpus: GPUs reserved for each worker; a fraction below 1 lets several share one. None is one for each process
            of a trial where the cluster has any, else 0.
        cpus: CPUs reserved for each worker.
    """

    address: str
    gpus: NotNegative | None
    cpus: Positive


@dataclass(frozen=True)
class SlurmConfig:
    """What each job of the array asks Slurm for; None leaves it to the cluster's defaults.

    Attributes:
        partition: the partition.
        time: the time limit, as Slurm writes it (``4:00:00``); a job that reaches it is requeued.
        gpus_per_node: GPUs of each job.
        cpus_per_task: CPUs of each job.
        mem: memory of each job, as Slurm writes it (``16G``).
        account: the account that is charged.
        qos: the quality of service.
        array_parallelism: how many jobs of the array run at the same time.
        setup: lines of shell that each job runs first (``module load cuda``).
        script: a batch script of the user's in place of the built-in one.
    """

    partition: str | None
    time: Annotated[str, Described("a text as 4:00:00 or 00:30:00, in quotes in a file")] | None
    gpus_per_node: Count | None
    cpus_per_task: Count | None
    mem: Annotated[str, Described("a text as 16G or 500M")] | None
    account: str | None
    qos: str | None
    array_parallelism: Count | None
    setup: tuple[str, ...]
    script: str | None


@dataclass(frozen=True)
class SlurmWorkersConfig(WorkersConfig):
    """An array of Slurm jobs, each of which runs the same command.

    Attributes:
        slurm: what each job asks for.
    """

    slurm: SlurmConfig

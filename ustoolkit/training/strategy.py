"""Where training runs: one device, all visible GPUs, or several machines, always under a `tf.distribute` strategy."""

import os
from collections.abc import Mapping

import tensorflow as tf

from ustoolkit.errors import RecipeError
from ustoolkit.training.cluster import Cluster, find_cluster


def make_strategy(name: str, cluster: Cluster | None = None) -> tf.distribute.Strategy:
    """The strategy that a setting asks for.

    One on several machines has to be the first that TensorFlow is asked for in a process; it waits for the others.

    Args:
        name: 'auto' takes the workers of `cluster` where there are several, else every visible GPU, else the CPU;
            'one' a single device; 'mirrored' every visible GPU, or every logical CPU where there is no GPU;
            'multi-worker' all devices of all workers, which step together; 'parameter-server' workers that each step
            on their own, with weights on tasks that hold nothing else.
        cluster: as `wanted_cluster` gives it.
    Returns:
        a strategy to build the model and run the steps under.
    Raises:
        RecipeError: the cluster does not suit the strategy.
    """
    if cluster is not None:
        return _on_several(cluster)
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.OneDeviceStrategy(devices[0].name)


def wanted_cluster(name: str, environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The cluster that a process is to train in under a strategy.

    Args:
        name: of the strategy, as for `make_strategy`.
        environment: variables that say which processes there are.
    Returns:
        the cluster; None for training in this process alone.
    Raises:
        RecipeError: the variables are wrong, or tell of no cluster that suits the strategy.
    """
    if name in ("one", "mirrored"):
        return None
    cluster = find_cluster(environment)
    if name == "auto":
        return cluster if cluster is not None and cluster.workers > 1 and not cluster.has_parameter_servers else None
    if cluster is None:
        raise RecipeError(
            f"training.strategy={name}: expected TF_CONFIG, or SLURM's variables of several tasks, found neither. "
            "Start every process with them (see docs/scaling.md), or train with --strategy auto."
        )
    if name == "multi-worker" and cluster.has_parameter_servers:
        raise RecipeError(
            "training.strategy=multi-worker: expected workers alone, found tasks of 'ps' in TF_CONFIG. Leave them out, "
            "or train with --strategy parameter-server."
        )
    lacking = [task for task in ("chief", "worker", "ps") if not cluster.addresses.get(task)]
    if name == "parameter-server" and lacking:
        raise RecipeError(
            f"training.strategy=parameter-server: expected tasks of chief, worker and ps, found none of "
            f"'{lacking[0]}'. List their addresses in TF_CONFIG."
        )
    return cluster


def serves_only(cluster: Cluster | None) -> bool:
    """Whether this process is a worker or a parameter server that does what the chief says, and nothing else."""
    return cluster is not None and cluster.has_parameter_servers and cluster.task_type != "chief"


def serve(cluster: Cluster, branches: int = 1) -> None:
    """Does what the chief of parameter servers says, until the process is ended.

    Args:
        cluster: with this process in it, for which `serves_only` holds.
        branches: of a step; more than one get a core each.
    """
    # Steps wait for each other's variables; on a machine of few cores TensorFlow would have no thread left for these.
    settings = tf.compat.v1.ConfigProto(
        inter_op_parallelism_threads=_threads(cluster), intra_op_parallelism_threads=1 if branches > 1 else 0
    )
    server = tf.distribute.Server(
        tf.train.ClusterSpec({name: list(listed) for name, listed in cluster.addresses.items()}),
        job_name=cluster.task_type,
        task_index=cluster.task_index,
        protocol="grpc",
        config=settings,
        start=True,
    )
    server.join()


def _on_several(cluster: Cluster) -> tf.distribute.Strategy:
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({name: list(listed) for name, listed in cluster.addresses.items()}),
        task_type=cluster.task_type,
        task_id=cluster.task_index,
        rpc_layer="grpc",
    )
    try:
        if not cluster.has_parameter_servers:
            return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
        tf.config.threading.set_inter_op_parallelism_threads(_threads(cluster))
        return tf.distribute.ParameterServerStrategy(resolver)
    except (RuntimeError, tf.errors.OpError) as problem:
        address = cluster.addresses[cluster.task_type][cluster.task_index]
        raise RecipeError(
            f"TF_CONFIG: {cluster.task_type} {cluster.task_index} cannot join the others as {address}: "
            f"{str(problem)[:200]}. Check that its port is free and that the others can reach it."
        ) from None


def _threads(cluster: Cluster) -> int:
    return max(os.cpu_count() or 1, 2 * sum(map(len, cluster.addresses.values())))

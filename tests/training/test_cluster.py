"""Which processes train together: as TF_CONFIG and SLURM say it, and what is wrong with them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver

from ustoolkit.errors import RecipeError
from ustoolkit.training.cluster import Cluster, expand_nodes, expand_tasks, find_cluster
from ustoolkit.training.strategy import serves_only, wanted_cluster

WORKERS = {"worker": ["a:1", "b:1", "c:1"]}
SERVED = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1"]}
SLURM = {
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_NODELIST": "n[9-10],login",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_PROCID": "3",
    "SLURM_JOB_ID": "17",
}


def environment(cluster, task_type="worker", index=0):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": task_type, "index": index}})}


def test_a_process_of_its_own_has_no_cluster():
    assert find_cluster({}) is None
    assert find_cluster({"TF_CONFIG": "  "}) is None
    assert find_cluster({"TF_CONFIG": "{}"}) is None
    assert find_cluster({"SLURM_STEP_NUM_TASKS": "1", "SLURM_JOB_ID": "17"}) is None


def test_workers_are_numbered_as_they_stand():
    found = find_cluster(environment(WORKERS, index=2))
    assert found == Cluster({"worker": ("a:1", "b:1", "c:1")}, "worker", 2)
    assert (found.workers, found.worker, found.has_parameter_servers) == (3, 2, False)


def test_the_chief_is_the_first_worker():
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    numbers = [
        find_cluster(environment(cluster, *task)).worker for task in (("chief", 0), ("worker", 0), ("worker", 1))
    ]
    assert numbers == [0, 1, 2] and find_cluster(environment(cluster)).workers == 3


def test_an_index_may_be_text_as_shells_write_it():
    assert find_cluster(environment(WORKERS, index="1")).worker == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{'cluster': {}}", "JSON"),
        ("[1]", "object"),
        ('{"cluster": [1]}', "object"),
        (environment({"worker": ["a:1"], "master": ["b:1"]})["TF_CONFIG"], "master"),
        (environment({"worker": "a:1"})["TF_CONFIG"], "list of addresses"),
        (environment({"worker": ["a"]})["TF_CONFIG"], "host:port"),
        (environment({"worker": ["a:1", "a:1"]})["TF_CONFIG"], "own port"),
        (environment({"chief": ["a:1", "b:1"]}, "chief")["TF_CONFIG"], "one chief"),
        (environment({"ps": ["a:1"]}, "ps")["TF_CONFIG"], "chief or workers"),
        (json.dumps({"cluster": WORKERS}), "'task'"),
        (environment(WORKERS, "chief")["TF_CONFIG"], "task type of worker, found 'chief'"),
        (environment(WORKERS, index=3)["TF_CONFIG"], "0 to 2 of 'worker', found 3"),
        (environment(WORKERS, index=-1)["TF_CONFIG"], "found -1"),
        (environment(WORKERS, index="x")["TF_CONFIG"], "found 'x'"),
        (environment(WORKERS, index=True)["TF_CONFIG"], "found True"),
    ],
)
def test_what_is_wrong_with_tf_config_is_said(text, said):
    with pytest.raises(RecipeError, match=r"TF_CONFIG: expected") as raised:
        find_cluster({"TF_CONFIG": text})
    assert said in str(raised.value)


@given(st.text(max_size=40))
def test_no_text_of_tf_config_escapes_as_another_error(text):
    try:
        assert find_cluster({"TF_CONFIG": text}) is None
    except RecipeError as problem:
        assert str(problem).startswith("TF_CONFIG: expected")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["worker", "chief", "ps", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_TASKS = st.fixed_dictionaries({}, optional={"type": _JSON | st.just("worker"), "index": _JSON})


@given(st.fixed_dictionaries({}, optional={"cluster": _JSON, "task": _JSON | _TASKS, "environment": _JSON}))
def test_no_value_of_tf_config_escapes_as_another_error(value):
    try:
        find_cluster({"TF_CONFIG": json.dumps(value)})
    except RecipeError as problem:
        assert str(problem).startswith("TF_CONFIG: expected")


def test_slurms_tasks_are_workers_in_the_order_of_their_ranks():
    found = find_cluster(SLURM)
    hosts = [address.partition(":")[0] for address in found.addresses["worker"]]
    assert hosts == ["n9", "n9", "n10", "n10", "login"]  # rank 3 runs on n10, which sorts before n9
    assert (found.worker, found.workers) == (3, 5) and len(set(found.addresses["worker"])) == 5


def test_two_jobs_on_a_node_have_ports_of_their_own():
    here, there = (find_cluster({**SLURM, "SLURM_JOB_ID": job}).addresses["worker"] for job in ("17", "18"))
    assert not set(here) & set(there)


@pytest.mark.parametrize(
    "changes",
    [
        {"SLURM_STEP_NODELIST": "n[9-"},
        {"SLURM_STEP_NODELIST": "n9"},
        {"SLURM_STEP_TASKS_PER_NODE": "2(x2)"},
        {"SLURM_STEP_TASKS_PER_NODE": "two"},
        {"SLURM_PROCID": "5"},
        {"SLURM_STEP_NUM_TASKS": "4"},
    ],
)
def test_what_slurm_cannot_mean_is_said(changes):
    with pytest.raises(RecipeError, match=r"SLURM: expected .* Set TF_CONFIG"):
        find_cluster({**SLURM, **changes})


def test_a_missing_variable_of_slurm_is_named():
    with pytest.raises(RecipeError, match="SLURM_PROCID"):
        find_cluster({name: value for name, value in SLURM.items() if name != "SLURM_PROCID"})


@pytest.mark.parametrize("nodes", ["a", "a,b", "n[1-3]", "n[08-11],m[1,3-4],x9", "gpu-1,gpu-[2-3]"])
def test_nodes_are_those_that_tensorflow_reads(nodes):
    assert expand_nodes(nodes) == slurm_cluster_resolver.expand_hostlist(nodes)


def test_nodes_may_have_ranges_anywhere():
    assert expand_nodes("r[1-2]n[1-2]-ib") == ["r1n1-ib", "r1n2-ib", "r2n1-ib", "r2n2-ib"]


@pytest.mark.parametrize("tasks", ["1", "2,3", "2(x3),1", "1(x1)"])
def test_tasks_are_those_that_tensorflow_reads(tasks):
    assert expand_tasks(tasks) == slurm_cluster_resolver.expand_tasks_per_node(tasks)


# --- which strategy takes them ---


def test_auto_takes_several_workers_and_nothing_else():
    assert wanted_cluster("auto", environment(WORKERS, index=1)).worker == 1
    assert wanted_cluster("auto", SLURM).worker == 3
    assert wanted_cluster("auto", environment({"worker": ["a:1"]})) is None
    assert wanted_cluster("auto", environment(SERVED, "ps")) is None
    assert wanted_cluster("auto", {}) is None


@pytest.mark.parametrize("name", ["one", "mirrored"])
def test_strategies_of_one_process_do_not_look(name):
    assert wanted_cluster(name, {"TF_CONFIG": "no JSON"}) is None


@pytest.mark.parametrize(
    ("name", "variables", "said"),
    [
        ("multi-worker", {}, "found neither"),
        ("multi-worker", environment(SERVED), "tasks of 'ps'"),
        ("parameter-server", {}, "found neither"),
        ("parameter-server", environment(WORKERS), "none of 'chief'"),
        ("parameter-server", environment({"chief": ["a:1"], "worker": ["b:1"]}), "none of 'ps'"),
    ],
)
def test_a_cluster_that_does_not_suit_the_strategy_is_refused(name, variables, said):
    with pytest.raises(RecipeError, match=f"training.strategy={name}: .*{said}"):
        wanted_cluster(name, variables)


def test_workers_of_parameter_servers_only_serve():
    tasks = [("chief", 0), ("worker", 1), ("ps", 0)]
    found = [serves_only(wanted_cluster("parameter-server", environment(SERVED, *task))) for task in tasks]
    assert found == [False, True, True]
    assert not serves_only(find_cluster(environment(WORKERS, index=1))) and not serves_only(None)

"""A Ray cluster of two nodes on this machine; `python -m tests.ray_cluster` holds it up.

It writes its address, and a line when it has done what a line of stdin says: `kill a replica` or
`kill a node`. The end of stdin ends it.
"""

import sys

import ray
from ray.cluster_utils import Cluster
from ray.util import list_named_actors

NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
"""Room for one replica of one processor."""


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        other = cluster.add_node(**NODE)
        ray.init(cluster.address, log_to_driver=False)
        _say(cluster.address)
        for line in sys.stdin:
            if line == "kill a replica\n":
                actors = [actor["name"] for actor in list_named_actors(all_namespaces=True)]
                name = next(name for name in actors if name.startswith("SERVE_REPLICA::"))
                ray.kill(ray.get_actor(name, namespace="serve"))
            else:
                assert line == "kill a node\n", line
                cluster.remove_node(other, allow_graceful=False)
            _say("done")
    finally:
        ray.shutdown()
        cluster.shutdown()


def _say(line: str) -> None:
    print(line, file=sys.stdout, flush=True)


if __name__ == "__main__":
    main()

"""A cluster of Ray on this machine, of two nodes: a process that tests talk to.

It prints where jobs go (that wants `ray[default]`) and its address, then answers each
line of its standard input: `lose` kills the second node, `end` (or the end of the
input) ends all. So Ray and its warnings stay out of the process of the tests.
"""

import importlib.util
import sys

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
# A node that refuses to answer five times is lost; one that is slow may be slow.
ASKING = {"health_check_period_ms": 500}


def main():
    cluster = Cluster()
    try:
        jobs = importlib.util.find_spec("aiohttp_cors") is not None
        # It says that it has a GPU; JAX finds none.
        head = cluster.add_node(
            **NODE, include_dashboard=jobs, num_gpus=1, _system_config=ASKING
        )
        second = cluster.add_node(**NODE)
        print("jobs", head.webui_url if jobs else "")
        print("address", cluster.address, flush=True)
        for line in sys.stdin:
            if line.strip() == "lose":
                cluster.remove_node(second, allow_graceful=False)
            else:
                break
            print("done", line.strip(), flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()

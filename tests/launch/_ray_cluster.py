"""A cluster of Ray on this machine, of two nodes: a process that tests talk to.

It prints its address, then answers each line of its standard input: `lose` kills the
second node, `gain` adds one, `end` (or the end of the input) ends all. So Ray and its
warnings stay out of the process of the tests.
"""

import sys

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def main():
    cluster = Cluster()
    try:
        cluster.add_node(**NODE, include_dashboard=False)
        second = cluster.add_node(**NODE)
        print("address", cluster.address, flush=True)
        for line in sys.stdin:
            if line.strip() == "lose":
                cluster.remove_node(second, allow_graceful=False)
            elif line.strip() == "gain":
                second = cluster.add_node(**NODE)
            else:
                break
            print("done", line.strip(), flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()

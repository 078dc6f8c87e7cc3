"""Times remote functions of Ray. Reads lines `one N` or `hundred N`, and answers each with `median MILLISECONDS`."""
import statistics
import sys
import time

import ray

ray.init(include_dashboard=False, logging_level="error", log_to_driver=False, _node_ip_address="127.0.0.1")


@ray.remote
def nothing():
    pass


def one():
    ray.get(nothing.remote())


def hundred():
    ray.get([nothing.remote() for _ in range(100)])


# Its workers start with their first work.
for _ in range(3):
    hundred()
print("version", ray.__version__, flush=True)
for line in sys.stdin:
    what, count = line.split()
    call = {"one": one, "hundred": hundred}[what]
    times = []
    for _ in range(int(count)):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    print("median", statistics.median(times) * 1e3, flush=True)
ray.shutdown()

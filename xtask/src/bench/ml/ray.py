"""k-means with Ray and numpy: ray.py POINTS CENTRES ITERATIONS. Answers each line with `trained SECONDS COST`."""
import sys
import time

import numpy as np
import ray

COLUMNS, WORKERS, BLOCK = 100, 2, 4096
points, centres, iterations = sys.argv[1], sys.argv[2], int(sys.argv[3])


@ray.remote(num_cpus=0)
class Centres:
    """The workers add what they found; the last of an iteration moves the centres."""

    def __init__(self, centres):
        self.centres, self.parts = centres, []

    def get(self):
        return self.centres

    def add(self, sums, counts):
        self.parts.append((sums, counts))
        if len(self.parts) == WORKERS:
            sums, counts = (sum(part) for part in zip(*self.parts))
            counts = counts[:, None]
            self.centres = np.where(counts > 0, sums / np.maximum(counts, 1), self.centres)
            self.parts = []


@ray.remote(num_cpus=1)
class Worker:
    def __init__(self, worker):
        rows = np.memmap(points, "<f8", "r").reshape(-1, COLUMNS)
        self.rows = np.array(rows[len(rows) * worker // WORKERS:len(rows) * (worker + 1) // WORKERS])

    def blocks(self):
        return (self.rows[start:start + BLOCK] for start in range(0, len(self.rows), BLOCK))

    def ready(self):
        return len(self.rows)

    def step(self, shared):
        centres = ray.get(shared.get.remote())
        sums, counts = np.zeros(centres.shape), np.zeros(len(centres))
        squares = (centres * centres).sum(1)
        for block in self.blocks():
            nearest = (squares - 2 * (block @ centres.T)).argmin(1)
            chosen = np.zeros((len(block), len(centres)))
            chosen[np.arange(len(block)), nearest] = 1
            sums += chosen.T @ block
            counts += chosen.sum(0)
        ray.get(shared.add.remote(sums, counts))

    def cost(self, centres):
        squares = (centres * centres).sum(1)
        return sum(((block * block).sum(1) + (squares - 2 * (block @ centres.T)).min(1)).sum()
                   for block in self.blocks())


ray.init(num_cpus=WORKERS, include_dashboard=False, object_store_memory=1 << 30, logging_level="error",
         log_to_driver=False, _node_ip_address="127.0.0.1")
start_centres = np.fromfile(centres, "<f8").reshape(-1, COLUMNS)
workers = [Worker.remote(worker) for worker in range(WORKERS)]
ray.get([worker.ready.remote() for worker in workers])


def train():
    shared = Centres.remote(start_centres)
    ray.get(shared.get.remote())
    start = time.perf_counter()
    for _ in range(iterations):
        ray.get([worker.step.remote(shared) for worker in workers])
    seconds = time.perf_counter() - start
    final = ray.get(shared.get.remote())
    ray.kill(shared)
    return seconds, sum(ray.get([worker.cost.remote(final) for worker in workers]))


train()
print("version", ray.__version__, flush=True)
for _ in sys.stdin:
    print("trained", *train(), flush=True)
ray.shutdown()

"""Makes the data of the benchmark: data.py ROWS FOLDER. The same bytes whenever it runs.

Numbers are little-endian doubles, row after row:
  kmeans-ROWS.f64    points of 100 coordinates, around 25 centres that are uniform in [-3, 3]
  centres-ROWS.f64   25 of these points: the centres to start with
  logistic-ROWS.f64  a label, 0 or 1, and 100 features
"""
import os
import sys

import numpy as np

COLUMNS, CENTRES, BLOCK = 100, 25, 50_000
rows, folder = int(sys.argv[1]), sys.argv[2]
os.makedirs(folder, exist_ok=True)


def blocks():
    return [(start, min(BLOCK, rows - start)) for start in range(0, rows, BLOCK)]


random = np.random.Generator(np.random.PCG64(42))
centres = random.uniform(-3, 3, (CENTRES, COLUMNS))
picked = np.sort(random.choice(rows, CENTRES, replace=False))
first = []
with open(f"{folder}/kmeans-{rows}.f64", "wb") as file:
    for start, count in blocks():
        points = centres[random.integers(0, CENTRES, count)] + random.standard_normal((count, COLUMNS))
        first += [points[i - start] for i in picked if start <= i < start + count]
        file.write(points.astype("<f8").tobytes())
np.array(first).astype("<f8").tofile(f"{folder}/centres-{rows}.f64")

random = np.random.Generator(np.random.PCG64(43))
weights = random.standard_normal(COLUMNS) / 4
with open(f"{folder}/logistic-{rows}.f64", "wb") as file:
    for start, count in blocks():
        features = random.standard_normal((count, COLUMNS))
        labels = random.random(count) < 1 / (1 + np.exp(-(features @ weights)))
        file.write(np.hstack([labels[:, None], features]).astype("<f8").tobytes())

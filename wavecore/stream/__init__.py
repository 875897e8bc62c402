"""Titan-Stream: forecasting row by row, with a memory that learns while it forecasts.

- `settings`: one object names a run, offline and online.
- `memory`: the memory's state and its two pure functions, update and retrieval.
- `pooling`: from tokens to one vector, and from that to the horizon.
- `forecaster`: the module.
- `objective`: its three losses.
- `delay`, `session`: rows come in one by one, labels only once their horizon has passed.
- `learners`: what forecasts and learns in a session: the module, and the baselines.
- `fourier`: a linear forecaster that is solved anew as labels come, and weighted by its recent error.
- `position`: a session on disk, to go on with later.
"""

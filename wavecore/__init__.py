"""The science: windows, wavelets, forecasters, training and judging.

Knows no Dagster, no DuckDB and no path of the project, so that it imports on a machine that has only torch,
numpy and PyWavelets.
"""

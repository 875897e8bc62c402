"""Forecasters: modules that map a `Batch` of B windows to forecasts [B, H, N]."""

"""Learning: one training loop for every forecaster, its checkpoints, manifests and forecasts."""

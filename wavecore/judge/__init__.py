"""Judging forecasts: errors per channel, step and scale, and whether two stages differ by more than chance."""

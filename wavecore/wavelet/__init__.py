"""Discrete wavelets on windows: bands of coefficients, and what they say about energy, periods and bursts."""

"""What exists: one module per step of the data's way. Each asset reads, calls wavecore, writes and reports."""

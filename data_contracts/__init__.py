"""What data must be: datasets, benchmarks and checks, as files that a user can read and write."""

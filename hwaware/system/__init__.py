"""The outside world: reading files within limits, names that become file names, the Hugging Face hub, and signals."""

"""What was measured and what it cost: typed, written to and read from CSV files, without torch."""

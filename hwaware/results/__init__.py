"""Measurements and costs: typed, written to and read from CSV files, without torch."""

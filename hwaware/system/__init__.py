"""What lies outside: files that are read within limits, names that may become files, the hub, and signals."""

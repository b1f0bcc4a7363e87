"""Tables, plots and tracked runs from measurement rows; knows nothing of networks, chips or training."""

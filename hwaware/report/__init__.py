"""Tables, plots, sentences and the page that they make, from results alone: no networks, chips, training or torch."""

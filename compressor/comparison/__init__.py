"""Methods against each other on the same teacher, data, budget and seeds, with what can honestly be said of it."""

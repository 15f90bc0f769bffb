"""Two layouts resolved against the headers of one checkpoint: pieces, coverage, cost. No byte of weight is read."""

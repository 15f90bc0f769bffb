"""What `explain` tells: terms, number formats, and the numbers of one real tensor, as data."""

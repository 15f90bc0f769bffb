"""`check --try`: a reader's own construction and loading code over a skeleton of the checkpoint, in a process of its own."""

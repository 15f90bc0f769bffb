"""Checkpoints to test with: a full-size replica of MiniMax-M2, tiny ones of the same form, and broken ones.

Nothing here is used by the tool itself, and nothing here uses the tool's encodings, layouts or plans: what the
tool reads in a test was written by other code.

    python -m weighbridge.testing.replica OUT      230 GB of MiniMax-M2 in appearance, megabytes on disk
    weighbridge.testing.tiny.write_tiny(folder)    a random checkpoint of some megabytes, with real codes and scales
    weighbridge.testing.hostile.FAULTS             the ways to break a checkpoint, one function each
"""

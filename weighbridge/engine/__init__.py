"""The forward pass of a decoder over the stored bytes of its checkpoint, on a plain CPU."""

"""Bytes at rest: headers, index, sources, the sharded writer and the manifest."""

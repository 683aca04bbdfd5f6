"""A file on disk to the network's input."""

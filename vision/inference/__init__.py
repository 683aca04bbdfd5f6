"""A trained model applied to files, folders and streams."""

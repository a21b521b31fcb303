"""The weights of a folder."""

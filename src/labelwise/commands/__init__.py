"""The commands of `labelwise`, one file each."""

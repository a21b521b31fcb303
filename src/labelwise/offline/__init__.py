"""Work on whole files, without a server."""

"""One module for each `kws` command; `kws.cli` imports the one that was chosen."""

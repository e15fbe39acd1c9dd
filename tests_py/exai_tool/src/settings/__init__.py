"""Everything that is set by the environment, read in as many ways as it was written by people."""

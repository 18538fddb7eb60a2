"""The command line: commands, configuration files, checks between the parts of a run."""

"""What both ways of making our container images share: the Containerfiles, and the lab without an engine."""

"""The command `storagepair`, for people and pipelines: `validate` checks documents without a cluster."""

"""The operator: Kopf at the rim, a snapshot store, a pure core."""

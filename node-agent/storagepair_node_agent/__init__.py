"""The node agent: observe, plan, apply, report."""

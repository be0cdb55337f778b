"""One module a subsystem of the host, all of the same shape: observe() and plan()."""

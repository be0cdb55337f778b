"""The documentation's machinery: the reference is made from the code, the commands in it are found to be run."""

"""The lab: a real Kubernetes control plane and real storage hosts on one developer machine."""

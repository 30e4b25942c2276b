"""The admission webhook that puts a sidecar into pods: its server and its certificates."""

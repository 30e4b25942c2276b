"""The edge: real sockets, real bytes."""

"""The provider's side of the wire."""

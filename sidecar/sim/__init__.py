"""A provider simulator: windows, headers, error bodies and faults of real providers."""

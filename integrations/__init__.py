"""One file an outside system: implements the ports of `graph` and translates the vendor's errors."""

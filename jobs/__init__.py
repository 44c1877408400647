"""The outermost layer: settings, wiring, queue, turn, outbox, wording; the only one that knows the other three."""

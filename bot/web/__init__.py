"""HTTP in: one ASGI app, served beside everything else by `threadwright up`."""

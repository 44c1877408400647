"""Slack: payloads to requests, replies and cards to blocks, both purely; listening and posting around them."""

"""Chat in, chat out: payloads become requests, replies become messages; it knows no graph and no git."""

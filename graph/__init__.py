"""The agent's mind: it plans, asks, implements and reviews; it knows no chat, no queue and no vendor of tools."""

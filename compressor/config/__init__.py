"""Settings of a run: what they are (`settings`), where they come from (`layers`), which recipes apply (`recipes`)."""

"""What a file holds: its bytes, its external data, and the audit against the policy, before any library loads them."""

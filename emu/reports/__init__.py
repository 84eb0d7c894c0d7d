"""What people see: the vocabulary of events, structured logs, and findings in words."""

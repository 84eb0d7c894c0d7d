"""IOMMUs: hardware only. Nothing here knows of hypervisors, domains of one, or what software promised."""

"""What the lab needs installed, how it is fetched, and what is checked before anything starts."""

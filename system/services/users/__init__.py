"""Users: sign-up, tokens, profiles, follows."""

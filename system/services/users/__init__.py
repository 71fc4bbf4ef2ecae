"""Users: sign-up, tokens, profiles, who follows whom."""

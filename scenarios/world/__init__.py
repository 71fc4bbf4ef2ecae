"""The population of a scenario: follow graph, protected users, seeded tweets and seeded likes."""

"""The population of a scenario: who follows whom, who is protected, what was tweeted and liked before."""

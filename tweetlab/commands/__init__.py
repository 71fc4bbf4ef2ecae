"""The commands, by what they do: `lab` keeps servers, `running` asks questions, `reading` reads answers."""

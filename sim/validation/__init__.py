"""How well the twin predicts runs that it has not seen."""
